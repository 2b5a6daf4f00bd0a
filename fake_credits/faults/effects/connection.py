"""Effects that break, stall or slow down a connection, or send garbage over it, and the deliveries that they use."""

import itertools
from dataclasses import dataclass
from typing import Literal, cast, get_args

import msgspec

from fake_credits.faults.effects.base import Effect, FaultContext, FaultError, check_choice, check_int, check_number
from fake_credits.faults.effects.timing import MAX_DELAY_MS
from fake_credits.faults.waits import Drain, Forever, Sleep
from fake_credits.http_message import Connection, Response

CloseMode = Literal["close", "reset", "hang"]

_MAX_BODY_BYTES = 2**31
_INVALID_HTTP = b"\x16\x03\x01\x02\x00SSH-2.0-nonsense\r\n\x00\xff\xfe\r\n\r\n"


class _ConnectionEnd(Effect):
    """An effect that sends no response: the connection is reset, closed or left hanging."""

    needs_connection = True

    async def apply(self, context: FaultContext) -> None:
        context.set_delivery(Abort(cast("CloseMode", self.effect_name)))


@dataclass(frozen=True, repr=False)
class Reset(_ConnectionEnd):
    """Reset the connection with a TCP RST instead of sending a response."""

    reveals = "a blind retry of a POST, which charges twice"


@dataclass(frozen=True, repr=False)
class Close(_ConnectionEnd):
    """Close the connection with a TCP FIN instead of sending a response."""

    reveals = "a blind retry of a POST, and failure to recover from a stale keep-alive connection"


@dataclass(frozen=True, repr=False)
class Hang(_ConnectionEnd):
    """Send nothing until the client gives up."""

    reveals = "a missing timeout"


@dataclass(frozen=True, repr=False)
class Truncate(Effect):
    """Send the head and part of the body (``at_bytes`` or a ``fraction``), and then cut off the response.

    ``then`` says how: ``close``, ``reset`` or ``hang``; in Python, it can also be ``Reset()``, ``Close()`` or
    ``Hang()``. At least one byte of the body is withheld; a response without a body is cut off after its head.
    """

    needs_connection = True
    reveals = "a partial body mistaken for a complete one"
    phases = ("after",)
    at_bytes: int | None = None
    fraction: float | None = None
    then: CloseMode | Reset | Close | Hang = "close"

    def __post_init__(self) -> None:
        if self.at_bytes is not None and self.fraction is not None:
            raise FaultError("at_bytes and fraction can't be combined: use one of them")
        if self.at_bytes is not None:
            check_int("at_bytes", self.at_bytes, 0, _MAX_BODY_BYTES)
        if self.fraction is not None:
            check_number("fraction", self.fraction, 0, 1)
        if isinstance(self.then, _ConnectionEnd):
            object.__setattr__(self, "then", self.then.effect_name)
        check_choice("then", self.then, get_args(CloseMode))

    async def apply(self, context: FaultContext) -> None:
        """Send part of the response."""
        body_size = context.body_size()
        fraction = 0.5 if self.fraction is None else self.fraction
        sent_bytes = int(body_size * fraction) if self.at_bytes is None else self.at_bytes
        context.set_delivery(Abort(cast("CloseMode", self.then), max(0, min(sent_bytes, body_size - 1))))


@dataclass(frozen=True, repr=False)
class Drip(Effect):
    """Send the head immediately and the body in several ``chunks``, spread evenly over ``over_ms`` milliseconds."""

    reveals = "a timeout that restarts with each chunk"
    phases = ("after",)
    chunks: int = 5
    over_ms: float = 1000

    def __post_init__(self) -> None:
        check_int("chunks", self.chunks, 1, 1000)
        check_number("over_ms", self.over_ms, 0, MAX_DELAY_MS)

    async def apply(self, context: FaultContext) -> None:
        """Send the response slowly."""
        context.set_delivery(DripBody(self.chunks, self.over_ms / self.chunks))


@dataclass(frozen=True, repr=False)
class Garbage(Effect):
    """Send bytes that aren't HTTP, and close the connection."""

    needs_connection = True
    reveals = "a crash in the parser"
    phases = ("after",)

    async def apply(self, context: FaultContext) -> None:
        """Send the bytes."""
        context.set_delivery(RawBytes(_INVALID_HTTP))


# ------------------------------------------------------------ deliveries


class Abort(msgspec.Struct, frozen=True):
    """A delivery that sends nothing or part of the response, and then closes or resets the connection, or hangs."""

    close_mode: CloseMode
    sent_body_bytes: int | None = None

    is_complete = False

    async def send(self, response: Response | None, connection: Connection) -> None:
        """Send part of the response, or nothing, and end the connection."""
        is_started = False
        if response is not None and self.sent_body_bytes is not None:
            is_started = True
            connection.start(response)
            connection.write(response.body[: self.sent_body_bytes])
        if self.close_mode == "reset":
            await Drain()  # because an RST discards unsent data
            connection.reset()
            return
        if self.close_mode == "hang":
            await Forever(after_byte=is_started)
        connection.close()


class RawBytes(msgspec.Struct, frozen=True):
    """A delivery that sends bytes that aren't HTTP, and then closes the connection."""

    data: bytes

    is_complete = False

    async def send(self, response: Response | None, connection: Connection) -> None:
        """Send the bytes and close the connection."""
        connection.write(self.data)
        connection.close()


class DripBody(msgspec.Struct, frozen=True):
    """A delivery that sends the head immediately, and then the body in chunks, each after ``interval_ms``."""

    chunk_count: int
    interval_ms: float

    is_complete = True

    async def send(self, response: Response | None, connection: Connection) -> None:
        """Send the head and then the chunks."""
        if response is None:
            return
        connection.start(response)
        for chunk in split_evenly(response.body, self.chunk_count):
            await Sleep(self.interval_ms, after_byte=True)
            connection.write(chunk)
        connection.end()


def split_evenly(body: bytes, count: int) -> list[bytes]:
    """Split a body into ``count`` chunks of nearly equal size, or fewer if it has fewer bytes than that."""
    count = min(count, len(body))
    if not count:
        return []
    offsets = [len(body) * number // count for number in range(count + 1)]
    return [body[start:end] for start, end in itertools.pairwise(offsets)]
