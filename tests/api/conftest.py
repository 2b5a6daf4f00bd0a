"""Own how the API's tests ask: one text for both drivers, in bytes, so that nothing normalises what a test means."""

import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import pytest

from fake_credits.contract import DEFAULT_CONTRACT, Contract, Operation
from fake_credits.errors import ERRORS
from fake_credits.fake import ClientMode, FakeCredits
from fake_credits.http_message import Headers, Request, Response, Transport
from fake_credits.transports.in_process import InProcessDriver
from fake_credits.transports.shared_resources import SharedResources
from tests.contract.documented import Documented

Field = tuple[bytes, bytes]

APP = "app-id"
JSON: Field = (b"content-type", b"application/json")
GRANT = b'{"delta":100,"reason":"grant"}'
_DEFAULT = Documented(DEFAULT_CONTRACT)
LIMIT_S = 20.0
"""No answer takes so long; a test that waits for it would fail rather than hang."""


class Got(NamedTuple):
    """Be one whole answer; header names are in lower case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key == name]
        assert len(values) <= 1, f"{name} stands {len(values)} times"
        return values[0] if values else None

    def json(self) -> Any:
        return json.loads(self.body)


class Api:
    """Ask one sandbox over one driver."""

    def __init__(self, fake: FakeCredits, mode: ClientMode, shared: SharedResources) -> None:
        self.credits = fake
        self.mode: ClientMode = mode
        self.contract = fake.sandbox.contract
        self._documented = _DEFAULT if self.contract is DEFAULT_CONTRACT else Documented(self.contract)
        self._in_process = InProcessDriver(shared.app(self.contract), fake.sandbox)

    def __repr__(self) -> str:
        return f"<Api {self.mode}>"

    # ------------------------------------------------------------ who asks

    @property
    def as_server(self) -> Headers:
        return self._as(self.contract.api_key.header, self.contract.api_key.value_for(self.credits.api_key))

    def as_user(self, user: str = "ada") -> Headers:
        return self.as_token(self.credits.token(user))

    def as_token(self, token: str) -> Headers:
        return self._as(self.contract.user_token.header, self.contract.user_token.value_for(token))

    def _as(self, header: str, value: str) -> Headers:
        return [(header.lower().encode(), value.encode("latin-1"))]

    # ------------------------------------------------------------ what is asked

    def path(self, operation: Operation, user: str = "ada", app: str = APP) -> bytes:
        path = self.contract.routes[operation].path.replace("{applicationId}", quote(app, safe=""))
        return path.replace("{userId}", quote(user, safe="")).encode()

    def ask(
        self,
        operation: Operation,
        user: str = "ada",
        *,
        who: Headers | None = None,
        app: str = APP,
        query: bytes = b"",
        body: bytes = b"",
        headers: Headers | None = None,
    ) -> Got:
        """Send one well-formed request, by default as the server; a body is sent as JSON."""
        target = self.path(operation, user, app) + (b"?" + query if query else b"")
        sent = [*(self.as_server if who is None else who), *(headers or []), *([JSON] if body else [])]
        return self.send(Request(self.contract.routes[operation].method, target, sent, body))

    def grant(self, delta: int, user: str = "ada", app: str = APP) -> Got:
        body = json.dumps({"delta": delta, "reason": "grant" if delta > 0 else "consume"}).encode()
        return self.ask(Operation.CREATE_TRANSACTION, user, app=app, body=body)

    # ------------------------------------------------------------ how it travels

    def send(self, request: Request) -> Got:
        """Send a request as it is, and check its answer against the OpenAPI document where it is an operation's."""
        got = self._sent(request)
        # A preflight is no operation's, nor are the fake's own paths.
        if request.method != "OPTIONS" and not request.target.startswith((b"/_fake/", b"/.well-known/")):
            headers = [(name.encode(), value.encode("latin-1")) for name, value in got.headers]
            target = request.target.decode("latin-1")
            self._documented.check(request.method, target, Response(got.status, got.body, headers))
        return got

    def _sent(self, request: Request) -> Got:
        if self.mode == "live":
            return self._exchange(as_bytes(request, self.host), request.method)
        reply = self._in_process.call(request)
        headers = tuple((name.decode(), value.decode("latin-1")) for name, value in reply.headers)
        return Got(reply.status, headers, reply.body)

    @property
    def transport(self) -> Transport:
        """Return what carries the requests of a client that a test makes itself, to this sandbox."""
        return self.credits.server_client._transport  # pyright: ignore[reportPrivateUsage]

    @property
    def host(self) -> str:
        return urlsplit(self.credits.base_url).netloc

    def connect(self) -> socket.socket:
        """Return a connection to the live server."""
        where = urlsplit(self.credits.base_url)
        connection = socket.create_connection((where.hostname, where.port), timeout=LIMIT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _exchange(self, raw: bytes, method: str) -> Got:
        with self.connect() as connection:
            connection.sendall(raw)
            return read(connection, method)

    # ------------------------------------------------------------ what it holds

    def state(self) -> object:
        """Return all that the ledger holds, to compare."""
        ledger: Any = self.credits.sandbox.ledger
        return {
            app: [
                (account.user_id, account.created_at_ms, *account.entries()) for account in application.ordered_accounts
            ]
            for app, application in ledger._applications.items()
        }


def as_bytes(request: Request, host: str) -> bytes:
    """Return a request as HTTP/1.1, with Host and Content-Length where the test gave none."""
    names = {name for name, _ in request.headers}
    headers = list(request.headers)
    if b"host" not in names:
        headers.insert(0, (b"host", host.encode()))
    if request.body and not names & {b"content-length", b"transfer-encoding"}:
        headers.append((b"content-length", b"%d" % len(request.body)))
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    return request.method.encode() + b" " + request.target + b" HTTP/1.1\r\n" + lines + b"\r\n" + (request.body or b"")


def read(connection: socket.socket, method: str = "GET") -> Got:
    """Return the next answer of a connection."""
    with http.client.HTTPResponse(connection, method=method) as response:
        response.begin()
        body = response.read()
        headers = tuple((name.lower(), value) for name, value in response.getheaders())
        return Got(response.status, headers, body)


def assert_refused(got: Got, code: str, contract: Contract = DEFAULT_CONTRACT, *, head: bool = False) -> dict[str, Any]:
    """Assert that an answer is the contract's refusal with a code, whole and in form; return the error's members."""
    shown = (got.status, got.body[:300])
    assert got.status == contract.status_of(ERRORS[code]), shown
    assert got.header("content-type") == "application/json", shown
    assert got.header("cache-control") == "no-store"
    request_id = got.header("x-request-id")
    assert request_id
    assert got.header("x-fake-credits-cause"), shown
    assert (got.header("www-authenticate") is not None) == (got.status == 401)
    assert (got.header("allow") is not None) == (got.status == 405)
    if head:
        assert got.body == b""
        return {}
    body = got.json()
    assert list(body) == ["error"]
    error: dict[str, Any] = body["error"]
    assert error["code"] == code, shown
    assert error["requestId"] == request_id
    assert isinstance(error["message"], str)
    assert error["message"]
    assert list(error) == ["code", "message", "requestId", *(["details"] if code == "validation_error" else [])]
    for problem in error.get("details", []):
        assert list(problem) == ["field", "problem"]
        assert all(isinstance(text, str) for text in problem.values())
    return error


@pytest.fixture(scope="session")
def shared() -> Iterator[SharedResources]:
    """Yield what every sandbox of the session shares: keys, applications, one live server a contract."""
    shared = SharedResources()
    yield shared
    shared.close()


@pytest.fixture
def contract() -> Contract:
    """Return the contract under test; a later suite runs the same text under others."""
    return DEFAULT_CONTRACT


@pytest.fixture(params=["in-process", "live"])
def mode(request: pytest.FixtureRequest) -> ClientMode:
    """Return how the test reaches the API: every test that asks runs over both drivers."""
    mode: ClientMode = request.param
    return mode


@pytest.fixture
def api(mode: ClientMode, contract: Contract, shared: SharedResources) -> Iterator[Api]:
    """Yield a fresh sandbox over one driver; at the end it must be sound and have met no bug."""
    with FakeCredits(mode=mode, shared=shared, contract=contract) as fake:
        if mode == "live":
            fake.serve()
        yield Api(fake, mode, shared)
        assert fake.problems() == []


@pytest.fixture
def live(contract: Contract, shared: SharedResources) -> Iterator[Api]:
    """Yield a fresh sandbox over a socket, for what only bytes on a wire can say."""
    with FakeCredits(mode="live", shared=shared, contract=contract) as fake:
        fake.serve()
        yield Api(fake, "live", shared)
        assert fake.problems() == []
