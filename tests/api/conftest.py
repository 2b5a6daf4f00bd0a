"""A raw HTTP client for the API tests, over both drivers; requests are bytes, so nothing normalizes them."""

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
from tests.contract.openapi_checker import OpenApiChecker

Field = tuple[bytes, bytes]

APP = "app-id"
JSON: Field = (b"content-type", b"application/json")
GRANT = b'{"delta":100,"reason":"grant"}'
_DEFAULT_CHECKER = OpenApiChecker(DEFAULT_CONTRACT)
TIMEOUT_S = 20.0
"""Upper limit for one response, so that a broken test fails instead of hanging."""


class ApiResponse(NamedTuple):
    """A complete HTTP response; header names are in lower case."""

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
    """A raw HTTP client for one sandbox over one driver."""

    def __init__(self, fake: FakeCredits, mode: ClientMode, shared: SharedResources) -> None:
        self.credits = fake
        self.mode: ClientMode = mode
        self.contract = fake.sandbox.contract
        self._checker = _DEFAULT_CHECKER if self.contract is DEFAULT_CONTRACT else OpenApiChecker(self.contract)
        self._in_process = InProcessDriver(shared.app(self.contract), fake.sandbox)

    def __repr__(self) -> str:
        return f"<Api {self.mode}>"

    # ------------------------------------------------------------ credentials

    @property
    def as_server(self) -> Headers:
        return self._as(self.contract.api_key.header, self.contract.api_key.value_for(self.credits.api_key))

    def as_user(self, user: str = "ada") -> Headers:
        return self.as_token(self.credits.token(user))

    def as_token(self, token: str) -> Headers:
        return self._as(self.contract.user_token.header, self.contract.user_token.value_for(token))

    def _as(self, header: str, value: str) -> Headers:
        return [(header.lower().encode(), value.encode("latin-1"))]

    # ------------------------------------------------------------ requests

    def path(self, operation: Operation, user: str = "ada", app: str = APP) -> bytes:
        path = self.contract.routes[operation].path.replace("{applicationId}", quote(app, safe=""))
        return path.replace("{userId}", quote(user, safe="")).encode()

    def call(
        self,
        operation: Operation,
        user: str = "ada",
        *,
        credentials: Headers | None = None,
        app: str = APP,
        query: bytes = b"",
        body: bytes = b"",
        headers: Headers | None = None,
    ) -> ApiResponse:
        """Send one well-formed request, by default with the API key; a body is sent as JSON."""
        target = self.path(operation, user, app) + (b"?" + query if query else b"")
        sent = [*(self.as_server if credentials is None else credentials), *(headers or []), *([JSON] if body else [])]
        return self.send(Request(self.contract.routes[operation].method, target, sent, body))

    def grant(self, delta: int, user: str = "ada", app: str = APP) -> ApiResponse:
        body = json.dumps({"delta": delta, "reason": "grant" if delta > 0 else "consume"}).encode()
        return self.call(Operation.CREATE_TRANSACTION, user, app=app, body=body)

    # ------------------------------------------------------------ transport

    def send(self, request: Request) -> ApiResponse:
        """Send a request unchanged and, if it is for an API path, check the response against the OpenAPI document."""
        response = self._send(request)
        # The OpenAPI document describes neither preflights nor the fake's own paths and keys.
        is_internal = request.target.startswith((b"/_fake/", b"/.well-known/")) or response.body.startswith(b'{"keys":')
        if request.method != "OPTIONS" and not is_internal:
            headers = [(name.encode(), value.encode("latin-1")) for name, value in response.headers]
            target = request.target.decode("latin-1")
            self._checker.check(request.method, target, Response(response.status, response.body, headers))
        return response

    def _send(self, request: Request) -> ApiResponse:
        if self.mode == "live":
            return self._exchange(encode_request(request, self.host), request.method)
        reply = self._in_process.call(request)
        headers = tuple((name.decode(), value.decode("latin-1")) for name, value in reply.headers)
        return ApiResponse(reply.status, headers, reply.body)

    @property
    def transport(self) -> Transport:
        """Return a transport to this sandbox, for clients that a test creates itself."""
        return self.credits.server_client._transport  # pyright: ignore[reportPrivateUsage]

    @property
    def host(self) -> str:
        return urlsplit(self.credits.base_url).netloc

    def connect(self) -> socket.socket:
        """Return a connection to the live server."""
        url = urlsplit(self.credits.base_url)
        connection = socket.create_connection((url.hostname, url.port), timeout=TIMEOUT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _exchange(self, raw: bytes, method: str) -> ApiResponse:
        with self.connect() as connection:
            connection.sendall(raw)
            return read_response(connection, method)

    # ------------------------------------------------------------ state

    def state(self) -> object:
        """Return the full contents of the ledger, for comparison."""
        ledger: Any = self.credits.sandbox.ledger
        return {
            app: [
                (account.user_id, account.created_at_ms, *account.entries()) for account in application.ordered_accounts
            ]
            for app, application in ledger._applications.items()
        }


def encode_request(request: Request, host: str) -> bytes:
    """Encode a request as HTTP/1.1, adding Host and Content-Length where they are missing."""
    names = {name for name, _ in request.headers}
    headers = list(request.headers)
    if b"host" not in names:
        headers.insert(0, (b"host", host.encode()))
    if request.body and not names & {b"content-length", b"transfer-encoding"}:
        headers.append((b"content-length", b"%d" % len(request.body)))
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    return request.method.encode() + b" " + request.target + b" HTTP/1.1\r\n" + lines + b"\r\n" + (request.body or b"")


def read_response(connection: socket.socket, method: str = "GET") -> ApiResponse:
    """Read the next response from a connection."""
    with http.client.HTTPResponse(connection, method=method) as response:
        response.begin()
        body = response.read()
        headers = tuple((name.lower(), value) for name, value in response.getheaders())
        return ApiResponse(response.status, headers, body)


def assert_error(
    response: ApiResponse, code: str, contract: Contract = DEFAULT_CONTRACT, *, head: bool = False
) -> dict[str, Any]:
    """Assert that a response is a complete error response with the given code; return the members of the error."""
    summary = (response.status, response.body[:300])
    assert response.status == contract.status_of(ERRORS[code]), summary
    assert response.header("content-type") == "application/json", summary
    assert response.header("cache-control") == "no-store"
    request_id = response.header("x-request-id")
    assert request_id
    assert response.header("x-fake-credits-cause"), summary
    assert (response.header("www-authenticate") is not None) == (response.status == 401)
    assert (response.header("allow") is not None) == (response.status == 405)
    if head:
        assert response.body == b""
        return {}
    body = response.json()
    assert list(body) == ["error"]
    error: dict[str, Any] = body["error"]
    assert error["code"] == code, summary
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
    """Yield the resources shared by all sandboxes of the session: keys, apps, one live server per contract."""
    shared = SharedResources()
    yield shared
    shared.close()


@pytest.fixture
def contract() -> Contract:
    """Return the contract under test."""
    return DEFAULT_CONTRACT


@pytest.fixture(params=["in-process", "live"])
def mode(request: pytest.FixtureRequest) -> ClientMode:
    """Return the driver; every test that sends requests runs over both."""
    mode: ClientMode = request.param
    return mode


def assert_no_problem_but_unrouted(fake: FakeCredits) -> None:
    """Assert that the only problems are requests to unknown paths, which routing tests make on purpose."""
    assert [problem.text for problem in fake.sandbox.find_problems() if problem.kind != "unrouted"] == []


@pytest.fixture
def api(mode: ClientMode, contract: Contract, shared: SharedResources) -> Iterator[Api]:
    """Yield a client for a fresh sandbox; at the end the sandbox must have no problems."""
    with FakeCredits(mode=mode, shared=shared, contract=contract) as fake:
        if mode == "live":
            fake.serve()
        yield Api(fake, mode, shared)
        assert_no_problem_but_unrouted(fake)


@pytest.fixture
def live_api(contract: Contract, shared: SharedResources) -> Iterator[Api]:
    """Yield a client for a fresh sandbox on the live server."""
    with FakeCredits(mode="live", shared=shared, contract=contract) as fake:
        fake.serve()
        yield Api(fake, "live", shared)
        assert_no_problem_but_unrouted(fake)
