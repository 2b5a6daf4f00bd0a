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

from fake_credits.chance import fresh_name
from fake_credits.errors import CONTROL_ERRORS, ApiError, ControlError, MalformedRequest
from fake_credits.sandbox import Sandbox, Sandboxes, SandboxSettings
from fake_credits.web.answer import Answer, Headers, Message
from fake_credits.web.control.call import ControlCall, Estate
from fake_credits.web.exchange import Line
from fake_credits.web.routing import escape, segments_of
from fake_credits.web.way import Receive

if TYPE_CHECKING:
    from fake_credits.web.control.table import ControlRoute

__all__ = ["BODY_LIMIT_BYTES", "TOKEN_HEADER", "ControlPlane"]

T = TypeVar("T")

TOKEN_HEADER = "X-Fake-Credits-Control"  # noqa: S105 - the name of a header
"""Where the control token travels: in a header that no API has, so it is never taken for the API's credential."""

BODY_LIMIT_BYTES = 1024 * 1024
"""A body of the control plane may be larger than the API's: it may be a thousand rules."""

_PREFIX = b"/_fake"
_ASK_EVERY_S = 0.05
_HEADER = TOKEN_HEADER.lower().encode("ascii")


class ControlPlane:
    """Govern a live server's sandboxes over HTTP, for whoever has the ``token``: a fresh one unless given.

    ``new_sandbox`` makes sandboxes with the server's keys and a name of their own.
    """

    def __init__(
        self,
        sandboxes: Sandboxes,
        new_sandbox: Callable[[SandboxSettings], Sandbox],
        token: str = "",
        *,
        sandbox_limit: int = 1000,
    ) -> None:
        self.token = token or fresh_name("fake_credits_control_")
        self._estate = Estate(sandboxes, new_sandbox, sandbox_limit)

    def __repr__(self) -> str:
        return f"<ControlPlane of {len(self._estate.sandboxes)} sandboxes>"

    async def serve(self, scope: Message, receive: Receive, line: Line) -> None:
        """Answer one request."""
        try:
            answer = await self._answer(scope, receive, line)
        except ControlError as refusal:
            answer = _refused(refusal)
        except ApiError as error:
            code = error.code if error.code in CONTROL_ERRORS else "validation_error"
            answer = _refused(ControlError(code, error.message, details=error.details))
        except Exception as bug:  # noqa: BLE001 - remembered, and told
            self._estate.sandboxes.base.remember(bug)
            answer = _refused(ControlError("internal_error", f"a bug of fake-credits: {type(bug).__name__}: {bug}"))
        await line.deliver(answer, "control")

    async def _answer(self, scope: Message, receive: Receive, line: Line) -> Answer:
        from fake_credits.web.control.shapes import read_body, read_query  # most servers are never asked

        headers: Headers = scope["headers"]
        base_url = f"{scope['scheme']}://{_host(headers)}"
        route, parts = _match(scope)
        _check_origin(headers, base_url)
        self._check_token(headers)
        query: object = read_query(scope["query_string"], route.query)
        sent = await _whole_body(line, receive)
        if sent and not _is_json(headers):
            raise ControlError("unsupported_media_type", "a body must be JSON: send Content-Type: application/json")
        call = ControlCall(self._estate, base_url, parts, query, read_body(sent, route.body))
        if route.waits is not None:
            return _answered(route, await _while_connected(route.waits(call), line))
        return await asyncio.to_thread(_carry_out, route, call)

    def _check_token(self, headers: Headers) -> None:
        sent = [value for name, value in headers if name == _HEADER]
        if len(sent) != 1 or not hmac.compare_digest(sent[0], self.token.encode("latin-1")):
            what = "holds another token" if sent else "is missing"
            raise ControlError(
                "control_token_required",
                f"the header {TOKEN_HEADER} {what}: `serve` prints the token, `run` sets FAKE_CREDITS_CONTROL_TOKEN "
                "(open to all are /_fake/livez, /_fake/readyz and /_fake/openapi.json)",
            )


def _match(scope: Message) -> "tuple[ControlRoute, Mapping[str, str]]":
    from fake_credits.web.control.table import match  # loads every effect, preset and scenario

    raw_path: bytes = scope["raw_path"]
    try:
        segments = segments_of(raw_path.removeprefix(_PREFIX))
    except MalformedRequest as error:
        raise ControlError(error.code, error.message) from None
    return match(scope["method"], segments[1:], f"{scope['method']} {escape(raw_path)}")


def _carry_out(route: "ControlRoute", call: ControlCall) -> Answer:
    assert route.verb is not None  # noqa: S101 - a route has one or the other
    return _answered(route, route.verb(call))


def _answered(route: "ControlRoute", told: object) -> Answer:
    return Answer(route.status, msgspec.json.encode(told))


def _refused(refusal: ControlError) -> Answer:
    fields: dict[str, object] = {"code": refusal.code, "message": refusal.message}
    if refusal.details:
        fields["details"] = [{"field": each.field, "problem": each.problem} for each in refusal.details]
    headers: Headers = [(b"x-fake-credits-cause", b"control")]
    if refusal.allow:
        headers.append((b"allow", refusal.allow.encode("ascii")))
    if refusal.code == "control_token_required":
        headers.append((b"www-authenticate", TOKEN_HEADER.encode("ascii")))  # RFC 9110, 15.5.2: a 401 has a challenge
    return Answer(refusal.status, msgspec.json.encode({"error": fields}), headers)


def _host(headers: Headers) -> str:
    return next((value.decode("latin-1") for name, value in headers if name == b"host"), "localhost")


def _check_origin(headers: Headers, base_url: str) -> None:
    """Refuse what a page of another origin sends: this server's own pages may ask, and programs send no Origin."""
    for name, value in headers:
        if name == b"origin" and value.decode("latin-1") != base_url:
            raise ControlError("origin_not_allowed", "the control plane answers to no page of another origin")


def _is_json(headers: Headers) -> bool:
    kinds = [value for name, value in headers if name == b"content-type"]
    return len(kinds) == 1 and kinds[0].partition(b";")[0].strip().lower() == b"application/json"


async def _whole_body(line: Line, receive: Receive) -> bytes:
    whole = line.body()
    body = b"" if whole is None else whole
    more = whole is None
    while more and len(body) <= BODY_LIMIT_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ControlError("malformed_request", "the client hung up before the body was whole")
        body += bytes(message.get("body", b""))
        more = bool(message.get("more_body", False))
    if len(body) > BODY_LIMIT_BYTES:
        raise ControlError("payload_too_large", f"a body may have at most {BODY_LIMIT_BYTES} bytes (1 MiB)")
    return body


async def _while_connected(waiting: Awaitable[T], line: Line) -> T:
    """Return what a wait brings; end it where the client goes first, which a stopping server makes it do.

    The line is asked again and again, as `receive` tells the newest request of a connection only.
    """
    wait, gone = asyncio.ensure_future(waiting), asyncio.ensure_future(_disconnection(line))
    try:
        await asyncio.wait((wait, gone), return_when=asyncio.FIRST_COMPLETED)
        if not wait.done():
            raise ControlError("malformed_request", "the client hung up while it waited")
        return wait.result()
    finally:
        for each in (wait, gone):
            each.cancel()
        await asyncio.gather(wait, gone, return_exceptions=True)


async def _disconnection(line: Line) -> None:
    while await line.deliverable():
        await asyncio.sleep(_ASK_EVERY_S)
