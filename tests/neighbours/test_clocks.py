"""Libraries that stop or move the clock: the sandbox goes with them, and nothing hangs."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from freezegun import freeze_time

from fake_credits import FakeCredits
from fake_credits.faults import Latency
from tests.neighbours.connections import in_process, live

pytestmark = pytest.mark.fake_credits(users={"ada": 3})

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
WAITED = timedelta(milliseconds=3)
"""What three calls in process wait on the sandbox's clock; those over the socket wait on no clock that is stopped."""


def _grant(credits: FakeCredits) -> datetime:
    return credits.server_client.create_transaction("app-id", "ada", delta=1, reason="grant").created_at


@pytest.mark.parametrize("tick", [False, True])
def test_freezegun(fake_credits: FakeCredits, tick: bool) -> None:
    """A real clock shows its time; a server that starts under it answers, also late, and so does one from before."""
    fake_credits.faults.add(Latency(1), "getBalance")
    with freeze_time(NOON, tick=tick):
        assert in_process(fake_credits) + live(fake_credits) == [3] * 7
        assert WAITED <= _grant(fake_credits) - NOON <= (timedelta(minutes=1) if tick else WAITED)
    assert live(fake_credits) == [4] * 4


@pytest.mark.parametrize("tick", [False, True])
def test_time_machine(fake_credits: FakeCredits, tick: bool) -> None:
    """The same, and a token that was minted then is good then."""
    fake_credits.faults.add(Latency(1), "getBalance")
    with time_machine.travel(NOON, tick=tick):
        assert in_process(fake_credits) + live(fake_credits) == [3] * 7
        assert WAITED <= _grant(fake_credits) - NOON <= (timedelta(minutes=1) if tick else WAITED)
        assert fake_credits.user_client("ada").get_balance("ada").balance == 4
    assert live(fake_credits) == [4] * 4
