"""Own the transport for an application that talks httpx2: its requests are answered in process by one sandbox."""

import httpx2

from fake_credits.drivers.in_process import InProcess, Outgoing, Reply

__all__ = ["Httpx2Transport"]


class Httpx2Transport(httpx2.BaseTransport, httpx2.AsyncBaseTransport):
    """Be the ``transport`` of a ``httpx2.Client`` or a ``httpx2.AsyncClient``; the host of its URLs does not matter."""

    def __init__(self, driver: InProcess) -> None:
        self._driver = driver

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer a request at once."""
        return _response(self._driver.call(_outgoing(request, request.read())))

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer a request, with a checkpoint of the running loop before and after."""
        return _response(await self._driver.call_async(_outgoing(request, await request.aread())))


def _outgoing(request: httpx2.Request, body: bytes) -> Outgoing:
    target = request.extensions.get("target", request.url.raw_path)
    headers = [(name.lower(), value) for name, value in request.headers.raw]
    return Outgoing(request.method, target, headers, body)


def _response(reply: Reply) -> httpx2.Response:
    return httpx2.Response(reply.status, headers=reply.headers, stream=httpx2.ByteStream(reply.body))
