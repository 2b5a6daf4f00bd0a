"""Benchmarks of the same call answered by fake-credits and by comparable tools, with the same client."""

import logging
from dataclasses import replace
from functools import partial

import httpx
import requests
import responses
import respx
from pytest_httpserver import HTTPServer

from fake_credits.fake import FakeCredits
from tests.benchmarks.plan import Plan, best_us
from tests.benchmarks.raw import USER

_BASE = "https://credits.internal"
_PATH = USER + "/balance"
_BODY = {"balance": 100}


def requests_calls(plan: Plan) -> str:
    """Measure a call of requests: intercepted, mocked by responses, and to pytest-httpserver."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # pytest-httpserver's, with a line for each request
    with (
        FakeCredits(balance=100) as fake,
        HTTPServer() as server,
        requests.Session() as session,
        requests.Session() as mocked_session,
    ):
        headers = {"X-API-Key": fake.api_key}
        server.expect_request(_PATH).respond_with_json(_BODY)
        with fake.intercept(_BASE):
            ours_us, server_us = best_us(
                [
                    partial(_get_with_requests, session, _BASE + _PATH, headers),
                    partial(_get_with_requests, session, server.url_for(_PATH), headers),
                ],
                _with_fewer_calls(plan),
            )
        with responses.RequestsMock() as mock:
            mock.get(_BASE + _PATH, json=_BODY)
            call = partial(_get_with_requests, mocked_session, _BASE + _PATH, headers)
            (mock_us,) = best_us([call], _with_fewer_calls(plan))
    return f"{ours_us:.0f} µs; responses {mock_us:.0f} µs; pytest-httpserver {server_us:.0f} µs"


def httpx_calls(plan: Plan) -> str:
    """Measure a call of httpx: through the transport, and mocked by respx."""
    with FakeCredits(balance=100) as fake:
        headers = {"X-API-Key": fake.api_key}
        router = respx.Router()
        router.get(_BASE + _PATH).respond(json=_BODY)
        ours = httpx.Client(base_url=_BASE, headers=headers, transport=fake.transport("httpx"))
        mocked = httpx.Client(base_url=_BASE, headers=headers, transport=httpx.MockTransport(router.handler))
        with ours, mocked:
            ours_us, mock_us = best_us(
                [partial(_get_with_httpx, ours), partial(_get_with_httpx, mocked)], _with_fewer_calls(plan)
            )
    return f"{ours_us:.0f} µs; respx {mock_us:.0f} µs"


def _get_with_requests(session: requests.Session, url: str, headers: dict[str, str]) -> int:
    balance: int = session.get(url, headers=headers, timeout=5).json()["balance"]
    return balance


def _get_with_httpx(client: httpx.Client) -> int:
    balance: int = client.get(_PATH).json()["balance"]
    return balance


def _with_fewer_calls(plan: Plan) -> Plan:
    """Return a plan with fewer calls a round, because the mocks keep every call."""
    return replace(plan, calls=max(plan.calls // 10, 20))
