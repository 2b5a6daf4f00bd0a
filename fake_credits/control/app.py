"""The control plane as an ASGI application for live servers.

Each request is processed in this order::

    path → method → origin → token → query and body → handler → response

Control plane requests are not journaled, and faults do not affect them.
"""

import asyncio
import hmac
import inspect
import json
import threading
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from fake_credits.control_schemas import TOKEN_HEADER, ErrorBody
from fake_credits.errors import CONTROL_ERRORS, ApiError, ControlError, Problem
from fake_credits.keyed_random import random_name
from fake_credits.sandbox import Sandbox
from fake_credits.sandbox_options import SandboxOptions
from fake_credits.sandboxes import SandboxRegistry

T = TypeVar("T")


class ControlPlane:
    """The control plane for a server's sandboxes, open to clients that send ``token`` (by default a random one).

    ``new_sandbox`` creates a sandbox with the server's keys and a unique name. While ``is_ready`` is false, the
    readiness check responds with 503.
    """

    def __init__(
        self,
        sandboxes: SandboxRegistry,
        new_sandbox: Callable[[SandboxOptions], Sandbox],
        token: str = "",
        *,
        sandbox_limit: int = 1000,
    ) -> None:
        self.token = token or random_name("fake_credits_control_")
        self.sandboxes = sandboxes
        self.is_ready = True
        self._defaults = {self.token: sandboxes.base_sandbox}
        self._new_sandbox = new_sandbox
        self._sandbox_limit = sandbox_limit
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<ControlPlane: sandboxes={len(self.sandboxes)}>"

    def add_token(self, sandbox: Sandbox) -> str:
        """Return a new token, valid until it is removed; in requests that carry it, "default" refers to ``sandbox``."""
        token = random_name("fake_credits_control_")
        self._defaults[token] = sandbox
        return token

    def remove_token(self, token: str) -> None:
        """Stop accepting a token that `add_token` returned."""
        del self._defaults[token]

    def find_sandbox(self, name: str, token: str = "") -> Sandbox:
        """Return the sandbox with this name; raise ControlError if there is none.

        "default" is the server's first sandbox, unless `add_token` returned ``token`` for another one.
        """
        default = self._defaults.get(token, self.sandboxes.base_sandbox)
        sandbox = default if name == "default" else self.sandboxes.get(name)
        if sandbox is None:
            raise ControlError("sandbox_not_found", f"sandbox {name!r} does not exist or is closed")
        return sandbox

    def add_sandbox(self, options: SandboxOptions) -> Sandbox:
        """Create and return a sandbox.

        Raises ControlError if the limit is reached or the API key is taken, and ValueError for invalid options.
        """
        with self._lock:
            count = len(self.sandboxes)
            if count >= self._sandbox_limit:
                raise ControlError(
                    "sandbox_limit",
                    f"the sandbox limit of {self._sandbox_limit} has been reached; "
                    "close some sandboxes, or raise --sandbox-limit",
                )
            sandbox = self._new_sandbox(options)
            try:
                self.sandboxes.attach(sandbox, as_default=False)
            except ValueError as error:
                details = (Problem("api_key", "is in use by another sandbox"),)
                raise ControlError("conflict", str(error), details=details) from None
            return sandbox

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        try:
            response = await self._handle(Request({**scope, "app": self}, receive))
        except ControlError as control_error:
            response = _error_response(control_error)
        except ApiError as error:
            code = error.code if error.code in CONTROL_ERRORS else "validation_error"
            response = _error_response(ControlError(code, error.message, details=error.details))
        except Exception as bug:  # noqa: BLE001 - recorded, and reported to the client
            self.sandboxes.base_sandbox.add_bug(bug)
            response = _error_response(
                ControlError("internal_error", f"a bug in fake-credits: {type(bug).__name__}: {bug}")
            )
        await response(scope, receive, send)

    async def _handle(self, request: Request) -> "_ControlResponse":
        if request.scope["raw_path"] == b"/_fake/readyz":  # the application serves it once `is_ready` is true
            raise ControlError(
                "not_ready", "the server is up, but has not yet written its ready file and printed its variables"
            )
        # Imported here because it loads all effects and presets, and few servers get control requests.
        from fake_credits.control.routes import match_route

        route, request.scope["path_params"] = match_route(request.method, request.scope["raw_path"])
        if any(origin != str(request.base_url).rstrip("/") for origin in request.headers.getlist("origin")):
            raise ControlError("origin_not_allowed", "web pages from other origins can't use the control plane")
        self._check_token(request)
        body = await request.body()  # the server limits its size
        media_types = [text.partition(";")[0].strip().lower() for text in request.headers.getlist("content-type")]
        if body and media_types != ["application/json"]:
            raise ControlError("unsupported_media_type", "the body must be JSON, with Content-Type: application/json")
        members = route.parse(request.query_params, body)
        if inspect.iscoroutinefunction(route.endpoint):
            waiting = route.call(request, members)
            return _ControlResponse(await _until_disconnect(waiting, request.receive), route.status)
        return await asyncio.to_thread(lambda: _ControlResponse(route.call(request, members), route.status))

    def _check_token(self, request: Request) -> None:
        tokens = request.headers.getlist(TOKEN_HEADER)
        given = tokens[0].encode("latin-1") if len(tokens) == 1 else b""
        if not any(hmac.compare_digest(given, token.encode("latin-1")) for token in tuple(self._defaults)):
            problem = "has the wrong token" if tokens else "is missing"
            raise ControlError(
                "control_token_required",
                f"the header {TOKEN_HEADER} {problem}; `serve` prints the token, and `run` sets "
                "FAKE_CREDITS_CONTROL_TOKEN "
                "(no token is needed for /_fake/livez, /_fake/readyz or /_fake/openapi.json)",
            )


class _ControlResponse(JSONResponse):
    """A JSON response that can include schema instances; times are formatted to the millisecond."""

    def __init__(self, content: object, status: int, **headers: str) -> None:
        super().__init__(content, status, {"Cache-Control": "no-store", "X-Request-Id": "control", **headers})

    def render(self, content: Any) -> bytes:
        members = msgspec.to_builtins(content, builtin_types=(datetime,))
        return json.dumps(
            members,
            default=lambda time: time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            separators=(",", ":"),
        ).encode()


def _error_response(error: ControlError) -> _ControlResponse:
    headers = {"X-Fake-Credits-Cause": "control"}
    if error.allow:
        headers["Allow"] = error.allow
    if error.code == "control_token_required":
        headers["WWW-Authenticate"] = TOKEN_HEADER  # required for a 401 (RFC 9110, 15.5.2)
    content = {"error": ErrorBody(error.code, error.message, error.details)}
    return _ControlResponse(content, error.status, **headers)


async def _until_disconnect(awaitable: Awaitable[T], receive: Receive) -> T:
    """Return the result of ``awaitable``; raise ControlError if the client disconnects or the server stops first."""
    result, disconnect = asyncio.ensure_future(awaitable), asyncio.ensure_future(receive())
    try:
        await asyncio.wait((result, disconnect), return_when=asyncio.FIRST_COMPLETED)
        if not result.done():
            raise ControlError("malformed_request", "the client disconnected while waiting")
        return result.result()
    finally:
        for future in (result, disconnect):
            future.cancel()
        await asyncio.gather(result, disconnect, return_exceptions=True)
