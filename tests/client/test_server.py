"""The API README's sentences about ``ServerClient``, tested against pytest-httpserver."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from fake_credits.client import server
from fake_credits.client.server import AsyncServerClient, ServerClient
from fake_credits.errors import InsufficientCredits
from fake_credits.models import Balance, Reason, Transaction, User

CallClient = Callable[..., Any]

CREATED_AT = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
CREATED_AT_TEXT = "2026-01-02T03:04:05.678Z"
USER_PATH = "/v1/applications/app-id/users/user-id"
USER_JSON = {"applicationId": "app-id", "userId": "user-id", "createdAt": CREATED_AT_TEXT}
API_KEY_HEADER = {"X-API-Key": "your-api-key"}
METHODS = ("create_user", "get_user", "list_users", "get_balance", "create_transaction", "list_transactions")


def client_args(httpserver: HTTPServer) -> tuple[str, str]:
    return httpserver.url_for("/"), "your-api-key"


def test_server_client_authenticates_with_an_api_key(call_client: CallClient, httpserver: HTTPServer) -> None:
    """API README: "Requires API key authentication.\""""
    httpserver.expect_oneshot_request(USER_PATH + "/balance", headers=API_KEY_HEADER).respond_with_json({"balance": 90})
    assert call_client("server", client_args(httpserver), "get_balance", "app-id", "user-id") == Balance(90)


@pytest.mark.parametrize("status", [201, 200])
def test_create_user_creates_or_updates(call_client: CallClient, httpserver: HTTPServer, status: int) -> None:
    """API README: "createUser(applicationId, userId): Create or update a user (idempotent)\""""
    handler = httpserver.expect_oneshot_request(USER_PATH, method="PUT", headers=API_KEY_HEADER, data="")
    handler.respond_with_json(USER_JSON, status=status)
    assert call_client("server", client_args(httpserver), "create_user", "app-id", "user-id") == User(
        "app-id", "user-id", CREATED_AT
    )


def test_get_user_gets_user_information(call_client: CallClient, httpserver: HTTPServer) -> None:
    """API README: "getUser(applicationId, userId): Get user information\""""
    httpserver.expect_oneshot_request(USER_PATH, method="GET", headers=API_KEY_HEADER).respond_with_json(USER_JSON)
    assert call_client("server", client_args(httpserver), "get_user", "app-id", "user-id") == User(
        "app-id", "user-id", CREATED_AT
    )


def test_list_users_lists_all_users_in_the_application(call_client: CallClient, httpserver: HTTPServer) -> None:
    """API README: "listUsers(applicationId, cursor?): List all users in the application\""""
    path = "/v1/applications/app-id/users"
    httpserver.expect_oneshot_request(path, query_string="").respond_with_json(
        {"users": [USER_JSON], "nextCursor": "c"}
    )
    page = call_client("server", client_args(httpserver), "list_users", "app-id")
    assert ([user.user_id for user in page.users], page.next_cursor) == (["user-id"], "c")
    httpserver.expect_oneshot_request(path, query_string="cursor=c").respond_with_json({"users": []})
    assert call_client("server", client_args(httpserver), "list_users", "app-id", "c").next_cursor is None


def test_get_balance_gets_the_credit_balance(call_client: CallClient, httpserver: HTTPServer) -> None:
    """API README: "getBalance(applicationId, userId): Get user's credit balance"; the body is ``{balance: number}``."""
    httpserver.expect_oneshot_request(USER_PATH + "/balance", method="GET").respond_with_json({"balance": -5})
    assert call_client("server", client_args(httpserver), "get_balance", "app-id", "user-id").balance == -5


@pytest.mark.parametrize(("delta", "reason"), [(100, "grant"), (-10, "consume"), (10, "refund")])
def test_create_transaction_grants_consumes_and_refunds(
    call_client: CallClient, httpserver: HTTPServer, delta: int, reason: str
) -> None:
    """API README: "Create a credit transaction (grant/consume/refund)", with the bodies from its examples."""
    body = {"delta": delta, "reason": reason}
    handler = httpserver.expect_oneshot_request(
        USER_PATH + "/transactions", method="POST", headers=API_KEY_HEADER, json=body
    )
    handler.respond_with_json({**body, "createdAt": CREATED_AT_TEXT}, status=201)
    transaction = call_client(
        "server", client_args(httpserver), "create_transaction", "app-id", "user-id", delta=delta, reason=Reason(reason)
    )
    assert transaction == Transaction(delta, Reason(reason), CREATED_AT)


