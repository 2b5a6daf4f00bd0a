"""The transport for an application that uses httpx: its requests are answered in process by one sandbox."""

import httpx

from fake_credits.transports.httpx_family import HttpxFamilyAdapter
from fake_credits.transports.in_process import InProcessDriver

__all__ = ["HttpxTransport"]


class HttpxTransport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """The ``transport`` of a ``httpx.Client`` or a ``httpx.AsyncClient``; the host of its URLs does not matter.

    A fault, or a request that is not sent, raises what httpx raises for the same on a socket.
    """

    def __init__(self, driver: InProcessDriver) -> None:
        self._adapter = HttpxFamilyAdapter(httpx, driver)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Return the response at once."""
        response: httpx.Response = self._adapter.send(request)
        return response

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the response, with a checkpoint of the running loop before and after."""
        response: httpx.Response = await self._adapter.send_async(request)
        return response
