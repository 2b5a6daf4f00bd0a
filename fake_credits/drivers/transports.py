"""Own the in-process transports of our own clients, which go past every HTTP library."""

from fake_credits.client.transport import Answer, WireRequest
from fake_credits.drivers.in_process import InProcess, Outgoing

__all__ = ["AsyncInProcessTransport", "InProcessTransport"]


class InProcessTransport:
    """Carry a client's requests to one sandbox."""

    def __init__(self, driver: InProcess) -> None:
        self._driver = driver

    def __repr__(self) -> str:
        return f"InProcessTransport({self._driver!r})"

    def send(self, request: WireRequest) -> Answer:
        """Return the sandbox's answer."""
        reply = self._driver.call(_outgoing(request))
        return Answer(reply.status, tuple(reply.headers), reply.body)

    def close(self) -> None:
        """Do nothing: there is nothing to let go of."""


class AsyncInProcessTransport:
    """Carry an async client's requests to one sandbox, under asyncio and trio."""

    def __init__(self, driver: InProcess) -> None:
        self._driver = driver

    def __repr__(self) -> str:
        return f"AsyncInProcessTransport({self._driver!r})"

    async def send(self, request: WireRequest) -> Answer:
        """Return the sandbox's answer; tasks interleave as they would over a network."""
        reply = await self._driver.call_async(_outgoing(request))
        return Answer(reply.status, tuple(reply.headers), reply.body)

    async def aclose(self) -> None:
        """Do nothing: there is nothing to let go of."""


def _outgoing(request: WireRequest) -> Outgoing:
    return Outgoing(request.method, request.target.encode("ascii"), request.headers, request.body or b"")
