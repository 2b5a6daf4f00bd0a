"""Own the application: which paths are the API's and which are the fake's own, and who answers each."""

from collections.abc import Mapping
from typing import Protocol

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.responses import Response as StarletteResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from fake_credits.api.contract_runtime import ContractRuntime
from fake_credits.api.exchange import Connection, Exchange, RequestHead
from fake_credits.api.pipeline import AsgiReceive, handle, handle_without_waiting
from fake_credits.api.routing import escape_path
from fake_credits.contract import Contract
from fake_credits.errors import ApiError, MethodNotAllowed, RouteNotFound
from fake_credits.faults.context import Delivery
from fake_credits.faults.gates import Gate
from fake_credits.http_message import AsgiMessage, Response
from fake_credits.sandbox import Sandbox
from fake_credits.sandboxes import SandboxRegistry
from fake_credits.tokens.credentials import Credential

__all__ = ["CONNECTION_EXTENSION", "AsgiConnection", "ControlHandler", "CreditsApplication", "create_app"]

CONNECTION_EXTENSION = "fake_credits"
"""The key of ``scope["extensions"]`` under which a driver lends its `Connection`."""

_INTERNAL_PATHS = (b"/_fake/", b"/.well-known/")
_CONTROL_PATHS = (b"/_fake/sandboxes", b"/_fake/presets")


class ControlHandler(Protocol):
    """What serves the control plane of a live server."""

    async def serve(self, scope: AsgiMessage, receive: AsgiReceive, connection: Connection) -> None:
        """Answer one request."""
        ...


def create_app(
    contract: Contract, sandboxes: SandboxRegistry | None = None, control: "ControlHandler | None" = None
) -> "CreditsApplication":
    """Return the API for one contract.

    ``sandboxes`` serve the requests whose connection brings no sandbox of its own: None is for in-process use alone.
    ``control`` is the control plane of a live server.
    """
    return CreditsApplication(ContractRuntime(contract), sandboxes, control)


class CreditsApplication(Starlette):
    """Send the API's paths to an `Exchange`, and the fake's own to Starlette's router.

    The API has a route table of its own (`fake_credits.api.routing`): Starlette's router normalises paths, and costs a
    regular expression a route. Its default middlewares answer errors in plain text, so one boundary replaces them.
    """

    def __init__(
        self, runtime: ContractRuntime, sandboxes: SandboxRegistry | None, control: "ControlHandler | None"
    ) -> None:
        self._runtime = runtime
        self._sandboxes = sandboxes
        self._control = control
        internal_routes = [
            Route("/_fake/livez", _health),
            Route("/_fake/readyz", _health),
            Route("/_fake/openapi.json", self._openapi),
            Route("/.well-known/jwks.json", self._jwks),
            Route("/.well-known/openid-configuration", self._discovery),
        ]
        super().__init__(routes=internal_routes)
        self.router.redirect_slashes = False

    def build_middleware_stack(self) -> ASGIApp:
        """Return the router alone: `__call__` is the one boundary that turns refusals into the contract's errors."""
        return self.router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI has it."""
        connection = _connection_for(scope, send)
        head = RequestHead(scope["method"], scope["raw_path"], scope["query_string"], scope["headers"])
        host_error = connection.host_error(head.raw_path, head.headers)
        if host_error is None and head.raw_path.startswith(_INTERNAL_PATHS):
            await self._serve_internal(scope, receive, send, connection, head)
            return
        if host_error is None and head.method == "OPTIONS":
            preflight = self._runtime.cors.preflight_response(head.headers)
            if preflight is not None:
                await connection.send(preflight, "preflight")
                return
        exchange = self._create_exchange(connection.sandbox, head)
        if host_error is not None:
            exchange.respond_with_error(host_error)
        is_decided = host_error is not None or handle_without_waiting(exchange, connection.body())
        await handle(exchange, connection, receive, is_decided=is_decided)

    def begin_exchange(self, sandbox: Sandbox, head: RequestHead) -> Exchange | None:
        """Return the exchange of a request, None where it may be none: OPTIONS and the fake's own paths."""
        if head.method == "OPTIONS" or head.raw_path.startswith(_INTERNAL_PATHS):
            return None
        return self._create_exchange(sandbox, head)

    def _create_exchange(self, sandbox: Sandbox | None, head: RequestHead) -> Exchange:
        credential: Credential | ApiError
        try:
            credential = self._runtime.credential_reader.find(head.headers)
        except ApiError as error:
            credential = error.with_traceback(None)
        if sandbox is None:
            sandbox = self._route_to_sandbox(None if isinstance(credential, ApiError) else credential)
        return Exchange.begin(self._runtime, sandbox, credential, head)

    async def _serve_internal(
        self, scope: Scope, receive: Receive, send: Send, connection: Connection, head: RequestHead
    ) -> None:
        if self._control is not None and head.raw_path.startswith(_CONTROL_PATHS):
            await self._control.serve(scope, receive, connection)
            return
        try:
            await super().__call__(scope, receive, send)
        except HTTPException as error:
            exchange = self._create_exchange(connection.sandbox, head)
            exchange.respond_with_error(_as_api_error(error, scope))
            await handle(exchange, connection, receive, is_decided=True)

    def _route_to_sandbox(self, credential: Credential | None) -> Sandbox:
        if self._sandboxes is None:
            raise RuntimeError("this application serves no sandbox: make it with create_app(contract, sandboxes)")
        return self._sandboxes.resolve(credential)

    def _sandbox_for_request(self, request: Request) -> Sandbox:
        connection: Connection | None = request.scope.get("extensions", {}).get(CONNECTION_EXTENSION)
        connection_sandbox = None if connection is None else connection.sandbox
        return connection_sandbox or self._route_to_sandbox(None)

    async def _openapi(self, _request: Request) -> StarletteResponse:
        # These cost 15 ms, which every start would pay.
        from importlib.metadata import version

        from fake_credits.api.openapi import openapi_document

        return _json_response("openapi", openapi_document(self._runtime.contract, version("fake-credits")))

    async def _jwks(self, request: Request) -> StarletteResponse:
        return _json_response("jwks", self._sandbox_for_request(request).jwks())

    async def _discovery(self, request: Request) -> StarletteResponse:
        sandbox = self._sandbox_for_request(request)
        document = {
            "issuer": sandbox.issuer.url,
            "jwks_uri": f"{request.scope['scheme']}://{_host_header(request)}/.well-known/jwks.json",
            "id_token_signing_alg_values_supported": list(sandbox.issuer.algorithms),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
        }
        return _json_response("openid-configuration", document)


