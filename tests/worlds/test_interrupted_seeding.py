"""Ended at any moment, by Ctrl-C or without a word, and with answers lost: run again, it ends where it was to end."""

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
LOST = (
    Rule(name="lost", effect=Reset(), operation="createTransaction", phase="after", every=7),
    Rule(name="late", effect=Status(status=502), operation="createTransaction", phase="after", every=11),
    Rule(name="unsent", effect=Reset(), operation="createTransaction", phase="before", every=13),
)


@pytest.fixture
def fake() -> Iterator[FakeCredits]:
    """A server that loses answers; its pages are short, so that a history has many."""
    with FakeCredits(mode="live", contract=Contract(page_size=10), faults=LOST) as credits:
        credits.serve()
        yield credits


@pytest.fixture
def command(fake: FakeCredits, tmp_path: Path) -> list[str]:
    save_world(WORLD, tmp_path / "world.json")
    (tmp_path / "contract.toml").write_text("version = 1\npage_size = 10\n")
    words = ["--profile", str(tmp_path / "world.json"), "--contract", str(tmp_path / "contract.toml"), "--quiet"]
    where = ["--url", fake.base_url, "--api-key", fake.api_key]
    return [sys.executable, "-m", "fake_credits", "seed", *words, *where]


class Moment:
    """Be the moment at which a number of exchanges more has ended."""

    def __init__(self, fake: FakeCredits) -> None:
        self._left = 0
        self._come = threading.Event()
        fake.journal.on_write = self._hear

    def set(self, exchanges: int) -> threading.Event:
        self._come.clear()
        self._left = exchanges
        return self._come

    def _hear(self, _entry: JournalEntry) -> None:
        self._left -= 1
        if self._left == 0:
            self._come.set()


def run_until(command: list[str], moment: threading.Event, number: int) -> int:
    """Run the command, send it a signal at a moment, and return its exit code."""
    process = subprocess.Popen(command, env=clean_environment(), stderr=subprocess.DEVNULL)
    try:
        assert moment.wait(LIMIT_S), "the moment did not come"
        process.send_signal(number)
        return process.wait(LIMIT_S)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("kills", [1, pytest.param(50, marks=pytest.mark.slow)])
def test_every_user_ends_with_the_planned_history(kills: int, fake: FakeCredits, command: list[str]) -> None:
    moment, draw = Moment(fake), keyed_generator(7, "kills").random
    codes: list[int] = []
    for kill in range(kills):
        # A run asks for each user at least once, and then writes what is left: so the moment comes.
        left = 300 - sum(map(len, fake.sandbox.ledger.page_of_users("app-id", None, 1)[0]))
        exchanges = 1 + int(draw() * (12 if kill % 5 == 4 else 12 + min(left, 2 * 300 // kills)))
        codes.append(run_until(command, moment.set(exchanges), (signal.SIGKILL, signal.SIGINT)[kill % 2]))
    assert set(codes) <= {-signal.SIGKILL, 130, 0}
    assert codes.count(0) <= kills // 10
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert is_seeded(fake, WORLD)
    assert all(rule.fired for rule in fake.faults)
