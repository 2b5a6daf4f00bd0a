"""Own the rows of what runs in this process, or in a fresh one of its own: calls, sandboxes, growth, memory."""

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
from tests.benchmarks.load import need_proc
from tests.benchmarks.plan import ROOT, Plan, best_us, times
from tests.benchmarks.raw import USER

_BASE = "http://credits.test"
_PAGE = 20


def client_call(plan: Plan) -> str:
    """Measure our own client's call in process."""
    with FakeCredits(balance=100) as fake, _mocked() as mock:
        get_balance = fake.server_client.get_balance
        ours, theirs = best_us([lambda: get_balance("app-id", "user-id").balance, lambda: _balance(mock)], plan)
    return f"{times(ours, theirs)} ({ours:.1f} : {theirs:.1f} µs)"


def transport_call(plan: Plan) -> str:
    """Measure the call of an application's own httpx2 client."""
    with FakeCredits(balance=100) as fake, _mocked() as mock:
        headers = {"X-API-Key": fake.api_key}
        client = httpx2.Client(base_url=_BASE, headers=headers, transport=fake.transport("httpx2"))
        with client:
            ours, theirs = best_us([lambda: _balance(client), lambda: _balance(mock)], plan)
    return f"{times(ours, theirs)} ({ours:.1f} : {theirs:.1f} µs)"


def _mocked() -> httpx2.Client:
    body, headers = b'{"balance":100}', {"content-type": "application/json"}

    def answer(_request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers=headers, content=body)

    transport = httpx2.MockTransport(answer)
    return httpx2.Client(base_url=_BASE, headers={"X-API-Key": "benchmark-key"}, transport=transport)


def _balance(client: httpx2.Client) -> int:
    balance: int = client.get(USER + "/balance").json()["balance"]
    return balance


def sandbox(plan: Plan) -> str:
    """Measure how long a sandbox takes to make, and the façade around one."""
    shared = SharedResources()
    bare, seeded, facade = best_us(
        [
            lambda: shared.new_sandbox(SandboxOptions()),
            lambda: shared.new_sandbox(SandboxOptions(balance=100)),
            lambda: FakeCredits(shared=shared),
        ],
        plan,
    )
    shared.close()
    return f"{bare:.1f} µs (with a user of balance 100 {seeded:.1f}, as `FakeCredits` {facade:.1f})"


def growth(plan: Plan) -> str:
    """Measure an append and a page at many transactions against few, through the client and on the ledger alone."""
    plan = replace(plan, calls=max(plan.calls // 10, 20))  # few calls a round, so that the small history stays small
    with _with_history(plan.few) as few, _with_history(plan.many) as many:
        appends = best_us([lambda: _append(few), lambda: _append(many)], plan)
        booked = best_us([lambda: _book(few), lambda: _book(many)], plan)
        pages = best_us([lambda: _page(few), lambda: _page(many)], plan)
    return (
        f"append {times(appends[1], appends[0])} ({appends[1]:.1f} : {appends[0]:.1f} µs; on the ledger alone "
        f"{times(booked[1], booked[0])}), page {times(pages[1], pages[0])} ({pages[1]:.1f} : {pages[0]:.1f} µs)"
    )


def _with_history(transactions: int) -> FakeCredits:
    fake = FakeCredits(balance=1, contract=replace(DEFAULT_CONTRACT, page_size=_PAGE))
    account = fake.sandbox.ledger.get_account("app-id", "user-id")
    for _ in range(transactions):
        fake.sandbox.ledger.append(account, 1, Reason.GRANT, 1_700_000_000_000)
    return fake


def _append(fake: FakeCredits) -> object:
    return fake.server_client.create_transaction("app-id", "user-id", delta=1, reason=Reason.GRANT)


def _book(fake: FakeCredits) -> object:
    ledger = fake.sandbox.ledger
    return ledger.append(ledger.get_account("app-id", "user-id"), 1, Reason.GRANT, 1_700_000_000_000)


def _page(fake: FakeCredits) -> object:
    return fake.server_client.list_transactions("app-id", "user-id")


def memory(plan: Plan) -> str:
    """Measure a million transactions in a fresh process: bytes each, and the longest garbage collection."""
    need_proc()
    command = [sys.executable, "-m", "tests.benchmarks.memory", str(plan.many)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    return (
        f"{told['bytes_each']:.1f} bytes each; {told['in_use_ms']:.1f} ms in use, a forced full collection "
        f"{told['forced_ms']:.1f} ms (without them {told['forced_before_ms']:.1f})"
    )
