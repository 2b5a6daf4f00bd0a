"""Own the way of one request to the control plane: who may ask, what was asked, and the answer as JSON.

    path → method → origin → token → query → body, bounded → verb → answer

No fault touches it, and no request of it is an exchange. It serves live servers only: verbs that wait for exchanges
run in worker threads, so that the server's loop can run those.
"""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

import msgspec
from starlette.types import Receive, Scope, Send

from fake_credits.api.app import send_response
from fake_credits.api.routing import escape_path, split_path
from fake_credits.control.request import ControlContext, ControlRequest
from fake_credits.errors import CONTROL_ERRORS, ApiError, ControlError, MalformedRequest
from fake_credits.http_message import Headers, Response
from fake_credits.keyed_random import random_name
from fake_credits.sandbox import Sandbox
from fake_credits.sandbox_options import SandboxOptions
from fake_credits.sandboxes import SandboxRegistry

if TYPE_CHECKING:
    from fake_credits.control.routes import ControlRoute

__all__ = ["MAX_CONTROL_BODY_BYTES", "TOKEN_HEADER", "ControlPlane"]

T = TypeVar("T")

TOKEN_HEADER = "X-Fake-Credits-Control"  # noqa: S105 - the name of a header
"""Where the control token travels: in a header that no API has, so it is never taken for the API's credential."""

MAX_CONTROL_BODY_BYTES = 1024 * 1024
"""A body of the control plane may be larger than the API's: it may be a thousand rules."""

_PATH_PREFIX = b"/_fake"
_RAW_TOKEN_HEADER = TOKEN_HEADER.lower().encode("ascii")


class ControlPlane:
    """Govern a live server's sandboxes over HTTP, for whoever has the ``token``: a fresh one unless given.

    ``new_sandbox`` makes sandboxes with the server's keys and a name of their own.
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
        self._context = ControlContext(sandboxes, new_sandbox, sandbox_limit)

    def __repr__(self) -> str:
        return f"<ControlPlane of {len(self._context.sandboxes)} sandboxes>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        try:
            response = await self._handle(scope, receive)
        except ControlError as control_error:
            response = _error_response(control_error)
        except ApiError as error:
            code = error.code if error.code in CONTROL_ERRORS else "validation_error"
            response = _error_response(ControlError(code, error.message, details=error.details))
        except Exception as bug:  # noqa: BLE001 - remembered, and told
            self._context.sandboxes.base_sandbox.add_bug(bug)
            response = _error_response(
                ControlError("internal_error", f"a bug of fake-credits: {type(bug).__name__}: {bug}")
            )
        response.request_id = "control"
        await send_response(response, send)

    async def _handle(self, scope: Scope, receive: Receive) -> Response:
        from fake_credits.control.schemas import parse_body, parse_query  # most servers are never asked

        headers: Headers = scope["headers"]
        host = next((value.decode("latin-1") for name, value in headers if name == b"host"), "localhost")
        base_url = f"{scope['scheme']}://{host}"
        route, path_params = _match_scope(scope)
        _check_origin(headers, base_url)
        self._check_token(headers)
        query: object = parse_query(scope["query_string"], route.query)
        body = await _receive_json(headers, receive)
        request = ControlRequest(self._context, base_url, path_params, query, parse_body(body, route.body))
        if route.async_handler is not None:
            return _success_response(route, await _until_disconnect(route.async_handler(request), receive))
        return await asyncio.to_thread(_call_handler, route, request)

    def _check_token(self, headers: Headers) -> None:
        tokens = [value for name, value in headers if name == _RAW_TOKEN_HEADER]
        if len(tokens) != 1 or not hmac.compare_digest(tokens[0], self.token.encode("latin-1")):
            problem = "holds another token" if tokens else "is missing"
            raise ControlError(
                "control_token_required",
                f"the header {TOKEN_HEADER} {problem}: `serve` prints the token, `run` sets FAKE_CREDITS_CONTROL_TOKEN "
                "(open to all are /_fake/livez, /_fake/readyz and /_fake/openapi.json)",
            )


def _match_scope(scope: Scope) -> "tuple[ControlRoute, Mapping[str, str]]":
    from fake_credits.control.routes import match_route  # loads every effect, preset and scenario

    raw_path: bytes = scope["raw_path"]
    try:
        segments = split_path(raw_path.removeprefix(_PATH_PREFIX))
    except MalformedRequest as error:
        raise ControlError(error.code, error.message) from None
    return match_route(scope["method"], segments[1:], f"{scope['method']} {escape_path(raw_path)}")


def _call_handler(route: "ControlRoute", request: ControlRequest) -> Response:
    assert route.handler is not None  # noqa: S101 - a route has one or the other
    return _success_response(route, route.handler(request))


def _success_response(route: "ControlRoute", content: object) -> Response:
    return Response(route.status, msgspec.json.encode(content))


def _error_response(error: ControlError) -> Response:
    fields: dict[str, object] = {"code": error.code, "message": error.message}
    if error.details:
        fields["details"] = [{"field": detail.field, "problem": detail.problem} for detail in error.details]
    headers: Headers = [(b"x-fake-credits-cause", b"control")]
    if error.allow:
        headers.append((b"allow", error.allow.encode("ascii")))
    if error.code == "control_token_required":
        headers.append((b"www-authenticate", TOKEN_HEADER.encode("ascii")))  # RFC 9110, 15.5.2: a 401 has a challenge
    return Response(error.status, msgspec.json.encode({"error": fields}), headers)


def _check_origin(headers: Headers, base_url: str) -> None:
    """Refuse what a page of another origin sends: this server's own pages may ask, and programs send no Origin."""
    for name, value in headers:
        if name == b"origin" and value.decode("latin-1") != base_url:
            raise ControlError("origin_not_allowed", "the control plane answers to no page of another origin")


async def _receive_json(headers: Headers, receive: Receive) -> bytes:
    """Return the body; raise ControlError if it is too large, or neither empty nor declared as JSON."""
    body, more_body = b"", True
    while more_body and len(body) <= MAX_CONTROL_BODY_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ControlError("malformed_request", "the client disconnected before the body was complete")
        body += message.get("body", b"")
        more_body = message.get("more_body", False)
    if len(body) > MAX_CONTROL_BODY_BYTES:
        raise ControlError("payload_too_large", f"a body may have at most {MAX_CONTROL_BODY_BYTES} bytes (1 MiB)")
    media_types = [value.partition(b";")[0].strip().lower() for name, value in headers if name == b"content-type"]
    if body and media_types != [b"application/json"]:
        raise ControlError("unsupported_media_type", "a body must be JSON: send Content-Type: application/json")
    return body


async def _until_disconnect(awaitable: Awaitable[T], receive: Receive) -> T:
    """Return the result of a wait; raise ControlError if the client disconnects first, or the server stops."""
    result, disconnect = asyncio.ensure_future(awaitable), asyncio.ensure_future(receive())
    try:
        await asyncio.wait((result, disconnect), return_when=asyncio.FIRST_COMPLETED)
        if not result.done():
            raise ControlError("malformed_request", "the client disconnected while it waited")
        return result.result()
    finally:
        for future in (result, disconnect):
            future.cancel()
        await asyncio.gather(result, disconnect, return_exceptions=True)
