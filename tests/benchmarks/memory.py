"""Measure memory use and garbage-collection pauses with many transactions, in a separate process.

python -m tests.benchmarks.memory TRANSACTIONS
"""

import gc
import json
import sys
import time
from typing import Self

from fake_credits.fake import FakeCredits
from fake_credits.models import Reason
from tests.benchmarks.load import rss_bytes

_CALLS = 20_000


class GcPauses:
    """A context manager that records the duration of each garbage collection."""

    def __init__(self) -> None:
        self._started = 0.0
        self._durations_s = [0.0]

    def __enter__(self) -> Self:
        gc.callbacks.append(self._watch)
        return self

    def __exit__(self, *error: object) -> None:
        gc.callbacks.remove(self._watch)

    def _watch(self, phase: str, _info: object) -> None:
        if phase == "start":
            self._started = time.perf_counter()
        else:
            self._durations_s.append(time.perf_counter() - self._started)

    def longest_ms(self) -> float:
        """Return the longest pause in milliseconds."""
        return max(self._durations_s) * 1000


def pause_in_use_ms(fake: FakeCredits) -> float:
    """Return the longest automatic garbage-collection pause during calls."""
    with GcPauses() as pauses:
        for _ in range(_CALLS):
            fake.server_client.get_balance("app-id", "user-id")
    return pauses.longest_ms()


def forced_pause_ms() -> float:
    """Return the duration of a full collection in milliseconds, the best of five."""
    pauses_ms: list[float] = []
    for _ in range(5):
        with GcPauses() as pauses:
            gc.collect()
        pauses_ms.append(pauses.longest_ms())
    return min(pauses_ms)


def main() -> None:
    """Run the measurements and print them as one line of JSON."""
    transactions = int(sys.argv[1])
    with FakeCredits(balance=1) as fake:
        account = fake.sandbox.ledger.get_account("app-id", "user-id")
        pause_in_use_ms(fake)  # fills the journal
        forced_before_ms = forced_pause_ms()
        before = rss_bytes()
        for _ in range(transactions):
            fake.sandbox.ledger.append(account, 1, Reason.GRANT, 1_700_000_000_000)
        measured = {
            "bytes_each": (rss_bytes() - before) / transactions,
            "in_use_ms": pause_in_use_ms(fake),
            "forced_ms": forced_pause_ms(),
            "forced_before_ms": forced_before_ms,
        }
    sys.stdout.write(json.dumps(measured) + "\n")


if __name__ == "__main__":
    main()
