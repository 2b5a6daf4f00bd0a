"""Own the rows of interception: what an application's own request costs where it is answered in process."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import httpx2
import requests

from fake_credits.fake import FakeCredits
from tests.benchmarks.load import served
from tests.benchmarks.plan import Plan, best_us, times
from tests.benchmarks.raw import USER

_BASE = "https://credits.internal"
Call = Callable[..., requests.Response]

_PATH = USER + "/balance"


def by_requests(plan: Plan) -> str:
    """Measure a call of requests with a session that keeps its connection, and one without a session."""
    with (
        served("ours") as live,
        FakeCredits(balance=100, api_key=live.key) as fake,
        requests.Session() as session,
        fake.intercept(_BASE),
    ):
        headers = {"X-API-Key": live.key}
        calls: list[Call] = [session.get, session.get, requests.get, requests.get]
        urls = [_BASE + _PATH, live.url + _PATH] * 2
        sides = [partial(_answered, call, url, headers) for call, url in zip(calls, urls, strict=True)]
        kept, live_kept, alone, live_alone = best_us(sides, _fewer(plan))
    return (
        f"{times(kept, live_kept)} ({kept:.0f} : {live_kept:.0f} µs); without a session {times(alone, live_alone)} "
        f"({alone:.0f} : {live_alone:.0f} µs)"
    )


def _answered(call: Call, url: str, headers: dict[str, str]) -> int:
    balance: int = call(url, headers=headers, timeout=5).json()["balance"]
    return balance


def _fewer(plan: Plan) -> Plan:
    return replace(plan, calls=max(plan.calls // 10, 20), call_rounds=plan.call_rounds * 2)


def by_httpx2(plan: Plan) -> str:
    """Measure a call of httpx2 against its own mock, at the same URL."""
    with FakeCredits(balance=100) as fake, fake.intercept(_BASE):
        headers = {"X-API-Key": fake.api_key}
        mock = httpx2.Client(base_url=_BASE, headers=headers, transport=httpx2.MockTransport(_mocked))
        with mock, httpx2.Client(base_url=_BASE, headers=headers) as client:
            ours, theirs = best_us([lambda: _balance(client), lambda: _balance(mock)], plan)
    return f"{times(ours, theirs)} ({ours:.1f} : {theirs:.1f} µs)"


def _mocked(_request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(200, headers={"content-type": "application/json"}, content=b'{"balance":100}')


def _balance(client: httpx2.Client) -> int:
    balance: int = client.get(_PATH).json()["balance"]
    return balance


def passing(plan: Plan) -> str:
    """Measure what interception of another URL adds to calls over the network, by turns."""
    with served("ours") as live, FakeCredits() as fake, requests.Session() as session, httpx2.Client() as client:
        headers = {"X-API-Key": live.key}
        by_requests = _added(lambda: session.get(live.url + _PATH, headers=headers, timeout=5), fake, plan)
        by_httpx2 = _added(lambda: client.get(live.url + _PATH, headers=headers), fake, plan)
    return f"requests {by_requests}, httpx2 {by_httpx2}"


def _added(call: Callable[[], object], fake: FakeCredits, plan: Plan) -> str:
    fewer = _fewer(plan)
    best = {False: float("inf"), True: float("inf")}
    for _ in range(fewer.call_rounds):
        for on in best:
            with fake.intercept(_BASE) if on else nullcontext():
                best[on] = min(best[on], *best_us([call], replace(fewer, call_rounds=1)))
    return f"{best[True] - best[False]:+.1f} µs (on {best[False]:.0f})"
