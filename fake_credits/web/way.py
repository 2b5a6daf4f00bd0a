"""Own the way of one request through a sandbox, top to bottom; know nothing of sockets or of how time passes.

    pick the sandbox → route → method → body, bounded → faults before the decision → credential → permission → ids
    → body decoded → ledger → faults after the decision → is the client still there? → journal → answer

The order is README's, "The API". Each refusal leaves the ledger as it was.
"""

from collections.abc import Awaitable, Callable
from typing import cast

from fake_credits.contract import BODY_LIMIT_BYTES
from fake_credits.errors import ApiError, InternalError, MalformedRequest, PayloadTooLarge
from fake_credits.faults.stage import Slow
from fake_credits.web.answer import Answer, Message
from fake_credits.web.exchange import Exchange, Line, Met, Withdrawn
from fake_credits.web.faulted import conduct, meet

__all__ = ["Receive", "attempt", "go"]

Receive = Callable[[], Awaitable[Message]]


def attempt(exchange: Exchange, whole: bytes | None) -> bool:
    """Go as far as the decision where nothing comes between, and return True; where something may, `go` has the rest.

    What may come between is a body that is not here yet (``whole`` is None), and a rule that fires. Nearly every call
    of a test gets by with this, so none of it is a coroutine.
    """
    try:
        exchange.matched = exchange.service.routes.match(exchange.method, exchange.raw_path)
        fields = exchange.fields
        body: bytes | None = b""
        if b"content-length" in fields or b"transfer-encoding" in fields:
            body = _bounded(fields.get(b"content-length"), whole)
        return body is not None and _decide_at_once(exchange, body)
    except ApiError as error:
        exchange.refuse(error.with_traceback(None))  # it would hold this frame, and the frame it
    except Exception as bug:  # noqa: BLE001 - remembered, and raised again in the test that met it
        exchange.blame(bug)
    return True


def _decide_at_once(exchange: Exchange, body: bytes) -> bool:
    sandbox, exchange.body = exchange.sandbox, body
    sandbox.clock.run_due()
    if sandbox.faults and not sandbox.closed:
        exchange.met = meet(exchange, body)
        if exchange.met is not None:
            return False
    exchange.decide(body)
    return True


async def go(exchange: Exchange, line: Line, receive: Receive, *, decided: bool) -> None:
    """Go on to the end from where `attempt` left off: the answer is journalled, and then delivered."""
    try:
        if not decided:
            await _decide(exchange, line, receive)
        wire, delivered = exchange.wire, await line.deliverable()
        if wire is None:
            exchange.conclude(delivered=delivered)
            await line.deliver(cast("Answer", exchange.answer), exchange.request_id)
        else:
            exchange.conclude(delivered=delivered and isinstance(wire, Slow))
            await line.break_off(wire, exchange)
    except Withdrawn:
        exchange.leave_behind()


async def _decide(exchange: Exchange, line: Line, receive: Receive) -> None:
    try:
        if exchange.body is None and _decide_at_once(exchange, await _received(receive)):
            return
        await conduct(exchange, line, cast("Met", exchange.met), cast("bytes", exchange.body))
    except ApiError as error:
        exchange.refuse(error.with_traceback(None))
    except Exception as bug:  # noqa: BLE001 - as above
        exchange.blame(bug)
    if exchange.answer is None and exchange.wire is None:
        exchange.refuse(InternalError("no answer"))


async def _received(receive: Receive) -> bytes:
    """Return the whole body; raise PayloadTooLarge as soon as it is known to be over the limit."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise MalformedRequest("the client hung up before the body was whole")
        body += bytes(message.get("body", b""))
        if len(body) > BODY_LIMIT_BYTES:
            raise _too_large()
        if not message.get("more_body", False):
            return body


def _bounded(content_length: bytes | None, whole: bytes | None) -> bytes | None:
    """Return the body, None where it has still to come; raise PayloadTooLarge for one that is or will be too large."""
    announced = 1 if content_length is None else _length(content_length)
    if not announced:
        return b""
    if max(announced, len(whole or b"")) > BODY_LIMIT_BYTES:
        raise _too_large()
    return whole


def _length(value: bytes) -> int:
    if not value.isdigit():
        return 1
    digits = value.lstrip(b"0")
    # int() refuses thousands of digits.
    return int(digits or b"0") if len(digits) < 10 else BODY_LIMIT_BYTES + 1


def _too_large() -> PayloadTooLarge:
    return PayloadTooLarge(f"a body may have at most {BODY_LIMIT_BYTES} bytes (64 KiB)")
