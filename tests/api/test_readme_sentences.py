"""Tests for every statement in the API README; each docstring quotes the statements that its test checks.

Each paragraph of a docstring is one quotation; whitespace is not significant.
"""

import inspect
import json
import re
import typing
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

import fake_credits.client.server as server_module
import fake_credits.client.user as user_module
from fake_credits.client.server import ServerClient
from fake_credits.client.user import UserClient
from fake_credits.contract import Operation
from fake_credits.errors import Forbidden, InsufficientScope, InvalidApiKey, InvalidToken
from fake_credits.fake import FakeCredits
from fake_credits.http_message import Request, Response
from fake_credits.models import Balance, Reason, Transaction, TransactionPage, User, UserPage
from fake_credits.sandbox_options import AuthProviderName
from fake_credits.transports.shared_resources import SharedResources
from tests.api.conftest import APP, GRANT, Api, assert_error

README = Path(__file__).parents[3] / "shared" / "API-README.md"
NOT_BEHAVIOUR = {
    "API client for Credits Management",
    "TypeScript client for the Credits Management API with separate client and server implementations.",
    "This package uses package.json exports to provide separate entry points:",
    "Published",
    "Readme",
    "v0.0.0",
    "pnpm add @ocx-inc/credits",
    "@ocx-inc/credits",
    "Types are automatically exported from each entry point:",
}
HEADINGS = {
    *("Installation", "Package Exports", "Usage", "Server-Side (Backend/Admin)", "Client-Side (Frontend/End-User)"),
    *("API Reference", "ServerClient", "Constructor Options:", "Methods:", "User Management", "Credits Management"),
    *("UserClient", "Type Definitions", "Available Types:", "Security"),
}
READS = ("get_user", "get_balance", "list_transactions")
WRITES = ("create_user", "create_transaction")


@pytest.fixture
def server_client(api: Api) -> ServerClient:
    return api.credits.server_client


@pytest.fixture
def ada_client(api: Api) -> UserClient:
    """Return a client for the user ada, who has 100 credits; bob exists too."""
    api.credits.user("ada", balance=100)
    api.credits.user("bob", balance=7)
    return api.credits.user_client("ada")


def public_methods(client: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(client, inspect.isfunction) if not name.startswith("_")}


def parameters(method: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(method).parameters)[1:]


# ---------------------------------------------------------------- entry points


def test_user_module_is_an_entry_point() -> None:
    """@ocx-inc/credits/client - Client-side API (frontend/browser)"""
    assert user_module.UserClient is UserClient


def test_server_module_is_an_entry_point() -> None:
    """@ocx-inc/credits/server - Server-side API (backend/admin)"""
    assert server_module.ServerClient is ServerClient


def test_each_module_has_only_its_own_client() -> None:
    """Each entry point exports only the relevant code, enabling better tree-shaking and clearer separation of
    concerns.
    """
    assert not [name for name in vars(user_module) if "Server" in name or name in WRITES]
    assert not [name for name in vars(server_module) if "UserClient" in name]


# ---------------------------------------------------------------- ServerClient


