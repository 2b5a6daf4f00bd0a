"""Own the measure of what many transactions cost in memory and in garbage-collection stops; alone in its process.

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


class Stops:
    """Be the garbage collections of a block, each with how long it stopped the process."""

    def __init__(self) -> None:
        self._begun = 0.0
        self._spent_s = [0.0]

    def __enter__(self) -> Self:
        gc.callbacks.append(self._watch)
        return self

    def __exit__(self, *error: object) -> None:
        gc.callbacks.remove(self._watch)

    def _watch(self, phase: str, _info: object) -> None:
        if phase == "start":
            self._begun = time.perf_counter()
        else:
            self._spent_s.append(time.perf_counter() - self._begun)

    def longest_ms(self) -> float:
        """Return the longest."""
        return max(self._spent_s) * 1000


def stop_in_use_ms(fake: FakeCredits) -> float:
    """Return the longest stop that comes by itself while calls are made."""
    with Stops() as stops:
        for _ in range(_CALLS):
            fake.server_client.get_balance("app-id", "user-id")
    return stops.longest_ms()


def forced_stop_ms() -> float:
    """Return how long a full collection takes, the best of a few."""
    spent: list[float] = []
    for _ in range(5):
        with Stops() as stops:
            gc.collect()
        spent.append(stops.longest_ms())
    return min(spent)


def main() -> None:
    """Measure, and print one line of JSON."""
    transactions = int(sys.argv[1])
    with FakeCredits(balance=1) as fake:
        account = fake.sandbox.ledger.get_account("app-id", "user-id")
        stop_in_use_ms(fake)  # fills the journal
        forced_before_ms = forced_stop_ms()
        before = rss_bytes()
        for _ in range(transactions):
            fake.sandbox.ledger.append(account, 1, Reason.GRANT, 1_700_000_000_000)
        told = {
            "bytes_each": (rss_bytes() - before) / transactions,
            "in_use_ms": stop_in_use_ms(fake),
            "forced_ms": forced_stop_ms(),
            "forced_before_ms": forced_before_ms,
        }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
