"""Libraries that stop or move the clock: the sandbox goes with them, and nothing hangs."""

from datetime import UTC, datetime

import pytest
import time_machine
from freezegun import freeze_time

from fake_credits import FakeCredits
from tests.neighbours.ways import in_process, live

pytestmark = pytest.mark.fake_credits(users={"ada": 3})

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def _grant(credits: FakeCredits) -> datetime:
    return credits.server_client.create_transaction("app-id", "ada", delta=1, reason="grant").created_at


@pytest.mark.parametrize("tick", [False, True])
def test_freezegun(fake_credits: FakeCredits, tick: bool) -> None:
    """A real clock shows its time; a server that starts under it answers, and so does one that ran before."""
    with freeze_time(NOON, tick=tick):
        assert in_process(fake_credits) + live(fake_credits) == [3] * 7
        assert 0 <= (_grant(fake_credits) - NOON).total_seconds() <= (60 if tick else 0)
    assert live(fake_credits) == [4] * 4


@pytest.mark.parametrize("tick", [False, True])
def test_time_machine(fake_credits: FakeCredits, tick: bool) -> None:
    """The same, and a token that was minted then is good then."""
    with time_machine.travel(NOON, tick=tick):
        assert in_process(fake_credits) + live(fake_credits) == [3] * 7
        assert 0 <= (_grant(fake_credits) - NOON).total_seconds() <= (60 if tick else 0)
        assert fake_credits.user_client("ada").get_balance("ada").balance == 4
    assert live(fake_credits) == [4] * 4
