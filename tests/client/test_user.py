"""The API README's sentences about ``UserClient``, tested against pytest-httpserver."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from fake_credits.client import user
from fake_credits.client.user import AsyncUserClient, UserClient
from fake_credits.errors import Forbidden
from fake_credits.models import Balance, Reason, Transaction, User

CallClient = Callable[..., Any]

CREATED_AT = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
CREATED_AT_TEXT = "2026-01-02T03:04:05.678Z"
USER_PATH = "/v1/applications/app-id/users/user-id"
BEARER_HEADER = {"Authorization": "Bearer header.payload.signature"}


def client_args(httpserver: HTTPServer) -> tuple[str, str, str]:
    return httpserver.url_for("/"), "app-id", "header.payload.signature"


def test_user_client_authenticates_with_a_bearer_token(call_client: CallClient, httpserver: HTTPServer) -> None:
    """API README: "Requires JWT bearer token authentication.\""""
    httpserver.expect_oneshot_request(USER_PATH + "/balance", headers=BEARER_HEADER).respond_with_json({"balance": 90})
    assert call_client("user", client_args(httpserver), "get_balance", "user-id") == Balance(90)
    assert "X-API-Key" not in httpserver.log[0][0].headers


def test_get_user_gets_the_authenticated_users_information(call_client: CallClient, httpserver: HTTPServer) -> None:
    """API README: "getUser(userId): Get authenticated user's information\""""
    body = {"applicationId": "app-id", "userId": "user-id", "createdAt": CREATED_AT_TEXT}
    httpserver.expect_oneshot_request(USER_PATH, method="GET", headers=BEARER_HEADER).respond_with_json(body)
    assert call_client("user", client_args(httpserver), "get_user", "user-id") == User("app-id", "user-id", CREATED_AT)


def test_get_balance_gets_the_authenticated_users_balance(call_client: CallClient, httpserver: HTTPServer) -> None:
    """API README: "getBalance(userId): Get authenticated user's credit balance\""""
    httpserver.expect_oneshot_request(USER_PATH + "/balance", method="GET").respond_with_json({"balance": 0})
    assert call_client("user", client_args(httpserver), "get_balance", "user-id").balance == 0


def test_list_transactions_lists_the_authenticated_users_history(
    call_client: CallClient, httpserver: HTTPServer
) -> None:
    """API README: "listTransactions(userId, cursor?): List authenticated user's transaction history\""""
    item = {"delta": 100, "reason": "grant", "createdAt": CREATED_AT_TEXT}
    path = USER_PATH + "/transactions"
    httpserver.expect_ordered_request(path, query_string="").respond_with_json(
        {"transactions": [item], "nextCursor": "c"}
    )
    httpserver.expect_ordered_request(path, query_string="cursor=c").respond_with_json({"transactions": [item]})
    items = call_client("user", client_args(httpserver), "iter_transactions", "user-id")
    assert items == [Transaction(100, Reason.GRANT, CREATED_AT)] * 2


def test_other_users_data_is_forbidden(call_client: CallClient, httpserver: HTTPServer) -> None:
    """API README: "ensures users can only access their own data"; the API rejects the request."""
    body = {"error": {"code": "forbidden", "message": "No."}}
    httpserver.expect_oneshot_request("/v1/applications/app-id/users/bob/balance").respond_with_json(body, status=403)
    with pytest.raises(Forbidden):
        call_client("user", client_args(httpserver), "get_balance", "bob")


@pytest.mark.parametrize("client", [UserClient, AsyncUserClient])
def test_user_client_has_no_write_methods(client: type[Any]) -> None:
    """API README: "Client-side users cannot create transactions.\""""
    public_names = {name for name in dir(client) if not name.startswith("_")}
    assert public_names - {"close", "aclose"} == {"get_balance", "get_user", "iter_transactions", "list_transactions"}


def test_user_module_exports_no_write_operations() -> None:
    """API README: "Each entry point exports only the relevant code\""""
    assert not [name for name in vars(user) if "create" in name or "list_users" in name]
    assert user.__all__ == sorted(user.__all__)
    assert {"Balance", "Reason", "Transaction", "TransactionPage", "User"} <= set(user.__all__)


@pytest.mark.parametrize("client", [UserClient, AsyncUserClient])
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("", "a", "token"), ValueError),
        (("http://h", "..", "token"), ValueError),
        (("http://h", 7, "token"), TypeError),
        (("http://h", "a", ""), ValueError),
        (("http://h", "a", "a b\r\n"), ValueError),
        (("http://h", "a", None), TypeError),
    ],
)
def test_invalid_arguments_raise_immediately(
    client: type[Any], arguments: tuple[Any, ...], error: type[Exception]
) -> None:
    with pytest.raises(error):
        client(*arguments)
