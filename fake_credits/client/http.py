"""Own the way over the network by httpx2, sync and async; know no operation and no contract.

This is the only module of the clients that loads httpx2, so the clients load it when they first need it. What was
encoded reaches the wire byte for byte: no path is normalised, no redirect followed, nothing sent twice.
"""

import ipaddress
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import httpx2

from fake_credits.client.arguments import BaseUrl
from fake_credits.errors import ConnectionLost, InvalidResponse, Timeout
from fake_credits.http_message import AsyncTransport, Request, Response, Transport, unknown_effect_message

__all__ = ["AsyncNetworkTransport", "NetworkTransport", "is_loopback", "network_transports"]

__tracebackhide__ = True  # a failing test shows the caller's line, not ours

_CLIENT_DRAIN_TIMEOUT_S = 1.0


class NetworkTransport:
    """Send requests over httpx2, through the given client or one of its own.

    A client that was passed in stays the caller's: ``close`` leaves it open. Its proxies, certificates and event
    hooks apply; the time limit is the request's. Raise ValueError where ``base_url`` is none (`BaseUrl.parse`).
    """

    def __init__(self, base_url: str, http_client: httpx2.Client | None = None) -> None:
        self._base = BaseUrl.parse(base_url)
        self._url = _parse_url(self._base)
        self._owns_client = http_client is None
        self._client = http_client or httpx2.Client(**_client_options(self._base))

    def __repr__(self) -> str:
        return f"<NetworkTransport to {self._base.text}>"

    def send(self, request: Request) -> Response:
        """Return the answer; raise `Timeout`, `ConnectionLost` or `InvalidResponse`, with httpx2's error as cause."""
        with _translate_errors(self._base, request):
            response = self._client.send(self._build_request(request), stream=True, follow_redirects=False)
            try:
                if response.is_stream_consumed:  # by an event hook of the caller's client, or a transport in memory
                    return _to_client_response(response, response.content)
                return _to_client_response(response, _decode_body(request, response, b"".join(response.iter_raw())))
            finally:
                response.close()

    def close(self) -> None:
        """Close the HTTP client that this transport made itself."""
        if self._owns_client:
            self._client.close()

    def _build_request(self, request: Request) -> httpx2.Request:
        return self._client.build_request(
            request.method, _target_url(self._url, self._base, request), **_request_kwargs(request)
        )


class AsyncNetworkTransport:
    """Be the async twin of `NetworkTransport`.

    ``keep_alive=False`` closes each connection after its answer: for a client whose maker has no event loop to close
    it in, as an idle socket that is collected warns. It is meant for a client made here, not for one passed in.
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
        """Return the answer; raise `Timeout`, `ConnectionLost` or `InvalidResponse`, with httpx2's error as cause."""
        with _translate_errors(self._base, request):
            response = await self._client.send(self._build_request(request), stream=True, follow_redirects=False)
            try:
                if response.is_stream_consumed:  # by an event hook of the caller's client, or a transport in memory
                    return _to_client_response(response, response.content)
                raw = b"".join([chunk async for chunk in response.aiter_raw()])
                return _to_client_response(response, _decode_body(request, response, raw))
            finally:
                await response.aclose()

    async def aclose(self) -> None:
        """Close the HTTP client that this transport made itself."""
        if self._owns_client:
            await self._client.aclose()

    def _build_request(self, request: Request) -> httpx2.Request:
        return self._client.build_request(
            request.method, _target_url(self._url, self._base, request), **_request_kwargs(request)
        )


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
    # No connection is kept: a client made outside the event loop has nobody to close an idle socket in it.
    return _DrainOnClose(NetworkTransport(base_url)), AsyncNetworkTransport(base_url, keep_alive=False)


def _parse_url(base: BaseUrl) -> httpx2.URL:
    try:
        return httpx2.URL(base.text)
    except httpx2.InvalidURL as error:
        raise ValueError(f"base_url {base.text!r}: {error}") from error


def _target_url(url: httpx2.URL, base: BaseUrl, request: Request) -> httpx2.URL:
    """Return where a request goes: the base URL's path and the target, as they are.

    Joined by hand, as joining URLs drops or walks parts of a path; httpx2 leaves what is percent-encoded alone.
    """
    try:
        return url.copy_with(raw_path=base.path_prefix.encode("ascii") + request.target)
    except httpx2.InvalidURL as error:
        raise ValueError(f"{request.operation}: nothing was sent, as httpx2 refuses the URL: {error}") from error


def _request_kwargs(request: Request) -> dict[str, Any]:
    return {
        "headers": request.headers,
        "content": request.body or None,
        "timeout": httpx2.Timeout(request.timeout_s),
    }


def _client_options(base: BaseUrl) -> dict[str, Any]:
    """Return the arguments of a client fit for a base URL.

    Without TLS no certificates need loading, which takes 17 ms. No proxy stands before one's own machine, whatever
    the environment says; anywhere else the environment's proxies hold.
    """
    return {
        "verify": base.scheme == "https",
        "trust_env": base.scheme == "https" or not is_loopback(base.host),
    }


def is_loopback(host: str) -> bool:
    """Tell whether a URL's host is one's own machine (RFC 6761, section 6.3)."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _to_client_response(response: httpx2.Response, body: bytes) -> Response:
    headers = [(name.lower(), value) for name, value in response.headers.raw]
    return Response(response.status_code, body, headers)


def _decode_body(request: Request, response: httpx2.Response, raw: bytes) -> bytes:
    """Return a raw body free of its content coding; raise `InvalidResponse` where it does not decode.

    Decoded while it is read, such a body would leave an async generator of httpx2 behind, which warns.
    """
    try:
        return httpx2.Response(response.status_code, headers=response.headers, content=raw).content
    except httpx2.DecodingError as error:
        coding = response.headers.get("content-encoding", "")
        raise InvalidResponse(
            f"{request.operation}: status {response.status_code}, but the body is no {coding!r}: {error}",
            status=response.status_code,
            request_id=response.headers.get("x-request-id", ""),
        ) from error


@contextmanager
def _translate_errors(base: BaseUrl, request: Request) -> Generator[None, None, None]:
    """Turn httpx2's errors into ours, which say what is known: that no whole answer came."""
    try:
        yield
    except httpx2.TimeoutException as error:
        problem = f"no response within {request.timeout_s} s"
        raise Timeout(unknown_effect_message(base.text, request, f"{problem} ({type(error).__name__})")) from error
    except httpx2.ConnectError as error:
        where = f"{request.method} {base.text}{request.target.decode('ascii')}"
        raise ConnectionLost(f"{request.operation}: no connection, so it was never sent: {error} ({where})") from error
    except httpx2.RequestError as error:
        detail = str(error) or "no answer"
        raise ConnectionLost(
            unknown_effect_message(base.text, request, f"{detail} ({type(error).__name__})")
        ) from error
