"""How a fault delivers a response. Without one it is sent whole."""

import itertools
from dataclasses import dataclass
from typing import Literal, Protocol

from fake_credits.faults.waits import Drain, Forever, Sleep
from fake_credits.http_message import Connection, Response

__all__ = ["Abort", "CloseMode", "Delivery", "DripBody", "RawBytes", "split_evenly"]

CloseMode = Literal["close", "reset", "hang"]


class Delivery(Protocol):
    """How a response reaches the client; ``is_complete`` if all of it does."""

    is_complete: bool

    async def send(self, response: Response | None, connection: Connection) -> None:
        """Send the response, or as much of it as the fault lets through, over a connection."""
        ...


@dataclass(frozen=True, slots=True)
class Abort:
    """Nothing, or the head and ``sent_body_bytes`` of the body; then a close, a reset or silence."""

    close_mode: CloseMode
    sent_body_bytes: int | None = None

    is_complete = False

    async def send(self, response: Response | None, connection: Connection) -> None:
        """Send the first bytes, if any, and end the connection."""
        is_started = response is not None and self.sent_body_bytes is not None
        if response is not None and self.sent_body_bytes is not None:
            connection.start(response)
            connection.write(response.body[: self.sent_body_bytes])
        if self.close_mode == "reset":
            await Drain()  # an RST discards what the kernel has not sent yet
            connection.reset()
            return
        if self.close_mode == "hang":
            await Forever(after_byte=is_started)
        connection.close()


@dataclass(frozen=True, slots=True)
class RawBytes:
    """Bytes that are not HTTP; then the connection is closed."""

    data: bytes

    is_complete = False

    async def send(self, response: Response | None, connection: Connection) -> None:
        """Send the bytes and close."""
        connection.write(self.data)
        connection.close()


@dataclass(frozen=True, slots=True)
class DripBody:
    """The head at once, and the body in chunks, ``interval_ms`` before each."""

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
    """Return a body in ``count`` chunks of nearly equal size; fewer if it is shorter, none if it is empty."""
    count = min(count, len(body))
    if not count:
        return []
    offsets = [len(body) * number // count for number in range(count + 1)]
    return [body[start:end] for start, end in itertools.pairwise(offsets)]
