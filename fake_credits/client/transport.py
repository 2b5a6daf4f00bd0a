"""Own what goes out and comes back, as bytes, and the protocols of those who carry it; know no HTTP library.

A transport sends one `WireRequest` and returns one `Answer`, whatever its status. It raises `Timeout`,
`ConnectionLost` or `InvalidResponse` (`fake_credits.errors`) where there is no whole answer; it never retries and
never follows a redirect.
"""

from dataclasses import dataclass
from typing import Protocol

__all__ = ["Answer", "AsyncTransport", "Headers", "Transport", "WireRequest", "unknown_outcome"]

Headers = tuple[tuple[bytes, bytes], ...]
"""Header fields in order, as bytes; names are lower case."""


@dataclass(frozen=True, slots=True)
class WireRequest:
    """Be one request, ready to go.

    ``target`` is the percent-encoded path with its query, ASCII, relative to the base URL's path, and starts with
    ``/``. ``operation`` is for people. ``body`` is None where nothing is sent. ``timeout_s`` counts from the last byte
    received (and holds for connecting); None waits for ever.
    """

    operation: str
    method: str
    target: str
    headers: Headers
    body: bytes | None
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class Answer:
    """Be one whole answer; ``body`` is already free of any content coding."""

    status: int
    headers: Headers
    body: bytes

    def header(self, name: bytes) -> str:
        """Return the first field of a lower-case name as text, or an empty string."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name), "")


class Transport(Protocol):
    """Carry requests, blocking until the answer is whole."""

    def send(self, request: WireRequest) -> Answer:
        """Return the answer; raise a `TransportFailure` where there is none."""
        ...

    def close(self) -> None:
        """Let go of connections; a second call does nothing."""
        ...


class AsyncTransport(Protocol):
    """Carry requests in an event loop."""

    async def send(self, request: WireRequest) -> Answer:
        """Return the answer; raise a `TransportFailure` where there is none."""
        ...

    async def aclose(self) -> None:
        """Let go of connections; a second call does nothing."""
        ...


def unknown_outcome(base_url: str, request: WireRequest, problem: str) -> str:
    """Return what to say of a request that went out and has no whole answer."""
    where = f"{request.method} {base_url}{request.target}"
    return f"{request.operation}: {problem}; whether it took effect is unknown ({where})"
