"""How the clients send requests, over in-memory transports."""

import asyncio
from typing import Any

import httpx2
import msgspec
import pytest
import trio

from fake_credits.client import AsyncServerClient, AsyncUserClient, ServerClient, UserClient
from fake_credits.contract import Contract, CredentialHeader, Operation
from fake_credits.errors import InvalidResponse, UserNotFound
from fake_credits.http_message import Request, Response
from fake_credits.models import Balance

BALANCE = b'{"balance":90}'


class CannedTransport:
    """A transport that replies with the given bodies, repeating the last one, and records the requests."""

    def __init__(self, *bodies: bytes, status: int = 200) -> None:
        self.requests: list[Request] = []
        self.close_count = 0
        self._bodies = list(bodies)
        self._status = status

    def send(self, request: Request) -> Response:
        self.requests.append(request)
        body = self._bodies.pop(0) if len(self._bodies) > 1 else self._bodies[0]
        return Response(self._status, body)

    def close(self) -> None:
        self.close_count += 1


class AsyncCannedTransport(CannedTransport):
    """The async variant of `CannedTransport`."""

    async def send(self, request: Request) -> Response:  # type: ignore[override]
        return super().send(request)

    async def aclose(self) -> None:
        self.close()


def users_page(*names: str, cursor: str = "") -> bytes:
    items = ",".join(f'{{"applicationId":"a","userId":"{name}","createdAt":"2026-01-02T03:04:05Z"}}' for name in names)
    end = f',"nextCursor":"{cursor}"' if cursor else ""
    return f'{{"users":[{items}]{end}}}'.encode()


def test_server_client_sends_its_api_key_header() -> None:
    transport = CannedTransport(BALANCE)
    assert ServerClient("http://h", "fck_0123456789", transport=transport).get_balance("app-id", "user-id") == Balance(
        90
    )
    (request,) = transport.requests
    assert msgspec.structs.asdict(request) == {
        "method": "GET",
        "target": b"/v1/applications/app-id/users/user-id/balance",
        "headers": [(b"accept", b"application/json"), (b"x-api-key", b"fck_0123456789")],
        "body": b"",
        "timeout_s": 30,
        "operation": Operation.GET_BALANCE,
    }


def test_body_is_sent_with_json_content_type() -> None:
    transport = CannedTransport(b'{"delta":1,"reason":"grant","createdAt":"2026-01-02T03:04:05Z"}')
    ServerClient("http://h", "key", transport=transport).create_transaction("a", "u", delta=1, reason="grant")
    assert (b"content-type", b"application/json") in transport.requests[0].headers


def test_user_client_sends_its_token_as_bearer() -> None:
    transport = CannedTransport(BALANCE)
    UserClient("http://h", "app-id", "eyJ.a.b", transport=transport).get_balance("ada")
    assert (b"authorization", b"Bearer eyJ.a.b") in transport.requests[0].headers


def test_contract_determines_the_credential_header() -> None:
    transport = CannedTransport(BALANCE)
    contract = Contract(api_key=CredentialHeader("Authorization", "Bearer"))
    ServerClient("http://h", "key", transport=transport, contract=contract).get_balance("a", "u")
    assert transport.requests[0].headers[1] == (b"authorization", b"Bearer key")


@pytest.mark.parametrize("client_type", [ServerClient, UserClient])
@pytest.mark.parametrize("contract", ["contract.toml", None, 5])
def test_contract_of_another_type_raises_type_error(client_type: Any, contract: Any) -> None:
    args = ("http://h", "key") if client_type is ServerClient else ("http://h", "app-id", "token")
    with pytest.raises(
        TypeError, match=r"^contract must be a Contract, such as load_contract\('contract.toml'\), not "
    ):
        client_type(*args, contract=contract)


def test_token_callable_is_called_before_each_request() -> None:
    transport, tokens = CannedTransport(BALANCE), iter(["one", "two"])
    client = UserClient("http://h", "a", lambda: next(tokens), transport=transport)
    client.get_balance("ada")
    client.get_balance("ada")
    assert [request.headers[1][1] for request in transport.requests] == [b"Bearer one", b"Bearer two"]


def test_invalid_token_from_callable_is_rejected() -> None:
    transport = CannedTransport(BALANCE)
    with pytest.raises(ValueError, match="bearer_token"):
        UserClient("http://h", "a", lambda: "a\nb", transport=transport).get_balance("ada")
    assert transport.requests == []


def test_timeout_of_none_reaches_the_transport() -> None:
    transport = CannedTransport(BALANCE)
    ServerClient("http://h", "key", timeout_s=None, transport=transport).get_balance("a", "u")
    assert transport.requests[0].timeout_s is None


def test_error_response_is_raised_without_retry() -> None:
    transport = CannedTransport(b'{"error":{"code":"user_not_found","message":"no"}}', status=404)
    with pytest.raises(UserNotFound):
        ServerClient("http://h", "key", transport=transport).get_balance("a", "u")
    assert len(transport.requests) == 1


