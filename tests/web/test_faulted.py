"""An exchange that rules touch: what it leaves in the journal, and that no rule makes a bug of the fake."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NoReturn

import pytest
from freezegun import freeze_time

from fake_credits.drivers.shared import Shared
from fake_credits.errors import Timeout
from fake_credits.fake import FakeCredits
from fake_credits.faults import Zombie
from fake_credits.ledger import Ledger

APP = "app-id"
USER = "user-id"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_a_bug_in_a_write_that_lands_is_kept_and_not_raised_to_who_moved_the_clock(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeCredits(shared=shared, balance=100, clock=NOON) as fake:
        fake.faults.add(Zombie(60_000), "createTransaction")
        with pytest.raises(Timeout):
            fake.server_client.create_transaction(APP, USER, delta=-1, reason="consume")
        bug = ZeroDivisionError("it broke")

        def breaks(*_: object) -> NoReturn:
            raise bug

        monkeypatch.setattr(Ledger, "append", breaks)
        fake.sleep(60)
        assert fake.sandbox.bugs == [bug]
        assert not fake.journal.entries()[-1].committed


LOOKS: dict[str, tuple[Callable[[FakeCredits], object], object]] = {
    "balance": (lambda fake: fake.balance(), 99),
    "the journal": (lambda fake: fake.journal.entries()[0].committed, True),
    "a wait for the journal": (lambda fake: len(fake.journal.wait_for(committed=True)), 1),
    "a new balance": (lambda fake: fake.user(USER, balance=100) and len(fake.sandbox.account(USER)), 3),
}


@pytest.mark.parametrize(("look", "seen"), LOOKS.values(), ids=LOOKS)
def test_what_is_due_by_the_wall_clock_happens_before_python_reads_state(
    shared: Shared, look: Callable[[FakeCredits], object], seen: object
) -> None:
    """Nobody moves a real clock: whoever looks first runs what is due."""
    with freeze_time(NOON) as wall, FakeCredits(shared=shared, balance=100) as fake:
        fake.faults.add(Zombie(60_000), "createTransaction")
        with pytest.raises(Timeout):
            fake.server_client.create_transaction(APP, USER, delta=-1, reason="consume")
        wall.tick(timedelta(seconds=61))
        assert look(fake) == seen
