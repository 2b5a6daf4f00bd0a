"""Own the socket in memory that urllib3's connection writes a request to and reads an answer from; know no library."""

import io
from typing import Any

from fake_credits.drivers.in_process import Reply
from fake_credits.drivers.intercept.routes import Route
from fake_credits.drivers.intercept.wire import Request, RequestReader, answer_bytes, reset_by_peer

__all__ = ["MemorySocket"]


class MemorySocket:
    """Be a connected socket of one request: what is written goes to the sandbox, what is read is its answer.

    Where ``reply`` is given, the request has been answered before and is written in vain.
    """

    def __init__(self, route: Route, reply: Reply | None = None) -> None:
        self._route = route
        self._reply = reply
        self._reader = RequestReader()
        self._request: Request | None = None
        self._timeout_s: float | None = None

    def settimeout(self, timeout_s: float | None) -> None:
        """Say how long to wait for the next byte, in seconds; None waits for ever."""
        self._timeout_s = timeout_s

    def sendall(self, data: bytes) -> None:
        """Take a part of the request."""
        self._request = self._reader.feed(data) or self._request

    def makefile(self, _mode: str) -> io.BufferedIOBase:
        """Have the request answered, and return the answer to read."""
        reply = self._reply or self._answered()
        return io.BytesIO(answer_bytes(reply)) if reply.end == "whole" else io.BufferedReader(_Broken(reply))

    def _answered(self) -> Reply:
        if self._request is None:
            raise RuntimeError("the answer is read before the request was written to its end")
        return self._route.driver.call(self._route.outgoing(*self._request, self._timeout_s))

    def shutdown(self, _how: int) -> None:
        """Do nothing: nobody waits at the other end."""

    def close(self) -> None:
        """Do nothing: nothing is open."""


class _Broken(io.RawIOBase):
    """Be the file of an answer that does not end as it should."""

    def __init__(self, reply: Reply) -> None:
        self._rest = answer_bytes(reply)
        self._end = reply.end

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._rest:
            part, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
            buffer[: len(part)] = part
            return len(part)
        if self._end == "reset":
            raise reset_by_peer()
        if self._end == "timeout":
            raise TimeoutError("timed out")
        return 0