def test_server_client_can_call_every_operation(api: Api, server_client: ServerClient) -> None:
    """Use ServerClient for backend operations with API key authentication.

    This client has full access to all operations including creating transactions and managing users.

    Server Client: Full access with API key authentication.
    """
    server_client.create_user(APP, "ada")
    server_client.create_transaction(APP, "ada", delta=1, reason="grant")
    server_client.get_user(APP, "ada")
    server_client.list_users(APP)
    server_client.get_balance(APP, "ada")
    server_client.list_transactions(APP, "ada")
    assert {entry.operation for entry in api.credits.journal} == {operation.value for operation in Operation}
    assert {(entry.client, entry.status // 100) for entry in api.credits.journal} == {("server", 2)}


def test_server_operations_require_api_key(api: Api) -> None:
    """Server-side client for backend/admin operations. Requires API key authentication."""
    api.credits.user("ada")
    for operation in Operation:
        body = GRANT if operation is Operation.CREATE_TRANSACTION else b""
        assert_error(api.call(operation, credentials=[], body=body), "missing_credentials")
    wrong = ServerClient("http://x.test", "wrong", transport=api.transport)
    with pytest.raises(InvalidApiKey):
        wrong.get_balance(APP, "ada")


def test_user_cannot_read_api_key(api: Api, ada_client: UserClient) -> None:
    """Keep your API key secret and only use it server-side."""
    bodies = [api.call(operation, credentials=api.as_user()).body for operation in Operation]
    bodies += [api.call(operation, credentials=[(b"x-api-key", b"wrong")]).body for operation in Operation]
    assert not [body for body in bodies if api.credits.api_key.encode() in body]
    assert api.credits.api_key not in repr(api.credits.server_client)
    assert api.credits.api_key not in repr(list(api.credits.journal))


def test_base_url_is_the_first_option() -> None:
    """baseUrl (string): The base URL of the API"""
    assert [parameters(client.__init__)[0] for client in (ServerClient, UserClient)] == ["base_url"] * 2
    with pytest.raises(ValueError, match="base_url"):
        ServerClient("not a url", "key")
    with pytest.raises(ValueError, match="base_url"):
        UserClient("not a url", APP, "token")


def test_api_key_authenticates(api: Api) -> None:
    """apiKey (string): API key for authentication"""
    api.credits.user("ada", balance=3)
    client = ServerClient("http://x.test", api.credits.api_key, transport=api.transport)
    assert client.get_balance(APP, "ada") == Balance(3)


def test_custom_transport_can_be_passed(api: Api) -> None:
    """fetch (function, optional): Custom fetch implementation"""
    api.credits.user("ada", balance=3)

    class RecordingTransport:
        targets: typing.ClassVar[list[bytes]] = []

        def send(self, request: Request) -> Response:
            self.targets.append(request.target)
            return api.transport.send(request)

        def close(self) -> None: ...

    base_url = api.credits.base_url
    transport = RecordingTransport()
    assert ServerClient(base_url, api.credits.api_key, transport=transport).get_balance(APP, "ada") == Balance(3)
    token = api.credits.token("ada")
    assert UserClient(base_url, APP, token, transport=transport).get_balance("ada") == Balance(3)
    assert len(transport.targets) == 2
    with httpx2.Client(transport=api.credits.transport("httpx2")) as http_client:
        client = ServerClient("http://x.test", api.credits.api_key, http_client=http_client)
        assert client.get_balance(APP, "ada") == Balance(3)


def test_create_user_is_idempotent(api: Api, server_client: ServerClient) -> None:
    """createUser(applicationId, userId): Create or update a user (idempotent)

    // Create a user (idempotent)

    await serverClient.createUser('app-id', 'user-id');
    """
    first = server_client.create_user("app-id", "user-id")
    before = api.state()
    assert (first.application_id, first.user_id) == ("app-id", "user-id")
    assert server_client.create_user("app-id", "user-id") == first
    assert api.state() == before


def test_get_user_returns_created_user(server_client: ServerClient) -> None:
    """getUser(applicationId, userId): Get user information"""
    created = server_client.create_user(APP, "ada")
    assert server_client.get_user(APP, "ada") == created
    assert isinstance(created, User)


def test_list_users_returns_all_users_of_the_application(api: Api, server_client: ServerClient) -> None:
    """listUsers(applicationId, cursor?): List all users in the application

    // List all users (admin only)

    const users = await serverClient.listUsers('app-id');
    """
    names = [f"u{number}" for number in range(45)]
    for name in names:
        api.credits.user(name)
    api.credits.user("stranger", application_id="other")
    page = server_client.list_users("app-id")
    assert isinstance(page, UserPage)
    users = list(page.users)
    while page.next_cursor is not None:
        page = server_client.list_users("app-id", page.next_cursor)
        users += page.users
    assert [user.user_id for user in users] == names
    assert_error(api.call(Operation.LIST_USERS, credentials=api.as_user("u1")), "insufficient_scope")


def test_get_balance_returns_balance_of_any_user(server_client: ServerClient, ada_client: UserClient) -> None:
    """getBalance(applicationId, userId): Get user's credit balance

    // Get any user's balance

    const balance = await serverClient.getBalance('app-id', 'user-id');
    """
    assert [server_client.get_balance(APP, user) for user in ("ada", "bob")] == [Balance(100), Balance(7)]


def test_create_transaction_changes_balance(server_client: ServerClient) -> None:
    """createTransaction(applicationId, userId, transaction): Create a credit transaction (grant/consume/refund)

    // Grant credits

    await serverClient.createTransaction('app-id', 'user-id', {
      delta: 100,
      reason: 'grant',
    });

    // Consume credits

    await serverClient.createTransaction('app-id', 'user-id', {
      delta: -10,
      reason: 'consume',
    });
    """
    server_client.create_user("app-id", "user-id")
    granted = server_client.create_transaction("app-id", "user-id", delta=100, reason="grant")
    assert (granted.delta, granted.reason) == (100, Reason.GRANT)
    server_client.create_transaction("app-id", "user-id", delta=-10, reason="consume")
    assert server_client.get_balance("app-id", "user-id").balance == 90
    server_client.create_transaction("app-id", "user-id", delta=10, reason="refund")
    assert server_client.get_balance("app-id", "user-id").balance == 100


def test_list_transactions_returns_history_newest_first(api: Api, server_client: ServerClient) -> None:
    """listTransactions(applicationId, userId, cursor?): List user's transaction history"""
    api.credits.user("ada")
    for delta in range(1, 31):
        api.grant(delta)
    first = server_client.list_transactions(APP, "ada")
    assert isinstance(first, TransactionPage)
    second = server_client.list_transactions(APP, "ada", first.next_cursor)
    assert [item.delta for item in (*first.transactions, *second.transactions)] == list(range(30, 0, -1))


# ---------------------------------------------------------------- UserClient


def test_user_client_reads_only_its_own_user(api: Api, ada_client: UserClient) -> None:
    """Use UserClient for frontend operations with JWT authentication.

    This client can only access the authenticated user's own data (read-only).

    The API validates JWT tokens and ensures users can only access their own data.
    """
    before = api.state()
    for name in READS:
        getattr(ada_client, name)("ada")
        with pytest.raises(Forbidden):
            getattr(ada_client, name)("bob")
    for kind in ("tampered", "wrong_key", "alg_none", "expired"):
        forged = api.credits.token("bob", bad=kind)
        assert api.call(Operation.GET_BALANCE, "bob", credentials=api.as_token(forged)).status == 401
    assert api.state() == before


def test_user_operations_require_token(api: Api, ada_client: UserClient) -> None:
    """Client-side client for end-user operations. Requires JWT bearer token authentication."""
    for token in ("nonsense", api.credits.api_key):
        client = UserClient("http://x.test", APP, token, transport=api.transport)
        with pytest.raises(InvalidToken):
            client.get_balance("ada")
    assert_error(api.call(Operation.GET_BALANCE, credentials=[]), "missing_credentials")


def test_application_id_is_an_option_of_user_client(api: Api, ada_client: UserClient) -> None:
    """applicationId (string): The application ID"""
    api.credits.user("ada", balance=1, application_id="other")
    token = api.credits.token("ada")
    for app, balance in ((APP, 100), ("other", 1)):
        assert UserClient("http://x.test", app, token, transport=api.transport).get_balance("ada") == Balance(balance)
    assert parameters(UserClient.__init__)[1] == "application_id"


@pytest.mark.parametrize("provider", ["clerk", "auth0"])
def test_token_of_auth_provider_is_accepted(api: Api, shared: SharedResources, provider: AuthProviderName) -> None:
    """bearerToken (string): JWT token from your auth provider

    bearerToken: userJwtToken, // From your auth provider (Clerk, Auth0, etc.)
    """
    with FakeCredits(mode=api.mode, shared=shared, auth_provider=provider, balance=9) as fake:
        url = fake.serve() if api.mode == "live" else "http://x.test"
        token = fake.token()
        assert token.count(".") == 2
        transport = Api(fake, api.mode, shared).transport
        assert UserClient(url, "app-id", token, transport=transport).get_balance("user-id") == Balance(9)


def test_user_client_gets_its_own_user(api: Api, ada_client: UserClient) -> None:
    """getUser(userId): Get authenticated user's information

    // Get own user info

    const user = await client.getUser('user-id');
    """
    assert ada_client.get_user("ada") == api.credits.server_client.get_user(APP, "ada")


def test_user_client_gets_its_own_balance(ada_client: UserClient) -> None:
    """getBalance(userId): Get authenticated user's credit balance

    // Get own balance

    const balance = await client.getBalance('user-id');

    console.log(`Balance: ${balance.balance} credits`);
    """
    balance = ada_client.get_balance("ada")
    assert f"Balance: {balance.balance} credits" == "Balance: 100 credits"


def test_user_client_lists_its_own_transactions(api: Api, ada_client: UserClient) -> None:
    """listTransactions(userId, cursor?): List authenticated user's transaction history

    // List own transaction history

    const transactions = await client.listTransactions('user-id');
    """
    for _ in range(25):
        api.grant(1)
    page = ada_client.list_transactions("ada")
    second = ada_client.list_transactions("ada", page.next_cursor)
    assert [item.delta for item in (*page.transactions, *second.transactions)] == [1] * 25 + [100]


def test_user_client_cannot_write(api: Api, ada_client: UserClient) -> None:
    """Note: Client-side users cannot create transactions.

    All credit modifications must be done through the server using ServerClient.

    Client Client: Read-only access with JWT authentication. Safe to use in frontend applications.
    """
    before = api.state()
    for operation, body in ((Operation.CREATE_TRANSACTION, GRANT), (Operation.CREATE_USER, b"")):
        for user in ("ada", "bob", "new"):
            assert_error(api.call(operation, user, credentials=api.as_user(), body=body), "insufficient_scope")
    assert api.state() == before
    assert public_methods(UserClient) - {"close", "iter_transactions"} == set(READS)
    with pytest.raises(InsufficientScope):
        ServerClient(
            "http://x.test",
            "unused",
            transport=UserTokenTransport(api, ada_client),
        ).create_transaction(APP, "ada", delta=1, reason="grant")


class UserTokenTransport:
    """A transport that sends a user token instead of the API key, as a tampered-with front end might."""

    def __init__(self, api: Api, client: UserClient) -> None:
        self._headers = api.as_user()
        self._inner = api.transport

    def send(self, request: Request) -> Response:
        headers_without_key = [header for header in request.headers if header[0] != b"x-api-key"]
        headers = [*headers_without_key, *self._headers]
        return self._inner.send(msgspec.structs.replace(request, headers=headers))

    def close(self) -> None: ...


# ---------------------------------------------------------------- types


def test_reasons_are_grant_consume_and_refund() -> None:
    """export type CreditTransactionReason = "grant" | "consume" | "refund";"""
    assert [reason.value for reason in Reason] == ["grant", "consume", "refund"]


def test_create_transaction_requires_delta_and_reason(api: Api) -> None:
    """export type CreateTransactionRequest = {
      delta: number;
      reason: CreditTransactionReason;
    };
    """
    api.credits.user("ada")
    assert api.call(Operation.CREATE_TRANSACTION, body=b'{"delta":1,"reason":"grant"}').status == 201
    for body in (
        b'{"delta":1}',
        b'{"reason":"grant"}',
        b'{"delta":1,"reason":"gift"}',
        b'{"delta":"1","reason":"grant"}',
    ):
        assert_error(api.call(Operation.CREATE_TRANSACTION, body=body), "validation_error")


def test_get_balance_response_has_integer_balance(api: Api, ada_client: UserClient) -> None:
    """export type GetBalanceResponse = {
      balance: number;
    };
    """
    assert json.loads(api.call(Operation.GET_BALANCE).body) == {"balance": 100}
    assert isinstance(ada_client.get_balance("ada").balance, int)


def test_list_transactions_response_has_optional_cursor(api: Api, ada_client: UserClient) -> None:
    """export type ListTransactionsResponse = {
      transactions: Array<{
        delta: number;
        reason: CreditTransactionReason;
        createdAt: Date;
      }>;
      nextCursor?: string;
    };
    """
    short = api.call(Operation.LIST_TRANSACTIONS).json()
    assert list(short) == ["transactions"]
    assert [list(item) for item in short["transactions"]] == [["delta", "reason", "createdAt"]]
    for _ in range(20):
        api.grant(1)
    long = api.call(Operation.LIST_TRANSACTIONS).json()
    assert list(long) == ["transactions", "nextCursor"]
    assert isinstance(long["nextCursor"], str)
    first = ada_client.list_transactions("ada").transactions[0]
    assert isinstance(first, Transaction)
    assert isinstance(first.reason, Reason)
    assert isinstance(first.created_at, datetime)
    assert first.created_at.tzinfo is not None


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (ServerClient.create_user, ["application_id", "user_id"]),
        (ServerClient.get_user, ["application_id", "user_id"]),
        (ServerClient.list_users, ["application_id", "cursor"]),
        (ServerClient.get_balance, ["application_id", "user_id"]),
        (ServerClient.create_transaction, ["application_id", "user_id", "delta", "reason"]),
        (ServerClient.list_transactions, ["application_id", "user_id", "cursor"]),
        (UserClient.get_user, ["user_id"]),
        (UserClient.get_balance, ["user_id"]),
        (UserClient.list_transactions, ["user_id", "cursor"]),
        (ServerClient.__init__, ["base_url", "api_key"]),
        (UserClient.__init__, ["base_url", "application_id", "bearer_token"]),
    ],
)
def test_client_methods_take_readme_arguments_in_order(method: Callable[..., Any], expected: list[str]) -> None:
    assert parameters(method)[: len(expected)] == expected


