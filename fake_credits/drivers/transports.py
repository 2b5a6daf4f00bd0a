"""Own the transports of the façade's own clients: in process, past every HTTP library, and over a socket."""

import threading

from fake_credits.client.transport import Answer, AsyncTransport, Transport, WireRequest, unknown_outcome
from fake_credits.drivers.in_process import BASE_URL, InProcess, Outgoing, Reply
from fake_credits.errors import ConnectionLost, Timeout, TransportFailure

__all__ = ["AsyncInProcessTransport", "InProcessTransport", "network_transports"]

_LAST_ANSWERS_S = 1.0


class InProcessTransport:
    """Carry a client's requests to one sandbox."""

    def __init__(self, driver: InProcess) -> None:
        self._driver = driver

    def __repr__(self) -> str:
        return f"InProcessTransport({self._driver!r})"

    def send(self, request: WireRequest) -> Answer:
        """Return the sandbox's answer."""
        return _answer(request, self._driver.call(_outgoing(request)))

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
        return _answer(request, await self._driver.call_async(_outgoing(request)))

    async def aclose(self) -> None:
        """Do nothing: there is nothing to let go of."""


class _Finishing:
    """Carry requests over a network, and close once the threads that are in one have their answers, or in a second."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._under_way = 0
        self._ended = threading.Condition()

    def __repr__(self) -> str:
        return f"<finishing {self._transport!r}>"

    def send(self, request: WireRequest) -> Answer:
        """Return the answer."""
        with self._ended:
            self._under_way += 1
        try:
            return self._transport.send(request)
        finally:
            with self._ended:
                self._under_way -= 1
                self._ended.notify_all()

    def close(self) -> None:
        """Close the connections."""
        with self._ended:
            self._ended.wait_for(lambda: not self._under_way, _LAST_ANSWERS_S)
        self._transport.close()


def network_transports(base_url: str) -> tuple[Transport, AsyncTransport]:
    """Return the transports of clients that reach the sandbox over a socket."""
    from fake_credits.client.network import AsyncNetworkTransport, NetworkTransport  # loads httpx2

    # No connection is kept: a client made outside the event loop has nobody to close an idle socket in it.
    return _Finishing(NetworkTransport(base_url)), AsyncNetworkTransport(base_url, keep_alive=False)


def _outgoing(request: WireRequest) -> Outgoing:
    return Outgoing(
        request.method, request.target.encode("ascii"), request.headers, request.body or b"", request.timeout_s
    )


def _answer(request: WireRequest, reply: Reply) -> Answer:
    if reply.end != "whole":
        raise _failure(request, reply)
    return Answer(reply.status, tuple(reply.headers), reply.body)


def _failure(request: WireRequest, reply: Reply) -> TransportFailure:
    """Return the failure that the same client has over a network, with the same cause."""
    from fake_credits.drivers.for_httpx2 import error_of  # loads httpx2, which only a fault needs

    error = error_of(reply)
    problem = f"no answer within {request.timeout_s:g} s" if reply.end == "timeout" else str(error)
    kind = Timeout if reply.end == "timeout" else ConnectionLost
    failure = kind(unknown_outcome(BASE_URL, request, f"{problem} ({type(error).__name__})"))
    failure.__cause__ = error
    return failure
