"""Own the way of one request through a sandbox, top to bottom; know nothing of sockets or of how time passes.

    pick the sandbox → route → method → body, bounded → faults before the decision → credential → permission → ids
    → body decoded → ledger → faults after the decision → is the client still there? → journal → answer

The order is README's, "The API". Each refusal leaves the ledger as it was.
"""

from collections.abc import Awaitable, Callable
from typing import cast

from fake_credits.api.exchange import Connection, Exchange, MatchedFaults, ServerStopping
from fake_credits.api.fault_injection import handle_with_faults, match_faults
from fake_credits.contract import MAX_BODY_BYTES
from fake_credits.errors import ApiError, InternalError, MalformedRequest, PayloadTooLarge
from fake_credits.faults.context import DripBody
from fake_credits.http_message import AsgiMessage, Response

__all__ = ["AsgiReceive", "handle", "handle_without_waiting"]

AsgiReceive = Callable[[], Awaitable[AsgiMessage]]


def handle_without_waiting(exchange: Exchange, received_body: bytes | None) -> bool:
    """Go as far as the decision where nothing comes between, and return True; where something may, `go` has the rest.

    What may come between is a body that is not here yet (``whole`` is None), and a rule that fires. Nearly every call
    of a test gets by with this, so none of it is a coroutine.
    """
    try:
        exchange.route_match = exchange.runtime.routes.match(exchange.method, exchange.raw_path)
        headers = exchange.headers_by_name
        body: bytes | None = b""
        if b"content-length" in headers or b"transfer-encoding" in headers:
            body = _limited_body(headers.get(b"content-length"), received_body)
        return body is not None and _execute_unless_faulted(exchange, body)
    except ApiError as error:
        exchange.respond_with_error(error.with_traceback(None))  # it would hold this frame, and the frame it
    except Exception as bug:  # noqa: BLE001 - remembered, and raised again in the test that met it
        exchange.fail_with_bug(bug)
    return True


def _execute_unless_faulted(exchange: Exchange, body: bytes) -> bool:
    sandbox, exchange.body = exchange.sandbox, body
    sandbox.clock.run_due()
    if sandbox.faults and not sandbox.is_closed:
        exchange.matched_faults = match_faults(exchange, body)
        if exchange.matched_faults is not None:
            return False
    exchange.authorize_and_execute(body)
    return True


async def handle(exchange: Exchange, connection: Connection, receive: AsgiReceive, *, is_decided: bool) -> None:
    """Go on to the end from where `handle_without_waiting` left off: the answer is journalled, and then delivered."""
    try:
        if not is_decided:
            await _receive_and_execute(exchange, connection, receive)
        delivery, is_connected = exchange.delivery, await connection.is_client_connected()
        if delivery is None:
            exchange.finish(delivered=is_connected)
            await connection.send(cast("Response", exchange.response), exchange.request_id)
        else:
            exchange.finish(delivered=is_connected and isinstance(delivery, DripBody))
            await connection.abort(delivery, exchange)
    except ServerStopping:
        exchange.abandon()


async def _receive_and_execute(exchange: Exchange, connection: Connection, receive: AsgiReceive) -> None:
    try:
        if exchange.body is None and _execute_unless_faulted(exchange, await _receive_body(receive)):
            return
        await handle_with_faults(
            exchange, connection, cast("MatchedFaults", exchange.matched_faults), cast("bytes", exchange.body)
        )
    except ApiError as error:
        exchange.respond_with_error(error.with_traceback(None))
    except Exception as bug:  # noqa: BLE001 - as above
        exchange.fail_with_bug(bug)
    if exchange.response is None and exchange.delivery is None:
        exchange.respond_with_error(InternalError("no answer"))


async def _receive_body(receive: AsgiReceive) -> bytes:
    """Return the whole body; raise PayloadTooLarge as soon as it is known to be over the limit."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise MalformedRequest("the client hung up before the body was whole")
        body += bytes(message.get("body", b""))
        if len(body) > MAX_BODY_BYTES:
            raise _payload_too_large()
        if not message.get("more_body", False):
            return body


def _limited_body(content_length: bytes | None, received_body: bytes | None) -> bytes | None:
    """Return the body, None where it has still to come; raise PayloadTooLarge for one that is or will be too large."""
    length = 1 if content_length is None else _parse_content_length(content_length)
    if not length:
        return b""
    if max(length, len(received_body or b"")) > MAX_BODY_BYTES:
        raise _payload_too_large()
    return received_body


def _parse_content_length(value: bytes) -> int:
    if not value.isdigit():
        return 1
    digits = value.lstrip(b"0")
    # int() refuses thousands of digits.
    return int(digits or b"0") if len(digits) < 10 else MAX_BODY_BYTES + 1


def _payload_too_large() -> PayloadTooLarge:
    return PayloadTooLarge(f"a body may have at most {MAX_BODY_BYTES} bytes (64 KiB)")
