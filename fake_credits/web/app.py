"""Own the application: which paths are the API's and which are the fake's own, and who answers each."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from fake_credits.auth.credentials import Credential
from fake_credits.contract import Contract
from fake_credits.errors import ApiError, MethodNotAllowed, RouteNotFound
from fake_credits.faults.gates import Hold
from fake_credits.faults.stage import Wire
from fake_credits.sandbox import Sandbox, Sandboxes
from fake_credits.web.answer import Answer
from fake_credits.web.exchange import Asked, Exchange, Line
from fake_credits.web.routing import escape
from fake_credits.web.service import Service
from fake_credits.web.way import attempt, go

if TYPE_CHECKING:
    from fake_credits.web.control.plane import ControlPlane

__all__ = ["EXTENSION", "CreditsApplication", "create_app"]

EXTENSION = "fake_credits"
"""The key of ``scope["extensions"]`` under which a driver lends its `Line`."""

_OWN_PATHS = (b"/_fake/", b"/.well-known/")
_CONTROL_PATHS = (b"/_fake/sandboxes", b"/_fake/presets")


def create_app(
    contract: Contract, sandboxes: Sandboxes | None = None, control: "ControlPlane | None" = None
) -> "CreditsApplication":
    """Return the API for one contract.

    ``sandboxes`` serve the requests whose line brings no sandbox of its own: None is for in-process use alone.
    ``control`` is the control plane of a live server.
    """
    return CreditsApplication(Service(contract), sandboxes, control)


class CreditsApplication(Starlette):
    """Send the API's paths to an `Exchange`, and the fake's own to Starlette's router.

    The API has a route table of its own (`fake_credits.web.routing`): Starlette's router normalises paths, and costs a
    regular expression a route. Its default middlewares answer errors in plain text, so one boundary replaces them.
    """

    def __init__(self, service: Service, sandboxes: Sandboxes | None, control: "ControlPlane | None") -> None:
        self._service = service
        self._sandboxes = sandboxes
        self._control = control
        own = [
            Route("/_fake/livez", _alive),
            Route("/_fake/readyz", _alive),
            Route("/_fake/openapi.json", self._openapi),
            Route("/.well-known/jwks.json", self._jwks),
            Route("/.well-known/openid-configuration", self._discovery),
        ]
        super().__init__(routes=own)
        self.router.redirect_slashes = False

    def build_middleware_stack(self) -> ASGIApp:
        """Return the router alone: `__call__` is the one boundary that turns refusals into the contract's errors."""
        return self.router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI has it."""
        line = _line(scope, send)
        asked = Asked(scope["method"], scope["raw_path"], scope["query_string"], scope["headers"])
        refusal = line.refusal(asked.raw_path, asked.headers)
        if refusal is None and asked.raw_path.startswith(_OWN_PATHS):
            await self._answer_own(scope, receive, send, line, asked)
            return
        if refusal is None and asked.method == "OPTIONS":
            preflight = self._service.cors.preflight(asked.headers)
            if preflight is not None:
                await line.deliver(preflight, "preflight")
                return
        exchange = self._begin(line.sandbox, asked)
        if refusal is not None:
            exchange.refuse(refusal)
        decided = refusal is not None or attempt(exchange, line.body())
        await go(exchange, line, receive, decided=decided)

    def begin(self, sandbox: Sandbox, asked: Asked) -> Exchange | None:
        """Return the exchange of a request, None where it may be none: OPTIONS and the fake's own paths."""
        if asked.method == "OPTIONS" or asked.raw_path.startswith(_OWN_PATHS):
            return None
        return self._begin(sandbox, asked)

    def _begin(self, sandbox: Sandbox | None, asked: Asked) -> Exchange:
        credential: Credential | ApiError
        try:
            credential = self._service.credentials.find(asked.headers)
        except ApiError as refusal:
            credential = refusal.with_traceback(None)
        if sandbox is None:
            sandbox = self._pick(None if isinstance(credential, ApiError) else credential)
        return Exchange.begin(self._service, sandbox, credential, asked)

    async def _answer_own(self, scope: Scope, receive: Receive, send: Send, line: Line, asked: Asked) -> None:
        if self._control is not None and asked.raw_path.startswith(_CONTROL_PATHS):
            await self._control.serve(scope, receive, line)
            return
        try:
            await super().__call__(scope, receive, send)
        except HTTPException as error:
            exchange = self._begin(line.sandbox, asked)
            exchange.refuse(_not_ours(error, scope))
            await go(exchange, line, receive, decided=True)

    def _pick(self, credential: Credential | None) -> Sandbox:
        if self._sandboxes is None:
            raise RuntimeError("this application serves no sandbox: make it with create_app(contract, sandboxes)")
        return self._sandboxes.pick(credential)

    def _sandbox(self, request: Request) -> Sandbox:
        lent: Line | None = request.scope.get("extensions", {}).get(EXTENSION)
        own = None if lent is None else lent.sandbox
        return own or self._pick(None)

    async def _openapi(self, _request: Request) -> Response:
        # These cost 15 ms, which every start would pay.
        from importlib.metadata import version

        from fake_credits.web.openapi import openapi

        return _document("openapi", openapi(self._service.contract, version("fake-credits")))

    async def _jwks(self, request: Request) -> Response:
        return _document("jwks", self._sandbox(request).jwks())

    async def _discovery(self, request: Request) -> Response:
        sandbox = self._sandbox(request)
        document = {
            "issuer": sandbox.issuer.url,
            "jwks_uri": f"{request.scope['scheme']}://{_host(request)}/.well-known/jwks.json",
            "id_token_signing_alg_values_supported": list(sandbox.issuer.algorithms),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
        }
        return _document("openid-configuration", document)


