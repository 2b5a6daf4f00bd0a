"""Test how the clients send, over transports in memory."""

import asyncio

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


class Canned:
    """Answer from a list, the last body again and again, and remember what was sent."""

    def __init__(self, *bodies: bytes, status: int = 200) -> None:
        self.requests: list[Request] = []
        self.closed = 0
        self._bodies = list(bodies)
        self._status = status

    def send(self, request: Request) -> Response:
        self.requests.append(request)
        body = self._bodies.pop(0) if len(self._bodies) > 1 else self._bodies[0]
        return Response(self._status, body)

    def close(self) -> None:
        self.closed += 1


class AsyncCanned(Canned):
    """Be the async twin of `Canned`."""

    async def send(self, request: Request) -> Response:  # type: ignore[override]
        return super().send(request)

    async def aclose(self) -> None:
        self.close()


def users(*names: str, cursor: str = "") -> bytes:
    each = ",".join(f'{{"applicationId":"a","userId":"{name}","createdAt":"2026-01-02T03:04:05Z"}}' for name in names)
    end = f',"nextCursor":"{cursor}"' if cursor else ""
    return f'{{"users":[{each}]{end}}}'.encode()


def test_a_server_client_sends_its_key_and_nothing_else_that_is_secret() -> None:
    wire = Canned(BALANCE)
    assert ServerClient("http://h", "fck_0123456789", transport=wire).get_balance("app-id", "user-id") == Balance(90)
    (request,) = wire.requests
    assert msgspec.structs.asdict(request) == {
        "method": "GET",
        "target": b"/v1/applications/app-id/users/user-id/balance",
        "headers": [(b"accept", b"application/json"), (b"x-api-key", b"fck_0123456789")],
        "body": b"",
        "timeout_s": 30,
        "operation": Operation.GET_BALANCE,
    }


def test_a_body_is_announced_as_json() -> None:
    wire = Canned(b'{"delta":1,"reason":"grant","createdAt":"2026-01-02T03:04:05Z"}')
    ServerClient("http://h", "key", transport=wire).create_transaction("a", "u", delta=1, reason="grant")
    assert (b"content-type", b"application/json") in wire.requests[0].headers


def test_a_user_client_sends_its_token_as_bearer() -> None:
    wire = Canned(BALANCE)
    UserClient("http://h", "app-id", "eyJ.a.b", transport=wire).get_balance("ada")
    assert (b"authorization", b"Bearer eyJ.a.b") in wire.requests[0].headers


def test_the_contract_says_where_credentials_travel() -> None:
    wire = Canned(BALANCE)
    contract = Contract(api_key=CredentialHeader("Authorization", "Bearer"))
    ServerClient("http://h", "key", transport=wire, contract=contract).get_balance("a", "u")
    assert wire.requests[0].headers[1] == (b"authorization", b"Bearer key")


def test_a_function_is_asked_for_a_token_before_each_call() -> None:
    wire, tokens = Canned(BALANCE), iter(["one", "two"])
    client = UserClient("http://h", "a", lambda: next(tokens), transport=wire)
    client.get_balance("ada")
    client.get_balance("ada")
    assert [request.headers[1][1] for request in wire.requests] == [b"Bearer one", b"Bearer two"]


def test_a_token_that_no_header_carries_is_refused_when_the_function_gives_it() -> None:
    wire = Canned(BALANCE)
    with pytest.raises(ValueError, match="bearer_token"):
        UserClient("http://h", "a", lambda: "a\nb", transport=wire).get_balance("ada")
    assert wire.requests == []


def test_a_timeout_of_none_reaches_the_transport() -> None:
    wire = Canned(BALANCE)
    ServerClient("http://h", "key", timeout_s=None, transport=wire).get_balance("a", "u")
    assert wire.requests[0].timeout_s is None


def test_a_refusal_is_raised_once_and_nothing_is_retried() -> None:
    wire = Canned(b'{"error":{"code":"user_not_found","message":"no"}}', status=404)
    with pytest.raises(UserNotFound):
        ServerClient("http://h", "key", transport=wire).get_balance("a", "u")
    assert len(wire.requests) == 1


