"""The ASGI application: it serves the API on any ASGI server, and the fake's own paths on every transport."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import quote

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse
from starlette.responses import Response as StarletteResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from fake_credits.api.exchange import ContractRuntime, Exchange
from fake_credits.api.pipeline import dispatch, handle
from fake_credits.api.routing import escape_path
from fake_credits.contract import Contract
from fake_credits.errors import ApiError, MalformedRequest, MethodNotAllowed, RouteNotFound
from fake_credits.faults.waits import CHECKPOINT, Body, ExchangeCoroutine, Sleep, Wait, resume, throw
from fake_credits.http_message import AsgiMessage, Headers, Request, Response
from fake_credits.sandbox import Sandbox
from fake_credits.sandboxes import SandboxRegistry
from fake_credits.tokens.minting import AUTH_PROVIDERS

SANDBOX_KEY = "fake_credits.sandbox"
"""The key in an ASGI scope under which the in-process transport passes its sandbox."""

_CONTROL_PATHS = ("/_fake/sandboxes", "/_fake/presets")
_READINESS_PATH = "/_fake/readyz"


class WaitingConnection(Protocol):
    """A connection that can wait in an event loop."""

    async def wait(self, wait: Wait) -> object:
        """Carry out a wait, and return the value with which to resume the request."""
        ...


class ControlApplication(Protocol):
    """The control plane of a live server, which also serves the readiness path until ``is_ready`` is true."""

    is_ready: bool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        ...


def create_app(contract: Contract, sandboxes: SandboxRegistry | None = None) -> "CreditsApplication":
    """Return the API for one contract as an ASGI application, for any ASGI server.

    Requests go to ``sandboxes``, which from then on reject faults that ASGI can't produce. Only the in-process
    transport passes None as ``sandboxes``. Raises FaultError if a sandbox already has such a fault.
    """
    if sandboxes is not None:
        sandboxes.refuse_connection_faults()
    return CreditsApplication(contract, sandboxes)


class CreditsApplication(Starlette):
    """The application for one contract, with a route table for API paths and Starlette's router for all others.

    API paths bypass Starlette's router, because it normalizes paths and tries one regular expression per route.
    Starlette's default middleware is left out, because it responds to errors in plain text. ``control`` is the control
    plane of a live server.
    """

    def __init__(
        self, contract: Contract, sandboxes: SandboxRegistry | None, control: ControlApplication | None = None
    ) -> None:
        self.runtime = ContractRuntime(contract)
        self._sandboxes = sandboxes
        self._control = control
        routes = [
            Route("/_fake/livez", _health),
            Route(_READINESS_PATH, _health),
            Route("/_fake/openapi.json", self._openapi),
            Route("/.well-known/jwks.json", self._jwks),
            Route("/.well-known/openid-configuration", self._discovery),
            *(Route(provider.keys_path, self._jwks) for provider in AUTH_PROVIDERS.values() if provider.keys_path),
        ]
        super().__init__(routes=routes)
        self.router.redirect_slashes = False

    def build_middleware_stack(self) -> ASGIApp:
        """Return the router itself, without middleware."""
        return self.router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection; lifespan events are acknowledged but have no effect."""
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})  # closing before accepting makes the server respond with 403
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:
            raise NotImplementedError(f"unsupported ASGI scope type {scope['type']!r}")

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = _request_of(scope)
        target = dispatch(self.runtime, request, self._registry())
        if isinstance(target, Exchange):
            connection = AsgiConnection(receive, send)
            coroutine = handle(target, connection)
            await drive(coroutine, resume(coroutine, None), connection)
            await connection.flush()
        elif target is None:
            await self.serve_internal({**scope, "raw_path": request.target.partition(b"?")[0]}, receive, send)
        else:
            await send_response(target, send)

    async def serve_internal(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request for one of the fake's own paths; the scope's ``raw_path`` is relative to ``root_path``."""
        path = scope["raw_path"].decode("latin-1")
        control = self._control
        if control and (path.startswith(_CONTROL_PATHS) or (path == _READINESS_PATH and not control.is_ready)):
            await control(scope, receive, send)
            return
        scope = {**scope, "path": scope.get("root_path", "") + path, "app": self}
        try:
            await self.router(scope, receive, send)
        except HTTPException as error:
            response = self._journal_refusal(scope, _as_api_error(error, scope))
            await send_response(response, send)

    def _journal_refusal(self, scope: Scope, error: ApiError) -> Response:
        """Return the response for an unknown path or method, and journal the exchange."""
        sandbox = self._sandbox_of(scope)
        request = Request(scope["method"], scope["raw_path"], scope["headers"])
        exchange = Exchange.begin(self.runtime, sandbox, error, request)
        response = exchange.respond_with_error(error)
        exchange.finish(is_connected=True)
        return response

    def _registry(self) -> SandboxRegistry:
        if self._sandboxes is None:
            raise RuntimeError("this application has no sandboxes: create it with create_app(contract, sandboxes)")
        return self._sandboxes

    def _sandbox_of(self, scope: Scope) -> Sandbox:
        sandbox: Sandbox | None = scope.get(SANDBOX_KEY)
        return self._registry().resolve(None) if sandbox is None else sandbox

    async def _openapi(self, _request: StarletteRequest) -> StarletteResponse:
        # Imported here because these imports take 15 ms, which would slow down every startup.
        from importlib.metadata import version

        from fake_credits.api.openapi import openapi_document

        return _json_response("openapi", openapi_document(self.runtime.contract, version("fake-credits")))

    async def _jwks(self, request: StarletteRequest) -> StarletteResponse:
        return _json_response("jwks", self._sandbox_of(request.scope).jwks())

    async def _discovery(self, request: StarletteRequest) -> StarletteResponse:
        """Return the OpenID Connect Discovery document; it names login endpoints, although login is not supported."""
        issuer, base_url = self._sandbox_of(request.scope).minter.issuer, _base_url(request)
        document = {
            "issuer": issuer.url,
            "authorization_endpoint": f"{base_url}/oauth/authorize",
            "token_endpoint": f"{base_url}/oauth/token",
            "userinfo_endpoint": f"{base_url}/oauth/userinfo",
            "jwks_uri": f"{base_url}/.well-known/jwks.json",
            "scopes_supported": ["openid"],
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": list(issuer.algorithms),
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            "claims_supported": ["iss", "sub", "aud", "iat", "exp"],
        }
        return _json_response("openid-configuration", document)


async def drive(coroutine: ExchangeCoroutine, wait: Wait | None, connection: WaitingConnection) -> None:
    """Run a waiting request to completion in an event loop."""
    while wait is not None:
        try:
            value = await connection.wait(wait)
        except BaseException as error:  # noqa: BLE001 - re-raised in the coroutine, which handles it
            wait = throw(coroutine, error)
        else:
            wait = resume(coroutine, value)


class AsgiConnection:
    """The ASGI connection for one request; it can be neither closed nor reset.

    ASGI's ``send`` must be awaited, so messages are buffered until the request waits or ends.
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._messages: list[AsgiMessage] = []
        self._is_connected = True

    async def wait(self, wait: Wait) -> object:
        """Send the buffered messages, and wait in the server's event loop."""
        await self.flush()
        if wait is CHECKPOINT:
            return self._is_connected
        if isinstance(wait, Body):
            return await self._receive_body(wait)
        if isinstance(wait, Sleep):
            await self._sleep(wait.ms / 1000)
            return None
        raise NotImplementedError(f"{wait!r} is not supported over ASGI; use the live server")

    async def flush(self) -> None:
        """Send the buffered messages."""
        messages, self._messages = self._messages, []
        for message in messages:
            await self._send(message)

    async def _receive_body(self, wait: Body) -> bytes:
        body = bytearray()
        while (message := await self._receive())["type"] != "http.disconnect":
            body += message.get("body", b"")
            if len(body) > wait.limit_bytes:
                raise wait.too_large()
            if not message.get("more_body", False):
                return bytes(body)
        self._is_connected = False
        raise MalformedRequest("the client disconnected before the body was complete")

    async def _sleep(self, seconds: float) -> None:
        """Sleep for the full time even if the client disconnects, but record the disconnect."""
        end_s = anyio.current_time() + seconds
        with anyio.CancelScope(deadline=end_s):
            while self._is_connected:
                self._is_connected = (await self._receive())["type"] != "http.disconnect"
        await anyio.sleep_until(end_s)

    def send(self, response: Response) -> None:
        """Send a complete response."""
        self._messages += _messages_of(response)

    def start(self, response: Response) -> None:
        """Send the head of a response."""
        self._messages.append(_messages_of(response)[0])

    def write(self, data: bytes) -> None:
        """Send part of the body."""
        self._messages.append({"type": "http.response.body", "body": data, "more_body": True})

    def end(self) -> None:
        """Finish the response that was started."""
        self._messages.append({"type": "http.response.body", "body": b""})

    def close(self) -> None:
        """Raise NotImplementedError, because ASGI can't close a connection."""
        raise NotImplementedError("closing a connection is not supported over ASGI; use the live server")

    def reset(self) -> None:
        """Raise NotImplementedError, because ASGI can't reset a connection."""
        raise NotImplementedError("resetting a connection is not supported over ASGI; use the live server")

    def call_later(self, ms: float, callback: Callable[[], object]) -> None:
        """Do nothing; the next request runs the timers that are due."""


async def send_response(response: Response, send: Send) -> None:
    """Send a complete response over ASGI."""
    for message in _messages_of(response):
        await send(message)


def _messages_of(response: Response) -> tuple[AsgiMessage, AsgiMessage]:
    """Return a response as ASGI messages, without a Date header, which the server adds."""
    headers = response.full_headers(None)
    return (
        {"type": "http.response.start", "status": response.status, "headers": headers},
        {"type": "http.response.body", "body": response.body},
    )


def _request_of(scope: Scope) -> Request:
    """Return the request described by an ASGI scope, with its path relative to the scope's ``root_path``.

    If the server does not set ``raw_path``, an encoded slash in an id looks like a separator, so the path may match no
    route or the wrong one.
    """
    path: bytes = scope.get("raw_path") or _quote_path(scope["path"])
    root_path = _quote_path(scope.get("root_path", ""))
    if root_path and (path + b"/").startswith(root_path.rstrip(b"/") + b"/"):
        path = path[len(root_path.rstrip(b"/")) :] or b"/"
    query: bytes = scope.get("query_string", b"")
    headers: Headers = [(name.lower(), value.strip(b" \t")) for name, value in scope["headers"]]
    if not scope.get("http_version", "1.1").startswith("1") and scope["method"] not in ("GET", "HEAD", "OPTIONS"):
        # HTTP/2 and HTTP/3 allow a body without Content-Length or Transfer-Encoding
        headers.append((b"transfer-encoding", b"chunked"))
    return Request(scope["method"], path + (b"?" + query if query else b""), headers, None)


def _quote_path(path: str) -> bytes:
    """Percent-encode a path that the server has decoded, including any lone surrogates."""
    return quote(path, safe="/:@!$&'()*+,;=~", errors="surrogatepass").encode("ascii")


def _base_url(request: StarletteRequest) -> str:
    """Return the application's base URL with the request's Host, which is not validated for in-process requests."""
    host = request.headers.get("host") or str((request.scope.get("server") or ("localhost",))[0])
    return f"{request.scope['scheme']}://{host}{_quote_path(request.scope.get('root_path', '')).decode()}"


def _as_api_error(error: HTTPException, scope: Scope) -> ApiError:
    request_line = f"{scope['method']} {escape_path(scope['raw_path'])}"
    if error.status_code == MethodNotAllowed.default_status:
        methods = (error.headers or {}).get("Allow", "GET").split(", ")  # Starlette joins a set, so the order is random
        allow = ", ".join(sorted(methods))
        return MethodNotAllowed(f"{request_line} is not allowed; use {allow}", allow=allow)
    internal_paths = (
        "/_fake/livez, /_fake/readyz, /_fake/openapi.json and, on a live server, those of the control plane"
    )
    return RouteNotFound(f"{request_line} does not exist; the fake's own paths include {internal_paths}")


async def _health(_request: StarletteRequest) -> StarletteResponse:
    return _json_response("health", {"status": "ok"})


def _json_response(name: str, content: Mapping[str, Any]) -> StarletteResponse:
    """Return a JSON response with a fixed request id, because the exchange is not journaled."""
    return JSONResponse(content, headers={"Cache-Control": "no-store", "X-Request-Id": name})
