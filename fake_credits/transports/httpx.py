"""Transports that connect httpx and httpx2 clients to one sandbox in process.

An unusual request is written to an in-memory stream by the library's own HTTP/1.1 connection, and parsed according to
the live server's rules, so both sides reject what they would reject over a socket.
"""

import importlib
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from fake_credits.http_message import Request, Response, reason_phrase
from fake_credits.transports.framing import is_plain
from fake_credits.transports.in_process import InProcessDriver, httpx_error
from fake_credits.transports.memory_stream import AsyncMemoryStream, MemoryStream, WrittenRequest

if TYPE_CHECKING:
    import httpx
    import httpx2

    class HttpxTransport(httpx.BaseTransport, httpx.AsyncBaseTransport):
        """A transport for httpx."""

    class Httpx2Transport(httpx2.BaseTransport, httpx2.AsyncBaseTransport):
        """A transport for httpx2."""


_CORE_NAMES = {"httpx": "httpcore", "httpx2": "httpcore2"}


def new_httpx_transport(library_name: str, driver: InProcessDriver) -> Any:
    """Return a transport for sync and async clients of ``httpx`` or ``httpx2``.

    The host in the client's URLs does not matter. Faults and invalid requests raise the same exceptions as over a
    socket. Raises ImportError if the library is not installed.
    """
    library = importlib.import_module(library_name)
    return _transport_class(library)(_HttpxAdapter(library, driver))


@cache
def _transport_class(library: Any) -> Any:
    class LibraryTransport(library.BaseTransport, library.AsyncBaseTransport):  # type: ignore[misc]
        def __init__(self, adapter: "_HttpxAdapter") -> None:
            self._adapter = adapter

        def handle_request(self, request: Any) -> Any:
            return self._adapter.send(request)

        async def handle_async_request(self, request: Any) -> Any:
            return await self._adapter.send_async(request)

    return LibraryTransport


class _HttpxAdapter:
    """An adapter that translates one library's requests and responses for the in-process driver."""

    def __init__(self, library: Any, driver: InProcessDriver) -> None:
        self._library = library
        self._driver = driver

    def send(self, httpx_request: Any) -> Any:
        request = _to_request(httpx_request, httpx_request.read())
        response = self._driver.call(request) if is_plain(request) else self._write(httpx_request, request)
        return self._to_httpx_response(response, self._partial_body)

    async def send_async(self, httpx_request: Any) -> Any:
        """Send a request and return the response, yielding to the running event loop before and after the operation."""
        request = _to_request(httpx_request, await httpx_request.aread())
        if is_plain(request):
            response = await self._driver.call_async(request)
        else:
            response = await self._write_async(httpx_request, request)
        return self._to_httpx_response(response, self._async_partial_body)

    def _write(self, httpx_request: Any, request: Request) -> Response:
        def respond(written: WrittenRequest) -> Response:
            received = written.received(request.timeout_s)
            return received.finish(self._driver.call(received.request, received.error))

        core = importlib.import_module(_CORE_NAMES[self._library.__name__])
        core_request = self._to_core_request(core, httpx_request)
        stream = MemoryStream(core, respond)
        with self._translate_errors(core):
            core.HTTP11Connection(core_request.url.origin, stream).handle_request(core_request)
        assert stream.response is not None  # noqa: S101 - its head has been read
        return stream.response

    async def _write_async(self, httpx_request: Any, request: Request) -> Response:
        async def respond(written: WrittenRequest) -> Response:
            received = written.received(request.timeout_s)
            return received.finish(await self._driver.call_async(received.request, received.error))

        core = importlib.import_module(_CORE_NAMES[self._library.__name__])
        core_request = self._to_core_request(core, httpx_request)
        stream = AsyncMemoryStream(core, respond)
        with self._translate_errors(core):
            await core.AsyncHTTP11Connection(core_request.url.origin, stream).handle_async_request(core_request)
        assert stream.response is not None  # noqa: S101 - its head has been read
        return stream.response

    def _to_core_request(self, core: Any, request: Any) -> Any:
        url = request.url
        core_url = core.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        return core.Request(
            request.method,
            core_url,
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )

    @contextmanager
    def _translate_errors(self, core: Any) -> Generator[None, None, None]:
        """Re-raise httpcore's exceptions as the library's exceptions of the same name."""
        try:
            yield
        except (core.TimeoutException, core.NetworkError, core.ProtocolError) as error:
            raise getattr(self._library, type(error).__name__)(str(error)) from error

    def _to_httpx_response(self, response: Response, partial_body_of: Callable[[Response], object]) -> Any:
        if not response.status:
            raise httpx_error(self._library, response)
        # Some reason phrases in httpx's own table differ from those that the live server sends.
        extensions = {"reason_phrase": reason_phrase(response.status).encode("ascii")}
        if response.outcome == "whole":
            body = {"stream": self._library.ByteStream(response.body)}
        else:
            body = {"content": partial_body_of(response)}
        return self._library.Response(response.status, headers=response.headers, **body, extensions=extensions)

    def _partial_body(self, response: Response) -> Iterator[bytes]:
        yield response.body
        raise httpx_error(self._library, response)

    async def _async_partial_body(self, response: Response) -> AsyncIterator[bytes]:
        yield response.body
        raise httpx_error(self._library, response)


def _to_request(request: Any, body: bytes) -> Request:
    target = request.extensions.get("target", request.url.raw_path)
    headers = [(name.lower(), value) for name, value in request.headers.raw]
    timeouts: Mapping[str, float | None] = request.extensions.get("timeout", {})
    return Request(request.method, target, headers, body, timeouts.get("read"))