def test_nothing_is_sent_for_an_id_that_is_refused() -> None:
    wire = Canned(BALANCE)
    with pytest.raises(ValueError, match="user_id"):
        ServerClient("http://h", "key", transport=wire).get_balance("a", "..")
    assert wire.requests == []


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_async_clients_send_the_same(loop: str) -> None:
    blocking, wire = Canned(BALANCE), AsyncCanned(BALANCE)
    ServerClient("http://h", "key", transport=blocking).get_balance("a", "u")
    UserClient("http://h", "a", "token", transport=blocking).get_balance("u")

    async def main() -> None:
        await AsyncServerClient("http://h", "key", transport=wire).get_balance("a", "u")
        await AsyncUserClient("http://h", "a", "token", transport=wire).get_balance("u")

    asyncio.run(main()) if loop == "asyncio" else trio.run(main)
    assert [*map(msgspec.structs.asdict, wire.requests)] == [*map(msgspec.structs.asdict, blocking.requests)]


def test_a_walk_fetches_a_page_when_it_is_needed() -> None:
    wire = Canned(users("ada", "bob", cursor="x y"), users("cyd"))
    walk = ServerClient("http://h", "key", transport=wire).iter_users("a")
    assert wire.requests == []
    assert [next(walk).user_id, next(walk).user_id, len(wire.requests)] == ["ada", "bob", 1]
    assert [user.user_id for user in walk] == ["cyd"]
    assert [request.target for request in wire.requests] == [
        b"/v1/applications/a/users",
        b"/v1/applications/a/users?cursor=x%20y",
    ]


def test_an_async_walk_may_be_left_and_taken_up_again() -> None:
    wire = AsyncCanned(users("ada", cursor="1"), users(cursor="2"), users("bob", "cyd"))

    async def main() -> list[str]:
        walk = AsyncServerClient("http://h", "key", transport=wire).iter_users("a")
        names: list[str] = []
        async for user in walk:
            names.append(user.user_id)
            break
        return [*names, *[user.user_id async for user in walk]]

    assert asyncio.run(main()) == ["ada", "bob", "cyd"]
    assert trio.run(_left_alone, AsyncCanned(users("ada", "bob"))) == "ada"


async def _left_alone(wire: AsyncCanned) -> str:
    async for user in AsyncServerClient("http://h", "key", transport=wire).iter_users("a"):
        return user.user_id
    return ""


@pytest.mark.parametrize("cursors", [("x", "x"), ("x", "y", "x")])
def test_a_cursor_that_comes_back_ends_a_walk_loudly(cursors: tuple[str, ...]) -> None:
    pages = [users("ada", cursor=cursor) for cursor in cursors]
    with pytest.raises(InvalidResponse, match="'x' a second time"):
        list(ServerClient("http://h", "key", transport=Canned(*pages)).iter_users("a"))

    async def main() -> None:
        async for _ in AsyncServerClient("http://h", "key", transport=AsyncCanned(*pages)).iter_users("a"):
            pass

    with pytest.raises(InvalidResponse, match="'x' a second time"):
        asyncio.run(main())


def test_a_transport_that_was_passed_in_stays_open() -> None:
    wire = Canned(BALANCE)
    with ServerClient("http://h", "key", transport=wire) as client:
        client.get_balance("a", "u")
    assert wire.closed == 0


def test_an_http_client_that_was_passed_in_stays_open() -> None:
    http_client = httpx2.Client(transport=httpx2.MockTransport(lambda _: httpx2.Response(200, content=BALANCE)))
    with http_client:
        with ServerClient("http://h", "key", http_client=http_client) as client:
            assert client.get_balance("a", "u") == Balance(90)
        assert not http_client.is_closed


def test_a_client_closes_what_it_made_and_may_be_closed_twice() -> None:
    client = ServerClient("http://h", "key")
    client.close()
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.get_balance("a", "u")


def test_transport_and_http_client_exclude_each_other() -> None:
    with httpx2.Client() as http_client, pytest.raises(TypeError, match="exclude"):
        ServerClient("http://h", "key", transport=Canned(BALANCE), http_client=http_client)


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
def test_a_repr_masks_the_secret(client: object, text: str) -> None:
    assert repr(client) == text
    assert "0123456789" not in repr(vars(client))
    assert "hbGciOi" not in repr(vars(client))