def test_invalid_id_sends_no_request() -> None:
    transport = CannedTransport(BALANCE)
    with pytest.raises(ValueError, match="user_id"):
        ServerClient("http://h", "key", transport=transport).get_balance("a", "..")
    assert transport.requests == []


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_async_clients_send_the_same_requests(loop: str) -> None:
    sync_transport, transport = CannedTransport(BALANCE), AsyncCannedTransport(BALANCE)
    ServerClient("http://h", "key", transport=sync_transport).get_balance("a", "u")
    UserClient("http://h", "a", "token", transport=sync_transport).get_balance("u")

    async def main() -> None:
        await AsyncServerClient("http://h", "key", transport=transport).get_balance("a", "u")
        await AsyncUserClient("http://h", "a", "token", transport=transport).get_balance("u")

    asyncio.run(main()) if loop == "asyncio" else trio.run(main)
    assert [*map(msgspec.structs.asdict, transport.requests)] == [*map(msgspec.structs.asdict, sync_transport.requests)]


def test_iteration_fetches_pages_lazily() -> None:
    transport = CannedTransport(users_page("ada", "bob", cursor="x y"), users_page("cyd"))
    users = ServerClient("http://h", "key", transport=transport).iter_users("a")
    assert transport.requests == []
    assert [next(users).user_id, next(users).user_id, len(transport.requests)] == ["ada", "bob", 1]
    assert [user.user_id for user in users] == ["cyd"]
    assert [request.target for request in transport.requests] == [
        b"/v1/applications/a/users",
        b"/v1/applications/a/users?cursor=x%20y",
    ]


def test_async_iteration_can_be_interrupted_and_resumed() -> None:
    transport = AsyncCannedTransport(users_page("ada", cursor="1"), users_page(cursor="2"), users_page("bob", "cyd"))

    async def main() -> list[str]:
        users = AsyncServerClient("http://h", "key", transport=transport).iter_users("a")
        names: list[str] = []
        async for user in users:
            names.append(user.user_id)
            break
        return [*names, *[user.user_id async for user in users]]

    assert asyncio.run(main()) == ["ada", "bob", "cyd"]
    assert trio.run(first_user, AsyncCannedTransport(users_page("ada", "bob"))) == "ada"


async def first_user(transport: AsyncCannedTransport) -> str:
    async for user in AsyncServerClient("http://h", "key", transport=transport).iter_users("a"):
        return user.user_id
    return ""


@pytest.mark.parametrize("cursors", [("x", "x"), ("x", "y", "x")])
def test_repeated_cursor_raises_invalid_response(cursors: tuple[str, ...]) -> None:
    pages = [users_page("ada", cursor=cursor) for cursor in cursors]
    with pytest.raises(InvalidResponse, match="'x' twice"):
        list(ServerClient("http://h", "key", transport=CannedTransport(*pages)).iter_users("a"))

    async def main() -> None:
        async for _ in AsyncServerClient("http://h", "key", transport=AsyncCannedTransport(*pages)).iter_users("a"):
            pass

    with pytest.raises(InvalidResponse, match="'x' twice"):
        asyncio.run(main())


def test_given_transport_stays_open() -> None:
    transport = CannedTransport(BALANCE)
    with ServerClient("http://h", "key", transport=transport) as client:
        client.get_balance("a", "u")
    assert transport.close_count == 0


def test_given_http_client_stays_open() -> None:
    http_client = httpx2.Client(transport=httpx2.MockTransport(lambda _: httpx2.Response(200, content=BALANCE)))
    with http_client:
        with ServerClient("http://h", "key", http_client=http_client) as client:
            assert client.get_balance("a", "u") == Balance(90)
        assert not http_client.is_closed


def test_client_can_be_closed_twice_and_rejects_further_calls() -> None:
    client = ServerClient("http://h", "key")
    client.close()
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.get_balance("a", "u")


def test_transport_and_http_client_are_mutually_exclusive() -> None:
    with httpx2.Client() as http_client, pytest.raises(TypeError, match="mutually exclusive"):
        ServerClient("http://h", "key", transport=CannedTransport(BALANCE), http_client=http_client)


@pytest.mark.parametrize(
    ("client", "text"),
    [
        (ServerClient("http://h/", "fck_0123456789"), "ServerClient('http://h', api_key='fck_…')"),
        (AsyncServerClient("http://h/", "short"), "AsyncServerClient('http://h', api_key='…')"),
        (UserClient("http://h", "a", "eyJhbGciOi"), "UserClient('http://h', application_id='a', bearer_token='eyJh…')"),
        (
            AsyncUserClient("http://h", "a", lambda: "eyJhbGciOi"),
            "AsyncUserClient('http://h', application_id='a', bearer_token=<callable>)",
        ),
    ],
)
def test_repr_masks_the_secret(client: object, text: str) -> None:
    assert repr(client) == text
    assert "0123456789" not in repr(vars(client))
    assert "hbGciOi" not in repr(vars(client))
