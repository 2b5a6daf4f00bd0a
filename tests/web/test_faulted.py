"""An exchange that rules touch: what it leaves in the journal, and that no rule makes a bug of the fake."""

from datetime import UTC, datetime
from typing import NoReturn

import pytest

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
