"""The clients' network transports, and transports that record request ids, each in a sync and an async version.

The network transports use httpx2. No other client module loads httpx2, and this one is imported only when needed.
Requests are sent as they are: no path is normalized, no redirect is followed, and nothing is sent twice.
"""

import ipaddress
import threading
from collections import deque
from typing import Any

import httpx2

from fake_credits.arguments import BaseUrl
from fake_credits.errors import ConnectionLost, InvalidResponse, Timeout, TransportFailure
from fake_credits.http_message import AsyncTransport, Request, Response, Transport, unknown_effect_message

__tracebackhide__ = True  # a failing test then shows the caller's line, not ours

_CLIENT_DRAIN_TIMEOUT_S = 1.0


class NetworkTransport:
    """A transport that sends requests with httpx2, using ``http_client`` or a new client.

    The proxies, certificates and event hooks of ``http_client`` apply, but the timeout comes from the request.
    ``close`` leaves ``http_client`` open. Raises ValueError if ``base_url`` is invalid (see `BaseUrl.parse`).
    """

    def __init__(self, base_url: str, http_client: httpx2.Client | None = None) -> None:
        self._base = BaseUrl.parse(base_url)
        self._url = _parse_url(self._base)
        self._owns_client = http_client is None
        self._client = http_client or httpx2.Client(**_client_options(self._base))

    def __repr__(self) -> str:
        return f"<NetworkTransport to {self._base.text}>"

    def send(self, request: Request) -> Response:
        """Send the request and return the response.

        Raises `Timeout`, `ConnectionLost` or `InvalidResponse` if there is no usable response, with httpx2's exception
        as the cause.
        """
        built = _build_request(self._client, self._url, self._base, request)
        try:
            response = self._client.send(built, stream=True, follow_redirects=False)
            try:
                # already read by an event hook of the caller's client, or by an in-memory transport
                if response.is_stream_consumed:
                    return _to_client_response(response, response.content)
                return _to_client_response(response, _decode_body(request, response, b"".join(response.iter_raw())))
            finally:
                response.close()
        except httpx2.RequestError as error:
            raise _translate_error(self._base, request, error) from error

    def close(self) -> None:
        """Close the HTTP client if this transport created it."""
        if self._owns_client:
            self._client.close()


class AsyncNetworkTransport:
    """The async version of `NetworkTransport`.

    ``keep_alive=False`` closes each connection after its response. Use it for clients that can't be closed in their
    event loop: an idle socket would emit a warning when garbage-collected. ``keep_alive`` is ignored if ``http_client``
    is passed.
    """

    def __init__(
        self, base_url: str, http_client: httpx2.AsyncClient | None = None, *, keep_alive: bool = True
    ) -> None:
        self._base = BaseUrl.parse(base_url)
        self._url = _parse_url(self._base)
        self._owns_client = http_client is None
        limits = httpx2.Limits(max_keepalive_connections=None if keep_alive else 0)
        self._client = http_client or httpx2.AsyncClient(limits=limits, **_client_options(self._base))

    def __repr__(self) -> str:
        return f"<AsyncNetworkTransport to {self._base.text}>"

    async def send(self, request: Request) -> Response:
        """Send the request and return the response.

        Raises `Timeout`, `ConnectionLost` or `InvalidResponse` if there is no usable response, with httpx2's exception
        as the cause.
        """
        built = _build_request(self._client, self._url, self._base, request)
        try:
            response = await self._client.send(built, stream=True, follow_redirects=False)
            try:
                # already read by an event hook of the caller's client, or by an in-memory transport
                if response.is_stream_consumed:
                    return _to_client_response(response, response.content)
                raw = b"".join([chunk async for chunk in response.aiter_raw()])
                return _to_client_response(response, _decode_body(request, response, raw))
            finally:
                await response.aclose()
        except httpx2.RequestError as error:
            raise _translate_error(self._base, request, error) from error

    async def aclose(self) -> None:
        """Close the HTTP client if this transport created it."""
        if self._owns_client:
            await self._client.aclose()


