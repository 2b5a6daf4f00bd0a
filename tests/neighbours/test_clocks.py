"""Test libraries that stop or move the wall clock: the sandbox follows them, and nothing hangs."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from freezegun import freeze_time

from fake_credits import FakeCredits
from fake_credits.faults import Latency
from tests.neighbours.connections import balances_in_process, balances_live

pytestmark = pytest.mark.fake_credits(users={"ada": 3})

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
TOTAL_DELAY = timedelta(milliseconds=3)
"""The delay of three in-process calls on the sandbox's clock; calls over the socket use a monotonic clock."""


def grant_time(credits: FakeCredits) -> datetime:
    return credits.server_client.create_transaction("app-id", "ada", delta=1, reason="grant").created_at


@pytest.mark.parametrize("tick", [False, True])
def test_freezegun(fake_credits: FakeCredits, tick: bool) -> None:
    """The sandbox's clock follows freezegun; a server answers during and after the freeze, whenever it was started."""
    fake_credits.faults.add(Latency(1), "getBalance")
    with freeze_time(NOON, tick=tick):
        assert balances_in_process(fake_credits) + balances_live(fake_credits) == [3] * 7
        assert TOTAL_DELAY <= grant_time(fake_credits) - NOON <= (timedelta(minutes=1) if tick else TOTAL_DELAY)
    assert balances_live(fake_credits) == [4] * 4


@pytest.mark.parametrize("tick", [False, True])
def test_time_machine(fake_credits: FakeCredits, tick: bool) -> None:
    """This works the same way as with freezegun, and a token issued under the moved clock is valid."""
    fake_credits.faults.add(Latency(1), "getBalance")
    with time_machine.travel(NOON, tick=tick):
        assert balances_in_process(fake_credits) + balances_live(fake_credits) == [3] * 7
        assert TOTAL_DELAY <= grant_time(fake_credits) - NOON <= (timedelta(minutes=1) if tick else TOTAL_DELAY)
        assert fake_credits.user_client("ada").get_balance("ada").balance == 4
    assert balances_live(fake_credits) == [4] * 4
