"""Own the streams in memory that httpcore's connections read an answer from; load no library but the running loop's."""

import asyncio
from typing import Any

from fake_credits.drivers.in_process import Reply
from fake_credits.drivers.intercept.wire import answer_bytes, reset_by_peer

__all__ = ["AsyncMemoryStream", "MemoryStream"]


class _BaseStream:
    """Be a connected stream: what is written was answered before, what is read is the answer as far as it came."""

    def __init__(self, core: Any, reply: Reply) -> None:
        self._core = core
        self._reply = reply
        self._rest: bytes | None = None

    def next_bytes(self, max_bytes: int) -> bytes:
        """Return the next part of the answer, or empty bytes."""
        rest = answer_bytes(self._reply) if self._rest is None else self._rest
        part, self._rest = rest[:max_bytes], rest[max_bytes:]
        return part

    def get_extra_info(self, _info: str) -> None:
        """Tell that nothing is known: there is no socket."""


class MemoryStream(_BaseStream):
    """Be the stream of a sync connection."""

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return the next part; raise as a stream of a socket does where the answer breaks off."""
        part = self.next_bytes(max_bytes)
        if not part and self._reply.end == "reset":
            error = reset_by_peer()
            raise self._core.ReadError(error) from error
        if not part and self._reply.end == "timeout":
            late = TimeoutError("timed out")
            raise self._core.ReadTimeout(late) from late
        return part

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class AsyncMemoryStream(_BaseStream):
    """Be the stream of an async connection, on asyncio or trio."""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return the next part; raise as a stream of a socket does where the answer breaks off."""
        part = self.next_bytes(max_bytes)
        if not part and self._reply.end == "reset":
            error = _broken()
            raise self._core.ReadError(error) from error
        if not part and self._reply.end == "timeout":
            late = _late()
            raise self._core.ReadTimeout(late) from late
        return part

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Do nothing."""

    async def aclose(self) -> None:
        """Do nothing."""


def _broken() -> Exception:
    """Return what the running loop's own streams raise after an RST: anyio's on asyncio, trio's on trio."""
    reset = reset_by_peer()
    if _on_asyncio():
        import anyio

        broken: Exception = anyio.BrokenResourceError()
    else:
        import trio

        broken = trio.BrokenResourceError(f"socket connection broken: {reset}")
    broken.__cause__ = reset
    return broken


def _late() -> Exception:
    """Return what the running loop's own streams raise when a timeout is over."""
    if _on_asyncio():
        return TimeoutError()
    import trio

    return trio.TooSlowError()


def _on_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