class _DrainOnClose:
    """A transport whose ``close`` waits up to a second for in-flight requests from other threads."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._in_flight = 0
        self._request_ended = threading.Condition()

    def __repr__(self) -> str:
        return f"<draining {self._transport!r}>"

    def send(self, request: Request) -> Response:
        with self._request_ended:
            self._in_flight += 1
        try:
            return self._transport.send(request)
        finally:
            with self._request_ended:
                self._in_flight -= 1
                self._request_ended.notify_all()

    def close(self) -> None:
        """Wait for in-flight requests, and close the connections."""
        with self._request_ended:
            self._request_ended.wait_for(lambda: not self._in_flight, _CLIENT_DRAIN_TIMEOUT_S)
        self._transport.close()


def network_transports(base_url: str) -> tuple[Transport, AsyncTransport]:
    """Return a sync and an async transport for clients that reach the sandbox over a socket."""
    # No keep-alive, because clients created outside the event loop can't be closed in it.
    return _DrainOnClose(NetworkTransport(base_url)), AsyncNetworkTransport(base_url, keep_alive=False)


def _parse_url(base: BaseUrl) -> httpx2.URL:
    try:
        return httpx2.URL(base.text)
    except httpx2.InvalidURL as error:
        raise ValueError(f"base_url {base.text!r}: {error}") from error


def _build_request(
    client: httpx2.Client | httpx2.AsyncClient, url: httpx2.URL, base: BaseUrl, request: Request
) -> httpx2.Request:
    """Return a request for the base URL with the target appended, both unchanged.

    This does not use URL joining, which can drop or resolve path segments. httpx2 keeps the percent-encoding.
    """
    try:
        target_url = url.copy_with(raw_path=base.path_prefix.encode("ascii") + request.target)
    except httpx2.InvalidURL as error:
        raise ValueError(f"{request.operation}: nothing was sent, because httpx2 rejected the URL: {error}") from error
    timeout = httpx2.Timeout(request.timeout_s)
    return client.build_request(
        request.method, target_url, headers=request.headers, content=request.body or None, timeout=timeout
    )


def _client_options(base: BaseUrl) -> dict[str, Any]:
    """Return the options for creating an httpx2 client for a base URL.

    Certificates are loaded only for TLS, because loading them takes about 17 ms. Proxies from the environment apply,
    except to plain HTTP on loopback.
    """
    return {
        "verify": base.scheme == "https",
        "trust_env": base.scheme == "https" or not is_loopback(base.host),
    }


def is_loopback(host: str) -> bool:
    """Return whether a URL's host is the local machine (RFC 6761, section 6.3)."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _to_client_response(response: httpx2.Response, body: bytes) -> Response:
    headers = [(name.lower(), value) for name, value in response.headers.raw]
    return Response(response.status_code, body, headers)


def _decode_body(request: Request, response: httpx2.Response, raw: bytes) -> bytes:
    """Return a body with its content coding decoded; raise `InvalidResponse` if that fails.

    The raw body is read before it is decoded, because a decoding error in the middle of reading would leave an async
    generator unfinished and cause a warning.
    """
    try:
        return httpx2.Response(response.status_code, headers=response.headers, content=raw).content
    except httpx2.DecodingError as error:
        coding = response.headers.get("content-encoding", "")
        raise InvalidResponse(
            f"{request.operation}: status {response.status_code}, but the body is not valid {coding}: {error}",
            status=response.status_code,
            request_id=response.headers.get("x-request-id", ""),
        ) from error


def _translate_error(base: BaseUrl, request: Request, error: httpx2.RequestError) -> TransportFailure:
    """Return the `TransportFailure` for an httpx2 error; the message says whether the request may have taken effect."""
    if isinstance(error, httpx2.TimeoutException):
        problem = f"no response within {request.timeout_s} s"
        return Timeout(unknown_effect_message(base.text, request, f"{problem} ({type(error).__name__})"))
    if isinstance(error, httpx2.ConnectError):
        where = f"{request.method} {base.text}{request.target.decode('ascii')}"
        return ConnectionLost(f"{request.operation}: no connection, so the request was never sent: {error} ({where})")
    detail = str(error) or "no response"
    return ConnectionLost(unknown_effect_message(base.text, request, f"{detail} ({type(error).__name__})"))


class RecordedTransport:
    """A transport that records the request id of each response; a call without a response leaves no record."""

    def __init__(self, transport: Transport, request_ids: deque[str]) -> None:
        self._transport = transport
        self._request_ids = request_ids

    def __repr__(self) -> str:
        return f"<recorded {self._transport!r}>"

    def send(self, request: Request) -> Response:
        """Send the request and return the response."""
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
        """Send the request and return the response."""
        response = await self._transport.send(request)
        self._request_ids.append(response.header(b"x-request-id"))
        return response

    async def aclose(self) -> None:
        """Close the transport."""
        await self._transport.aclose()
