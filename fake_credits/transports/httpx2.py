"""The transport for an application that uses httpx2: its requests are answered in process by one sandbox."""

import httpx2

from fake_credits.transports.httpx_family import HttpxFamilyAdapter
from fake_credits.transports.in_process import InProcessDriver

__all__ = ["Httpx2Transport"]


class Httpx2Transport(httpx2.BaseTransport, httpx2.AsyncBaseTransport):
    """The ``transport`` of a ``httpx2.Client`` or a ``httpx2.AsyncClient``; the host of its URLs does not matter.

    A fault, or a request that is not sent, raises what httpx2 raises for the same on a socket.
    """

    def __init__(self, driver: InProcessDriver) -> None:
        self._adapter = HttpxFamilyAdapter(httpx2, driver)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Return the response at once."""
        response: httpx2.Response = self._adapter.send(request)
        return response

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Return the response, with a checkpoint of the running loop before and after."""
        response: httpx2.Response = await self._adapter.send_async(request)
        return response