def test_readme_has_exactly_six_operations() -> None:
    methods = {text.split("(")[0] for text in re.findall(r"(?m)^(\w+\(.*?\)): ", "\n".join(quotations()))}
    assert methods == {operation.value for operation in Operation}


# ---------------------------------------------------------------- the quotations are complete


def collapse_whitespace(text: str) -> str:
    return " ".join(text.split())


def quotations() -> list[str]:
    """Return the quotations in the docstrings of this module."""
    tests = [value for name, value in globals().items() if name.startswith("test_") and value.__doc__]
    return [collapse_whitespace(part) for test in tests for part in test.__doc__.split("\n\n") if part.strip()]


@pytest.fixture(scope="module")
def readme() -> str:
    if not README.exists():
        pytest.skip("the API's README is not next to this repository")
    return README.read_text(encoding="utf-8")


def test_every_quotation_appears_in_readme(readme: str) -> None:
    whole = collapse_whitespace(readme)
    assert [quotation for quotation in quotations() if quotation not in whole] == []


def test_every_readme_bullet_and_sentence_is_quoted(readme: str) -> None:
    quoted = quotations()
    assert [text for text in statements(readme) if not any(text in quotation for quotation in quoted)] == []


def test_every_readme_type_and_example_is_quoted(readme: str) -> None:
    quoted = quotations()
    types = re.findall(r"(?ms)^export type [^{\n]*;|^export type .*?^};", readme)
    calls_of = re.findall(r"(?ms)await \w*[cC]lient\.\w+\(.*?\);", readme)
    comments = re.findall(r"(?m)^// [A-Z].*$", readme)
    expected = [collapse_whitespace(text) for text in (*types, *calls_of, *comments) if "Import from" not in text]
    assert len(expected) >= 20
    assert [text for text in expected if not any(text in quotation for quotation in quoted)] == []


def statements(readme: str) -> list[str]:
    """Return the bullets and sentences of the README, without code, headings or packaging details."""
    users: list[str] = []
    lines = (collapse_whitespace(line) for line in prose(readme).splitlines())
    for line in filter(None, lines):
        text = line.removeprefix("• ")
        if line in HEADINGS or line in NOT_BEHAVIOUR:
            continue
        users += re.split(r"(?<=\.) (?=[A-Z])", text)
    return users


def prose(readme: str) -> str:
    """Return the README without its code."""
    without_types = re.sub(r"(?ms)^export type [^{\n]*;|^export type .*?^};|^import .*?;$", "", readme)
    without_calls = re.sub(r"(?ms)^(const .*?|await .*?|console.*?);$", "", without_types)
    return re.sub(r"(?m)^//.*$", "", without_calls)
