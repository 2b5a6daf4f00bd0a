"""Own the transports of the façade's own clients: in process, past every HTTP library, and over a socket."""

import threading

from fake_credits.errors import ConnectionLost, Timeout, TransportFailure
from fake_credits.http_message import AsyncTransport, Request, Response, Transport, unknown_effect_message
from fake_credits.transports.in_process import IN_PROCESS_BASE_URL, InProcessDriver

__all__ = ["AsyncInProcessTransport", "InProcessTransport", "network_transports"]

_CLIENT_DRAIN_TIMEOUT_S = 1.0


class InProcessTransport:
    """Carry a client's requests to one sandbox."""

    def __init__(self, driver: InProcessDriver) -> None:
        self._driver = driver

    def __repr__(self) -> str:
        return f"InProcessTransport({self._driver!r})"

    def send(self, request: Request) -> Response:
        """Return the sandbox's answer."""
        return _whole(request, self._driver.call(request))

    def close(self) -> None:
        """Do nothing: there is nothing to let go of."""


class AsyncInProcessTransport:
    """Carry an async client's requests to one sandbox, under asyncio and trio."""

    def __init__(self, driver: InProcessDriver) -> None:
        self._driver = driver

    def __repr__(self) -> str:
        return f"AsyncInProcessTransport({self._driver!r})"

    async def send(self, request: Request) -> Response:
        """Return the sandbox's answer; tasks interleave as they would over a network."""
        return _whole(request, await self._driver.call_async(request))

    async def aclose(self) -> None:
        """Do nothing: there is nothing to let go of."""


class _DrainOnClose:
    """Carry requests over a network, and close once the threads that are in one have their answers, or in a second."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._in_flight = 0
        self._request_ended = threading.Condition()

    def __repr__(self) -> str:
        return f"<finishing {self._transport!r}>"

    def send(self, request: Request) -> Response:
        """Return the answer."""
        with self._request_ended:
            self._in_flight += 1
        try:
            return self._transport.send(request)
        finally:
            with self._request_ended:
                self._in_flight -= 1
                self._request_ended.notify_all()

    def close(self) -> None:
        """Close the connections."""
        with self._request_ended:
            self._request_ended.wait_for(lambda: not self._in_flight, _CLIENT_DRAIN_TIMEOUT_S)
        self._transport.close()


def network_transports(base_url: str) -> tuple[Transport, AsyncTransport]:
    """Return the transports of clients that reach the sandbox over a socket."""
    from fake_credits.client.http import AsyncNetworkTransport, NetworkTransport  # loads httpx2

    # No connection is kept: a client made outside the event loop has nobody to close an idle socket in it.
    return _DrainOnClose(NetworkTransport(base_url)), AsyncNetworkTransport(base_url, keep_alive=False)


def _whole(request: Request, response: Response) -> Response:
    if response.outcome != "whole":
        raise _transport_failure(request, response)
    return response


def _transport_failure(request: Request, response: Response) -> TransportFailure:
    """Return the failure that the same client has over a network, with the same cause."""
    import httpx2  # only a fault needs it

    from fake_credits.transports.httpx_family import httpx_error

    error = httpx_error(httpx2, response)
    problem = f"no answer within {request.timeout_s:g} s" if response.outcome == "timeout" else str(error)
    error_class = Timeout if response.outcome == "timeout" else ConnectionLost
    failure = error_class(unknown_effect_message(IN_PROCESS_BASE_URL, request, f"{problem} ({type(error).__name__})"))
    failure.__cause__ = error
    return failure
