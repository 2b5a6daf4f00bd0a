"""Benchmarks of calls, sandboxes, growth and memory, in this process or a new one."""

# ruff: noqa: RUF001 - ratios contain multiplication signs

import json
import subprocess
import sys
from dataclasses import replace

import httpx2

from fake_credits.contract import DEFAULT_CONTRACT
from fake_credits.fake import FakeCredits
from fake_credits.models import Reason
from fake_credits.sandbox_options import SandboxOptions
from fake_credits.transports.shared_resources import SharedResources
from tests.benchmarks.load import require_proc
from tests.benchmarks.plan import ROOT, Measurement, Plan, best_us, compare
from tests.benchmarks.raw import USER

_BASE = "http://credits.test"
_PAGE = 20


def client_call(plan: Plan) -> Measurement:
    """Measure an in-process call with the server client."""
    with FakeCredits(balance=100) as fake, _mock_client() as mock:
        get_balance = fake.server_client.get_balance
        fake_us, mock_us = best_us([lambda: get_balance("app-id", "user-id").balance, lambda: _get_balance(mock)], plan)
    return compare(fake_us, mock_us)


def transport_call(plan: Plan) -> Measurement:
    """Measure a call with an httpx2 client through the transport."""
    with FakeCredits(balance=100) as fake, _mock_client() as mock:
        headers = {"X-API-Key": fake.api_key}
        client = httpx2.Client(base_url=_BASE, headers=headers, transport=fake.transport("httpx2"))
        with client:
            fake_us, mock_us = best_us([lambda: _get_balance(client), lambda: _get_balance(mock)], plan)
    return compare(fake_us, mock_us)


def _mock_client() -> httpx2.Client:
    body, headers = b'{"balance":100}', {"content-type": "application/json"}

    def respond(_request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers=headers, content=body)

    transport = httpx2.MockTransport(respond)
    return httpx2.Client(base_url=_BASE, headers={"X-API-Key": "benchmark-key"}, transport=transport)


def _get_balance(client: httpx2.Client) -> int:
    balance: int = client.get(USER + "/balance").json()["balance"]
    return balance


def sandbox(plan: Plan) -> Measurement:
    """Measure the time to create a sandbox and a `FakeCredits`."""
    shared = SharedResources()
    empty_us, balance_us, facade_us = best_us(
        [
            lambda: shared.new_sandbox(SandboxOptions()),
            lambda: shared.new_sandbox(SandboxOptions(balance=100)),
            lambda: FakeCredits(shared=shared),
        ],
        plan,
    )
    shared.close()
    return Measurement(
        "{empty_us:.1f} µs (with a user of balance 100 {balance_us:.1f}, as `FakeCredits` {facade_us:.1f})",
        empty_us=empty_us,
        balance_us=balance_us,
        facade_us=facade_us,
    )


def growth(plan: Plan) -> Measurement:
    """Measure how much slower an append and a page are with many transactions than with few."""
    plan = replace(plan, calls=max(plan.calls // 10, 20))  # few calls per round, so that the small history stays small
    with _with_history(plan.few) as small, _with_history(plan.many) as large:
        appends = best_us([lambda: _append(small), lambda: _append(large)], plan)
        ledger_appends = best_us([lambda: _append_to_ledger(small), lambda: _append_to_ledger(large)], plan)
        pages = best_us([lambda: _page(small), lambda: _page(large)], plan)
    return Measurement(
        "append {append_ratio:.2f}× ({append_many_us:.1f} : {append_few_us:.1f} µs; "
        "on the ledger alone {ledger_ratio:.2f}×), "
        "page {page_ratio:.2f}× ({page_many_us:.1f} : {page_few_us:.1f} µs)",
        append_ratio=appends[1] / appends[0],
        append_many_us=appends[1],
        append_few_us=appends[0],
        ledger_ratio=ledger_appends[1] / ledger_appends[0],
        page_ratio=pages[1] / pages[0],
        page_many_us=pages[1],
        page_few_us=pages[0],
    )


def _with_history(transactions: int) -> FakeCredits:
    fake = FakeCredits(balance=1, contract=replace(DEFAULT_CONTRACT, page_size=_PAGE))
    account = fake.sandbox.ledger.get_account("app-id", "user-id")
    for _ in range(transactions):
        fake.sandbox.ledger.append(account, 1, Reason.GRANT, 1_700_000_000_000)
    return fake


def _append(fake: FakeCredits) -> object:
    return fake.server_client.create_transaction("app-id", "user-id", delta=1, reason=Reason.GRANT)


def _append_to_ledger(fake: FakeCredits) -> object:
    ledger = fake.sandbox.ledger
    return ledger.append(ledger.get_account("app-id", "user-id"), 1, Reason.GRANT, 1_700_000_000_000)


def _page(fake: FakeCredits) -> object:
    return fake.server_client.list_transactions("app-id", "user-id")


def memory(plan: Plan) -> Measurement:
    """Measure a million transactions in a fresh process: bytes per transaction, and garbage-collection pauses."""
    require_proc()
    command = [sys.executable, "-m", "tests.benchmarks.memory", str(plan.many)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    measured = json.loads(result.stdout)
    return Measurement(
        "{bytes_each:.1f} bytes each; {in_use_ms:.1f} ms in use, a forced full collection {forced_ms:.1f} ms "
        "(without them {forced_before_ms:.1f})",
        **measured,
    )
