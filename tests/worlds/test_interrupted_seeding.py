"""Seeding that loses responses and is interrupted or killed reaches the planned state when repeated."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_credits.contract import Contract
from fake_credits.fake import FakeCredits
from fake_credits.faults import Reset, Rule, Status
from fake_credits.journal import JournalEntry
from fake_credits.keyed_random import keyed_generator
from fake_credits.worlds import make_world
from fake_credits.worlds.profiles import Profile
from fake_credits.worlds.world import save_world
from tests.cli.conftest import LIMIT_S, clean_environment
from tests.worlds.test_seeding import is_seeded

WORLD = make_world(Profile(name="killed", users=12, transactions=300), 0)
LOST_RESPONSES = (
    Rule(name="lost", effect=Reset(), operation="createTransaction", phase="after", every=7),
    Rule(name="late", effect=Status(status=502), operation="createTransaction", phase="after", every=11),
    Rule(name="unsent", effect=Reset(), operation="createTransaction", phase="before", every=13),
)


@pytest.fixture
def fake() -> Iterator[FakeCredits]:
    """Yield a server that loses responses; its pages are so small that a history spans many of them."""
    with FakeCredits(mode="live", contract=Contract(page_size=10), faults=LOST_RESPONSES) as credits:
        credits.serve()
        yield credits


@pytest.fixture
def command(fake: FakeCredits, tmp_path: Path) -> list[str]:
    save_world(WORLD, tmp_path / "world.json")
    (tmp_path / "contract.toml").write_text("version = 1\npage_size = 10\n")
    profile_flags = [
        "--profile",
        str(tmp_path / "world.json"),
        "--contract",
        str(tmp_path / "contract.toml"),
        "--quiet",
    ]
    target_flags = ["--url", fake.base_url, "--api-key", fake.api_key]
    return [sys.executable, "-m", "fake_credits", "seed", *profile_flags, *target_flags]


class ExchangeCountdown:
    """A countdown that sets an event after a given number of further exchanges."""

    def __init__(self, fake: FakeCredits) -> None:
        self._remaining = 0
        self._event = threading.Event()
        fake.journal.on_write = self._count_exchange

    def expect(self, exchanges: int) -> threading.Event:
        self._event.clear()
        self._remaining = exchanges
        return self._event

    def _count_exchange(self, _entry: JournalEntry) -> None:
        self._remaining -= 1
        if self._remaining == 0:
            self._event.set()


def run_until(command: list[str], event: threading.Event, signal_number: int) -> int:
    """Run the command, send it a signal once the event is set, and return its exit code."""
    process = subprocess.Popen(command, env=clean_environment(), stderr=subprocess.DEVNULL)
    try:
        assert event.wait(LIMIT_S), "the exchanges did not happen"
        process.send_signal(signal_number)
        return process.wait(LIMIT_S)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("kills", [1, pytest.param(50, marks=pytest.mark.slow)])
def test_repeated_seeding_completes_after_interruptions(kills: int, fake: FakeCredits, command: list[str]) -> None:
    countdown, random_fraction = ExchangeCountdown(fake), keyed_generator(7, "kills").random
    codes: list[int] = []
    for kill in range(kills):
        # A run sends at least one request per user and then the remaining writes, so the event is always set.
        remaining = 300 - sum(map(len, fake.sandbox.ledger.page_of_users("app-id", None, 1)[0]))
        exchanges = 1 + int(random_fraction() * (12 if kill % 5 == 4 else 12 + min(remaining, 2 * 300 // kills)))
        codes.append(run_until(command, countdown.expect(exchanges), (signal.SIGKILL, signal.SIGINT)[kill % 2]))
    # Python restores SIGINT's default action as it exits, so the signal may kill a seeder that is done.
    done = {0, -signal.SIGINT}
    assert set(codes) <= {-signal.SIGKILL, 130, *done}
    assert sum(code in done for code in codes) <= kills // 10
    result = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert is_seeded(fake, WORLD)
    assert all(rule.fired for rule in fake.faults)