class AsgiConnection:
    """Be the connection of a request whose server is not one of our drivers: ASGI and no more."""

    sandbox = None

    def __init__(self, send: Send) -> None:
        self._send = send

    def host_error(self, raw_path: bytes, headers: object) -> None:
        """Refuse nothing: the Host is that server's business."""

    def body(self) -> None:
        """Leave the body to be received."""

    async def sleep(self, ms: float, exchange: Exchange) -> None:
        """Wait as that server's event loop does."""
        await anyio.sleep(ms / 1000)

    async def wait_at_gate(self, gate: Gate, exchange: Exchange) -> bool:
        """Refuse: only our drivers can run an exchange on in the order of its release."""
        raise NotImplementedError(f"{gate!r} needs one of fake-credits' own drivers")

    def schedule_run_due(self, ms: float, sandbox: Sandbox) -> None:
        """Do nothing: whoever comes next runs what is due."""

    async def is_client_connected(self) -> bool:
        """Believe that the client is there."""
        return True

    async def send(self, response: Response, request_id: str) -> None:
        """Send a whole answer as one head and one body."""
        headers = response.full_headers(request_id)
        await self._send({"type": "http.response.start", "status": response.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": response.body})

    async def abort(self, delivery: Delivery, exchange: Exchange) -> None:
        """Refuse: ASGI has no way to break a connection."""
        raise NotImplementedError(f"{delivery!r} needs one of fake-credits' own drivers")


def _connection_for(scope: Scope, send: Send) -> Connection:
    connection: Connection | None = scope.get("extensions", {}).get(CONNECTION_EXTENSION)
    return AsgiConnection(send) if connection is None else connection


def _host_header(request: Request) -> str:
    """Return the Host as it was sent: in process it can be anything, and no URL."""
    return request.headers.get("host") or str((request.scope.get("server") or ("localhost",))[0])


def _as_api_error(error: HTTPException, scope: Scope) -> ApiError:
    request_line = f"{scope['method']} {escape_path(scope['raw_path'])}"
    if error.status_code == MethodNotAllowed.default_status:
        allow = (error.headers or {}).get("Allow", "GET")
        return MethodNotAllowed(f"{request_line} is not allowed; it takes {allow}", allow=allow)
    internal_paths = (
        "/_fake/livez, /_fake/readyz, /_fake/openapi.json and, on a live server, those of the control plane"
    )
    return RouteNotFound(f"there is no {request_line}; the fake's own paths are {internal_paths}")


async def _health(_request: Request) -> StarletteResponse:
    return _json_response("health", {"status": "ok"})


def _json_response(name: str, content: Mapping[str, object]) -> StarletteResponse:
    """Return an answer that is no exchange: its request id says what it is, as there is no entry of the journal."""
    return JSONResponse(content, headers={"Cache-Control": "no-store", "X-Request-Id": name})
