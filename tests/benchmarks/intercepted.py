"""Benchmarks of interception: the cost of an application's request that is answered in process."""

# ruff: noqa: RUF001 - ratios have multiplication signs

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import httpx2
import requests

from fake_credits.fake import FakeCredits
from tests.benchmarks.load import run_server
from tests.benchmarks.plan import Measurement, Plan, best_us, compare
from tests.benchmarks.raw import USER

_BASE = "https://credits.internal"
Call = Callable[..., requests.Response]

_PATH = USER + "/balance"


def intercepted_requests(plan: Plan) -> Measurement:
    """Compare intercepted and live calls with requests, in a session (which keeps its connection) and without one."""
    with (
        run_server("fake") as live,
        FakeCredits(balance=100, api_key=live.key) as fake,
        requests.Session() as session,
        fake.intercept(_BASE),
    ):
        headers = {"X-API-Key": live.key}
        calls: list[Call] = [session.get, session.get, requests.get, requests.get]
        urls = [_BASE + _PATH, live.url + _PATH] * 2
        sides = [partial(_get_balance, call, url, headers) for call, url in zip(calls, urls, strict=True)]
        session_us, live_session_us, single_us, live_single_us = best_us(sides, _with_fewer_calls(plan))
    return Measurement(
        "{ratio:.2f}× ({ours_us:.0f} : {live_us:.0f} µs); "
        "without a session {single_ratio:.2f}× ({single_us:.0f} : {live_single_us:.0f} µs)",
        ratio=session_us / live_session_us,
        ours_us=session_us,
        live_us=live_session_us,
        single_ratio=single_us / live_single_us,
        single_us=single_us,
        live_single_us=live_single_us,
    )


def _get_balance(call: Call, url: str, headers: dict[str, str]) -> int:
    balance: int = call(url, headers=headers, timeout=5).json()["balance"]
    return balance


def _with_fewer_calls(plan: Plan) -> Plan:
    return replace(plan, calls=max(plan.calls // 10, 20), call_rounds=plan.call_rounds * 2)


def intercepted_httpx2(plan: Plan) -> Measurement:
    """Compare an intercepted httpx2 call with one to httpx2's own mock, at the same URL."""
    with FakeCredits(balance=100) as fake, fake.intercept(_BASE):
        headers = {"X-API-Key": fake.api_key}
        mock = httpx2.Client(base_url=_BASE, headers=headers, transport=httpx2.MockTransport(_mock_response))
        with mock, httpx2.Client(base_url=_BASE, headers=headers) as client:
            intercepted_us, mock_us = best_us(
                [lambda: _get_balance_httpx2(client), lambda: _get_balance_httpx2(mock)], plan
            )
    return compare(intercepted_us, mock_us)


def _mock_response(_request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(200, headers={"content-type": "application/json"}, content=b'{"balance":100}')


def _get_balance_httpx2(client: httpx2.Client) -> int:
    balance: int = client.get(_PATH).json()["balance"]
    return balance


def other_urls(plan: Plan) -> Measurement:
    """Measure what interception of another URL adds to calls over the network, in interleaved rounds."""
    with run_server("fake") as live, FakeCredits() as fake, requests.Session() as session, httpx2.Client() as client:
        headers = {"X-API-Key": live.key}
        requests_added_us, requests_us = _added_us(
            lambda: session.get(live.url + _PATH, headers=headers, timeout=5), fake, plan
        )
        httpx2_added_us, httpx2_us = _added_us(lambda: client.get(live.url + _PATH, headers=headers), fake, plan)
    return Measurement(
        "requests {requests_added_us:+.1f} µs (on {requests_us:.0f}), "
        "httpx2 {httpx2_added_us:+.1f} µs (on {httpx2_us:.0f})",
        requests_added_us=requests_added_us,
        requests_us=requests_us,
        httpx2_added_us=httpx2_added_us,
        httpx2_us=httpx2_us,
    )


def _added_us(call: Callable[[], object], fake: FakeCredits, plan: Plan) -> tuple[float, float]:
    fewer = _with_fewer_calls(plan)
    best = {False: float("inf"), True: float("inf")}
    for _ in range(fewer.call_rounds):
        for is_intercepted in best:
            with fake.intercept(_BASE) if is_intercepted else nullcontext():
                best[is_intercepted] = min(best[is_intercepted], *best_us([call], replace(fewer, call_rounds=1)))
    return best[True] - best[False], best[False]
