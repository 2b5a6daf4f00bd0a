"""Own how these tests send one request with each library, as an application does; know nothing of who answers."""

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

APP = "/v1/applications/app-id/users/user-id"
BALANCE = APP + "/balance"
TRANSACTIONS = APP + "/transactions"
ORDER = b'{"delta":-1,"reason":"consume"}'
LIMIT_S = 20.0
"""No answer takes so long; a test that waits for it would fail rather than hang."""


class Got(NamedTuple):
    """A whole response; header names are in lower case, and ``reason`` is empty where there is no phrase."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    reason: str = "OK"


class Ask(NamedTuple):
    """Be one request, and how long its client waits for the next byte, in seconds."""

    url: str
    headers: Mapping[str, str]
    body: bytes | None = None
    timeout_s: float = LIMIT_S

    @property
    def method(self) -> str:
        return "GET" if self.body is None else "POST"


TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Trusts nobody: made by itself, each client of httpx would load the system's certificates for longer than its test."""

Send = Callable[[Ask], Got]


def patience_s(library: str) -> float:
    """Return how long to wait for what never comes: long enough to connect where that counts too."""
    return 0.15 if library == "aiohttp, total" else 0.05


def _got(status: int, body: bytes, headers: Any, reason: str | None) -> Got:
    return Got(status, body, {name.lower(): value for name, value in headers.items()}, reason or "")


def by_requests(ask: Ask) -> Got:
    timeout = (LIMIT_S, ask.timeout_s)
    answer = requests.request(ask.method, ask.url, headers=ask.headers, data=ask.body, timeout=timeout)
    return _got(answer.status_code, answer.content, answer.headers, answer.reason)


def by_urllib3(ask: Ask) -> Got:
    with urllib3.PoolManager(retries=False) as pools:
        timeout = urllib3.Timeout(connect=LIMIT_S, read=ask.timeout_s)
        answer = pools.request(ask.method, ask.url, headers=ask.headers, body=ask.body, timeout=timeout)
        return _got(answer.status, answer.data, answer.headers, answer.reason)


def by_httpx(ask: Ask) -> Got:
    with httpx.Client(timeout=httpx.Timeout(LIMIT_S, read=ask.timeout_s), verify=TLS) as client:
        answer = client.request(ask.method, ask.url, headers=ask.headers, content=ask.body)
        return _got(answer.status_code, answer.content, answer.headers, answer.reason_phrase)


def by_httpx2(ask: Ask) -> Got:
    with httpx2.Client(timeout=httpx2.Timeout(LIMIT_S, read=ask.timeout_s), verify=TLS) as client:
        answer = client.request(ask.method, ask.url, headers=ask.headers, content=ask.body)
        return _got(answer.status_code, answer.content, answer.headers, answer.reason_phrase)


async def async_httpx(ask: Ask) -> Got:
    async with httpx.AsyncClient(timeout=httpx.Timeout(LIMIT_S, read=ask.timeout_s), verify=TLS) as client:
        answer = await client.request(ask.method, ask.url, headers=ask.headers, content=ask.body)
        return _got(answer.status_code, answer.content, answer.headers, answer.reason_phrase)


async def async_httpx2(ask: Ask) -> Got:
    async with httpx2.AsyncClient(timeout=httpx2.Timeout(LIMIT_S, read=ask.timeout_s), verify=TLS) as client:
        answer = await client.request(ask.method, ask.url, headers=ask.headers, content=ask.body)
        return _got(answer.status_code, answer.content, answer.headers, answer.reason_phrase)


async def async_aiohttp(ask: Ask) -> Got:
    timeout = aiohttp.ClientTimeout(sock_read=ask.timeout_s)
    return await _by_aiohttp(ask, timeout)


async def async_aiohttp_total(ask: Ask) -> Got:
    timeout = aiohttp.ClientTimeout(total=ask.timeout_s)
    return await _by_aiohttp(ask, timeout)


async def _by_aiohttp(ask: Ask, timeout: aiohttp.ClientTimeout) -> Got:
    async with (
        aiohttp.ClientSession(timeout=timeout, trust_env=True) as session,
        session.request(ask.method, ask.url, headers=ask.headers, data=ask.body) as answer,
    ):
        return _got(answer.status, await answer.read(), answer.headers, answer.reason)


def in_asyncio(send: Callable[[Ask], Awaitable[Got]]) -> Send:
    async def main(ask: Ask) -> Got:
        return await send(ask)

    return lambda ask: asyncio.run(main(ask))


def in_trio(send: Callable[[Ask], Awaitable[Got]]) -> Send:
    return lambda ask: trio.run(send, ask)


SENDS: Mapping[str, Send] = {
    "requests": by_requests,
    "urllib3": by_urllib3,
    "httpx": by_httpx,
    "httpx, asyncio": in_asyncio(async_httpx),
    "httpx, trio": in_trio(async_httpx),
    "httpx2": by_httpx2,
    "httpx2, asyncio": in_asyncio(async_httpx2),
    "httpx2, trio": in_trio(async_httpx2),
    "aiohttp": in_asyncio(async_aiohttp),
    "aiohttp, total": in_asyncio(async_aiohttp_total),
}
"""Every library, sync and in each loop that it works in; of aiohttp each of its two timeouts."""

OFTEN = ("requests", "httpx", "httpx2, trio", "aiohttp")
"""One of each kind: the matrix of every library and every bad end is a slow suite."""

EACH = [pytest.param(name, marks=[] if name in OFTEN else [pytest.mark.slow]) for name in SENDS]