class _Direct:
    """Be the line of a request whose server is not one of our drivers: ASGI and no more."""

    sandbox = None

    def __init__(self, send: Send) -> None:
        self._send = send

    def refusal(self, raw_path: bytes, headers: object) -> None:
        """Refuse nothing: the Host is that server's business."""

    def body(self) -> None:
        """Leave the body to be received."""

    async def sleep(self, ms: float, exchange: Exchange) -> None:
        """Wait as that server's event loop does."""
        await anyio.sleep(ms / 1000)

    async def hold(self, gate: Hold, exchange: Exchange) -> bool:
        """Refuse: only our drivers can run an exchange on in the order of its release."""
        raise NotImplementedError(f"{gate!r} needs one of fake-credits' own drivers")

    def remind(self, ms: float, sandbox: Sandbox) -> None:
        """Do nothing: whoever comes next runs what is due."""

    async def deliverable(self) -> bool:
        """Believe that the client is there."""
        return True

    async def deliver(self, answer: Answer, request_id: str) -> None:
        """Send a whole answer as one head and one body."""
        headers = answer.all_headers(request_id)
        await self._send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": answer.body})

    async def break_off(self, wire: Wire, exchange: Exchange) -> None:
        """Refuse: ASGI has no way to break a connection."""
        raise NotImplementedError(f"{wire!r} needs one of fake-credits' own drivers")


def _line(scope: Scope, send: Send) -> Line:
    lent: Line | None = scope.get("extensions", {}).get(EXTENSION)
    return _Direct(send) if lent is None else lent


def _host(request: Request) -> str:
    """Return the Host as it was sent: in process it can be anything, and no URL."""
    return request.headers.get("host") or str((request.scope.get("server") or ("localhost",))[0])


def _not_ours(error: HTTPException, scope: Scope) -> ApiError:
    shown = f"{scope['method']} {escape(scope['raw_path'])}"
    if error.status_code == MethodNotAllowed.default_status:
        allow = (error.headers or {}).get("Allow", "GET")
        return MethodNotAllowed(f"{shown} is not allowed; it takes {allow}", allow=allow)
    own = "/_fake/livez, /_fake/readyz, /_fake/openapi.json and, on a live server, those of the control plane"
    return RouteNotFound(f"there is no {shown}; the fake's own paths are {own}")


async def _alive(_request: Request) -> Response:
    return _document("health", {"status": "ok"})


def _document(name: str, content: Mapping[str, object]) -> Response:
    """Return an answer that is no exchange: its request id says what it is, as there is no entry of the journal."""
    return JSONResponse(content, headers={"Cache-Control": "no-store", "X-Request-Id": name})
