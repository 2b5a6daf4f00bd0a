"""Own the transport for an application that talks httpx: its requests are answered in process by one sandbox."""

import httpx

from fake_credits.drivers.in_process import InProcess, Outgoing, Reply

__all__ = ["HttpxTransport"]


class HttpxTransport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Be the ``transport`` of a ``httpx.Client`` or a ``httpx.AsyncClient``; the host of its URLs does not matter."""

    def __init__(self, driver: InProcess) -> None:
        self._driver = driver

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request at once."""
        return _response(self._driver.call(_outgoing(request, request.read())))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request, with a checkpoint of the running loop before and after."""
        return _response(await self._driver.call_async(_outgoing(request, await request.aread())))


def _outgoing(request: httpx.Request, body: bytes) -> Outgoing:
    target = request.extensions.get("target", request.url.raw_path)
    headers = [(name.lower(), value) for name, value in request.headers.raw]
    return Outgoing(request.method, target, headers, body)


def _response(reply: Reply) -> httpx.Response:
    return httpx.Response(reply.status, headers=reply.headers, stream=httpx.ByteStream(reply.body))