def test_list_transactions_lists_the_history(call_client: CallClient, httpserver: HTTPServer) -> None:
    """API README: "listTransactions(applicationId, userId, cursor?): List user's transaction history\""""
    item = {"delta": -10, "reason": "consume", "createdAt": CREATED_AT_TEXT}
    body = {"transactions": [item], "nextCursor": "c"}
    httpserver.expect_oneshot_request(USER_PATH + "/transactions", query_string="cursor=b").respond_with_json(body)
    page = call_client("server", client_args(httpserver), "list_transactions", "app-id", "user-id", "b")
    assert (page.transactions, page.next_cursor) == ((Transaction(-10, Reason.CONSUME, CREATED_AT),), "c")


@pytest.mark.parametrize(
    ("method", "arguments", "path", "member", "item"),
    [
        ("iter_users", ("app-id",), "/v1/applications/app-id/users", "users", USER_JSON),
        (
            "iter_transactions",
            ("app-id", "user-id"),
            USER_PATH + "/transactions",
            "transactions",
            {"delta": 1, "reason": "grant", "createdAt": CREATED_AT_TEXT},
        ),
    ],
)
def test_iter_methods_fetch_all_pages(
    call_client: CallClient,
    httpserver: HTTPServer,
    method: str,
    arguments: tuple[str, ...],
    path: str,
    member: str,
    item: Any,
) -> None:
    httpserver.expect_ordered_request(path, query_string="").respond_with_json(
        {member: [item, item], "nextCursor": "1"}
    )
    httpserver.expect_ordered_request(path, query_string="cursor=1").respond_with_json({member: [], "nextCursor": "2"})
    httpserver.expect_ordered_request(path, query_string="cursor=2").respond_with_json({member: [item]})
    assert len(call_client("server", client_args(httpserver), method, *arguments)) == 3


def test_error_response_raises_its_class(call_client: CallClient, httpserver: HTTPServer) -> None:
    body = {"error": {"code": "insufficient_credits", "message": "The balance is 5.", "requestId": "r-1"}}
    httpserver.expect_oneshot_request(USER_PATH + "/transactions").respond_with_json(body, status=402)
    with pytest.raises(InsufficientCredits, match=r"402 insufficient_credits: The balance is 5\. \(request r-1\)"):
        call_client(
            "server", client_args(httpserver), "create_transaction", "app-id", "user-id", delta=-10, reason="consume"
        )


@pytest.mark.parametrize("client", [ServerClient, AsyncServerClient])
def test_server_client_has_every_method_in_the_readme(client: type[Any]) -> None:
    """API README: "This client has full access to all operations\""""
    assert all(callable(getattr(client, method)) for method in METHODS)


def test_server_module_exports_its_types() -> None:
    """API README: "Types are automatically exported from each entry point\""""
    assert server.__all__ == sorted(server.__all__)
    assert {"Balance", "Reason", "Transaction", "TransactionPage", "User", "UserPage"} <= set(server.__all__)
    assert [reason.value for reason in server.Reason] == ["grant", "consume", "refund"]


@pytest.mark.parametrize("client", [ServerClient, AsyncServerClient])
@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        (("", "key"), {}, ValueError),
        (("http://h", ""), {}, ValueError),
        (("http://h", "a\nb"), {}, ValueError),
        (("http://h", None), {}, TypeError),
        (("http://h", "key"), {"timeout_s": 0}, ValueError),
        (("http://h", "key"), {"timeout_s": "1"}, TypeError),
    ],
)
def test_invalid_arguments_raise_immediately(
    client: type[Any], arguments: tuple[Any, ...], options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        client(*arguments, **options)
