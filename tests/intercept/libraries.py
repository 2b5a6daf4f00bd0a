"""Send one request with each HTTP library, as an application does."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import aiohttp
import httpx
import httpx2
import pytest
import requests
import trio
import urllib3

USER_PATH = "/v1/applications/app-id/users/user-id"
BALANCE = USER_PATH + "/balance"
TRANSACTIONS = USER_PATH + "/transactions"
TRANSACTION_BODY = b'{"delta":-1,"reason":"consume"}'
TIMEOUT_S = 20.0
"""The limit for responses that should arrive at once: a test fails rather than hangs."""


class LibraryResponse(NamedTuple):
    """A complete response, with lowercase header names; ``reason`` is empty if there is no reason phrase."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    reason: str = "OK"


class LibraryRequest(NamedTuple):
    """A request, and its client's read timeout in seconds."""

    url: str
    headers: Mapping[str, str]
    body: bytes | None = None
    timeout_s: float = TIMEOUT_S

    @property
    def method(self) -> str:
        return "GET" if self.body is None else "POST"


TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""An empty context, because loading the system's certificates for each httpx client would take longer than its test."""

Send = Callable[[LibraryRequest], LibraryResponse]


def read_timeout_s(library: str, *, in_body: bool) -> float:
    """Return a read timeout for responses that never end.

    It is longer if it includes the time to connect, and longer still if the client must receive the headers first:
    libraries raise different errors before and after the headers, and a slight delay must not change the error.
    """
    if in_body:
        return 0.5
    return 0.15 if library == "aiohttp, total" else 0.05


def to_response(status: int, body: bytes, headers: Any, reason: str | None) -> LibraryResponse:
    return LibraryResponse(status, body, {name.lower(): value for name, value in headers.items()}, reason or "")


def send_requests(request: LibraryRequest) -> LibraryResponse:
    timeout = (TIMEOUT_S, request.timeout_s)
    response = requests.request(
        request.method, request.url, headers=request.headers, data=request.body, timeout=timeout
    )
    return to_response(response.status_code, response.content, response.headers, response.reason)


def send_urllib3(request: LibraryRequest) -> LibraryResponse:
    with urllib3.PoolManager(retries=False) as pools:
        timeout = urllib3.Timeout(connect=TIMEOUT_S, read=request.timeout_s)
        response = pools.request(
            request.method, request.url, headers=request.headers, body=request.body, timeout=timeout
        )
        return to_response(response.status, response.data, response.headers, response.reason)


def send_httpx(request: LibraryRequest) -> LibraryResponse:
    with httpx.Client(timeout=httpx.Timeout(TIMEOUT_S, read=request.timeout_s), verify=TLS) as client:
        response = client.request(request.method, request.url, headers=request.headers, content=request.body)
        return to_response(response.status_code, response.content, response.headers, response.reason_phrase)


def send_httpx2(request: LibraryRequest) -> LibraryResponse:
    with httpx2.Client(timeout=httpx2.Timeout(TIMEOUT_S, read=request.timeout_s), verify=TLS) as client:
        response = client.request(request.method, request.url, headers=request.headers, content=request.body)
        return to_response(response.status_code, response.content, response.headers, response.reason_phrase)


async def send_async_httpx(request: LibraryRequest) -> LibraryResponse:
    async with httpx.AsyncClient(timeout=httpx.Timeout(TIMEOUT_S, read=request.timeout_s), verify=TLS) as client:
        response = await client.request(request.method, request.url, headers=request.headers, content=request.body)
        return to_response(response.status_code, response.content, response.headers, response.reason_phrase)


async def send_async_httpx2(request: LibraryRequest) -> LibraryResponse:
    async with httpx2.AsyncClient(timeout=httpx2.Timeout(TIMEOUT_S, read=request.timeout_s), verify=TLS) as client:
        response = await client.request(request.method, request.url, headers=request.headers, content=request.body)
        return to_response(response.status_code, response.content, response.headers, response.reason_phrase)


async def send_aiohttp_read_timeout(request: LibraryRequest) -> LibraryResponse:
    timeout = aiohttp.ClientTimeout(sock_read=request.timeout_s)
    return await send_aiohttp(request, timeout)


async def send_aiohttp_total_timeout(request: LibraryRequest) -> LibraryResponse:
    timeout = aiohttp.ClientTimeout(total=request.timeout_s)
    return await send_aiohttp(request, timeout)


async def send_aiohttp(request: LibraryRequest, timeout: aiohttp.ClientTimeout) -> LibraryResponse:
    async with (
        aiohttp.ClientSession(timeout=timeout, trust_env=True) as session,
        session.request(request.method, request.url, headers=request.headers, data=request.body) as response,
    ):
        return to_response(response.status, await response.read(), response.headers, response.reason)


def in_asyncio(send: Callable[[LibraryRequest], Awaitable[LibraryResponse]]) -> Send:
    async def main(request: LibraryRequest) -> LibraryResponse:
        return await send(request)

    return lambda request: asyncio.run(main(request))


def in_trio(send: Callable[[LibraryRequest], Awaitable[LibraryResponse]]) -> Send:
    return lambda request: trio.run(send, request)


SENDERS: Mapping[str, Send] = {
    "requests": send_requests,
    "urllib3": send_urllib3,
    "httpx": send_httpx,
    "httpx, asyncio": in_asyncio(send_async_httpx),
    "httpx, trio": in_trio(send_async_httpx),
    "httpx2": send_httpx2,
    "httpx2, asyncio": in_asyncio(send_async_httpx2),
    "httpx2, trio": in_trio(send_async_httpx2),
    "aiohttp": in_asyncio(send_aiohttp_read_timeout),
    "aiohttp, total": in_asyncio(send_aiohttp_total_timeout),
}
"""Every library, sync and on each event loop that it supports; aiohttp with each of its two timeouts."""

FAST_LIBRARIES = ("requests", "httpx", "httpx2, trio", "aiohttp")
"""One library of each kind, because the matrix of all libraries and all failures is slow."""

LIBRARY_PARAMS = [pytest.param(name, marks=[] if name in FAST_LIBRARIES else [pytest.mark.slow]) for name in SENDERS]
