"""Own the transport for an application that talks httpx2: its requests are answered in process by one sandbox."""

from collections.abc import AsyncIterator, Iterator, Mapping

import httpx2

from fake_credits.drivers.broken import Break, break_of
from fake_credits.drivers.in_process import InProcess, Outgoing, Reply
from fake_credits.http_status import reason_phrase

__all__ = ["Httpx2Transport", "error_of"]

_ERRORS: Mapping[Break, type[httpx2.TransportError]] = {
    "timeout": httpx2.ReadTimeout,
    "read": httpx2.ReadError,
    "protocol": httpx2.RemoteProtocolError,
}


class Httpx2Transport(httpx2.BaseTransport, httpx2.AsyncBaseTransport):
    """Be the ``transport`` of a ``httpx2.Client`` or a ``httpx2.AsyncClient``; the host of its URLs does not matter.

    A fault raises what httpx2 raises where it meets the same on a socket.
    """

    def __init__(self, driver: InProcess) -> None:
        self._driver = driver

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer a request at once."""
        return _response(self._driver.call(_outgoing(request, request.read())))

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer a request, with a checkpoint of the running loop before and after."""
        return _response(await self._driver.call_async(_outgoing(request, await request.aread())))


def error_of(reply: Reply) -> httpx2.TransportError:
    """Return what httpx2 raises for an answer that broke off."""
    kind, message = break_of(reply)
    return _ERRORS[kind](message)


class _Part(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """Be a body of which only a part comes."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def __iter__(self) -> Iterator[bytes]:
        yield self._reply.body
        raise error_of(self._reply)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._reply.body
        raise error_of(self._reply)


def _outgoing(request: httpx2.Request, body: bytes) -> Outgoing:
    target = request.extensions.get("target", request.url.raw_path)
    headers = [(name.lower(), value) for name, value in request.headers.raw]
    timeouts: Mapping[str, float | None] = request.extensions.get("timeout", {})
    return Outgoing(request.method, target, headers, body, timeouts.get("read"))


def _response(reply: Reply) -> httpx2.Response:
    if not reply.status:
        raise error_of(reply)
    stream = httpx2.ByteStream(reply.body) if reply.end == "whole" else _Part(reply)
    # httpx2 has a table of its own, with other phrases than those on the wire.
    extensions = {"reason_phrase": reason_phrase(reply.status).encode("ascii")}
    return httpx2.Response(reply.status, headers=reply.headers, stream=stream, extensions=extensions)
