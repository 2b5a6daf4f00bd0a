"""Own the way of one request through a sandbox, top to bottom; know nothing of sockets or of how time passes.

    pick the sandbox → route → method → body, bounded → faults before the decision → credential → permission → ids
    → body decoded → ledger → faults after the decision → is the client still there? → journal → answer

The order is README's, "The API". Each refusal leaves the ledger as it was.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import cast

from fake_credits.contract import BODY_LIMIT_BYTES
from fake_credits.errors import ApiError, InternalError, MalformedRequest, PayloadTooLarge
from fake_credits.faults.stage import Slow
from fake_credits.web.answer import Answer, Message
from fake_credits.web.exchange import Exchange, Line
from fake_credits.web.faulted import conduct

__all__ = ["Receive", "go"]

Receive = Callable[[], Awaitable[Message]]


async def go(exchange: Exchange, line: Line, receive: Receive, refusal: ApiError | None = None) -> None:
    """Answer the request, with ``refusal`` where it is refused already, and journal it."""
    exchange.refusal = refusal
    if refusal is None:
        await _attempt(exchange, line, receive)
    if exchange.answer is None and exchange.wire is None:
        exchange.refuse(exchange.refusal or InternalError("no answer"))
    exchange.allow_origin()
    delivered = await line.deliverable()
    wire = exchange.wire
    if wire is None:
        exchange.record(delivered=delivered)
        await line.deliver(cast("Answer", exchange.answer), exchange.request_id)
    else:
        exchange.record(delivered=delivered and isinstance(wire, Slow))
        await line.break_off(wire, exchange)


async def _attempt(exchange: Exchange, line: Line, receive: Receive) -> None:
    sandbox = exchange.sandbox
    try:
        exchange.matched = exchange.service.routes.match(exchange.method, exchange.raw_path)
        announced = _announced_length(exchange.fields)
        body = await _read_body(announced, line, receive) if announced else b""
        exchange.body = body
        sandbox.clock.run_due()
        if sandbox.faults and not sandbox.closed:
            await conduct(exchange, line, body)
        else:
            exchange.decide(body)
    except ApiError as error:
        exchange.refuse(error.with_traceback(None))  # it would hold this frame, and the frame it
    except Exception as bug:  # noqa: BLE001 - remembered, and raised again in the test that met it
        sandbox.remember(bug)
        exchange.refuse(InternalError(f"a bug of fake-credits: {type(bug).__name__}: {bug}"))


async def _read_body(announced: int, line: Line, receive: Receive) -> bytes:
    """Return the whole body; raise PayloadTooLarge as soon as it is known to be over the limit."""
    whole = line.body()
    if max(announced, len(whole or b"")) > BODY_LIMIT_BYTES:
        raise _too_large()
    if whole is not None:
        return whole
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


def _announced_length(fields: Mapping[bytes, bytes]) -> int:
    """Return Content-Length, 1 where a body of unknown length follows, 0 where none does."""
    length = fields.get(b"content-length")
    if length is not None:
        return _length(length)
    return 1 if b"transfer-encoding" in fields else 0


def _length(value: bytes) -> int:
    if not value.isdigit():
        return 1
    digits = value.lstrip(b"0")
    # int() refuses thousands of digits.
    return int(digits or b"0") if len(digits) < 10 else BODY_LIMIT_BYTES + 1


def _too_large() -> PayloadTooLarge:
    return PayloadTooLarge(f"a body may have at most {BODY_LIMIT_BYTES} bytes (64 KiB)")
