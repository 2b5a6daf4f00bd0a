"""Transports over a network that remember which exchanges went through them."""

from collections import deque

from fake_credits.http_message import AsyncTransport, Request, Response, Transport


class RecordedTransport:
    """A transport whose responses are recorded; a call without a response is not."""

    def __init__(self, transport: Transport, request_ids: deque[str]) -> None:
        self._transport = transport
        self._request_ids = request_ids

    def __repr__(self) -> str:
        return f"<recorded {self._transport!r}>"

    def send(self, request: Request) -> Response:
        """Return the response."""
        response = self._transport.send(request)
        self._request_ids.append(response.header(b"x-request-id"))
        return response

    def close(self) -> None:
        """Close the transport."""
        self._transport.close()


class AsyncRecordedTransport:
    """The async version of `RecordedTransport`."""

    def __init__(self, transport: AsyncTransport, request_ids: deque[str]) -> None:
        self._transport = transport
        self._request_ids = request_ids

    def __repr__(self) -> str:
        return f"<recorded {self._transport!r}>"

    async def send(self, request: Request) -> Response:
        """Return the response."""
        response = await self._transport.send(request)
        self._request_ids.append(response.header(b"x-request-id"))
        return response

    async def aclose(self) -> None:
        """Close the transport."""
        await self._transport.aclose()
