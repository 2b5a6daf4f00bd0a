"""Own the transport for an application that talks httpx2: its requests are answered in process by one sandbox."""

from collections.abc import AsyncIterator, Iterator, Mapping

import httpx2

from fake_credits.http_message import Request, Response, reason_phrase
from fake_credits.transports.in_process import FailureKind, InProcessDriver, failure_of

__all__ = ["Httpx2Transport", "httpx_error"]

_HTTPX_ERRORS: Mapping[FailureKind, type[httpx2.TransportError]] = {
    "timeout": httpx2.ReadTimeout,
    "read": httpx2.ReadError,
    "protocol": httpx2.RemoteProtocolError,
}


class Httpx2Transport(httpx2.BaseTransport, httpx2.AsyncBaseTransport):
    """Be the ``transport`` of a ``httpx2.Client`` or a ``httpx2.AsyncClient``; the host of its URLs does not matter.

    A fault raises what httpx2 raises where it meets the same on a socket.
    """

    def __init__(self, driver: InProcessDriver) -> None:
        self._driver = driver

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer a request at once."""
        return _to_httpx_response(self._driver.call(_to_request(request, request.read())))

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer a request, with a checkpoint of the running loop before and after."""
        return _to_httpx_response(await self._driver.call_async(_to_request(request, await request.aread())))


def httpx_error(response: Response) -> httpx2.TransportError:
    """Return what httpx2 raises for an answer that broke off."""
    kind, message = failure_of(response)
    return _HTTPX_ERRORS[kind](message)


class _PartialBody(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """Be a body of which only a part comes."""

    def __init__(self, response: Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        yield self._response.body
        raise httpx_error(self._response)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._response.body
        raise httpx_error(self._response)


def _to_request(request: httpx2.Request, body: bytes) -> Request:
    target = request.extensions.get("target", request.url.raw_path)
    headers = [(name.lower(), value) for name, value in request.headers.raw]
    timeouts: Mapping[str, float | None] = request.extensions.get("timeout", {})
    return Request(request.method, target, headers, body, timeouts.get("read"))


def _to_httpx_response(response: Response) -> httpx2.Response:
    if not response.status:
        raise httpx_error(response)
    stream = httpx2.ByteStream(response.body) if response.outcome == "whole" else _PartialBody(response)
    # httpx2 has a table of its own, with other phrases than those on the wire.
    extensions = {"reason_phrase": reason_phrase(response.status).encode("ascii")}
    return httpx2.Response(response.status, headers=response.headers, stream=stream, extensions=extensions)
