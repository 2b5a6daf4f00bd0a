"""An exchange that rules touch: what it leaves in the journal, and that no rule makes a bug of the fake."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NoReturn

import pytest
from freezegun import freeze_time

from fake_credits.errors import InvalidResponse, ServerError, Timeout, Unavailable
from fake_credits.fake import FakeCredits
from fake_credits.faults import IncomingCall, LateWrite, NotJson, Rule, SchemaDrift, Status
from fake_credits.ledger import Ledger
from fake_credits.transports.shared_resources import SharedResources

APP = "app-id"
USER = "user-id"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_a_bug_in_a_write_that_lands_is_kept_and_not_raised_to_who_moved_the_clock(
    shared: SharedResources, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeCredits(shared=shared, balance=100, clock=NOON) as fake:
        fake.faults.add(LateWrite(60_000), "createTransaction")
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
    shared: SharedResources, look: Callable[[FakeCredits], object], seen: object
) -> None:
    """Nobody moves a real clock: whoever looks first runs what is due."""
    with freeze_time(NOON) as wall, FakeCredits(shared=shared, balance=100) as fake:
        fake.faults.add(LateWrite(60_000), "createTransaction")
        with pytest.raises(Timeout):
            fake.server_client.create_transaction(APP, USER, delta=-1, reason="consume")
        wall.tick(timedelta(seconds=61))
        assert look(fake) == seen


# ------------------------------------------------------------ no rule makes a bug of the fake


def bad_day(shared: SharedResources, *rules: Rule, clock: datetime = NOON) -> FakeCredits:
    return FakeCredits(shared=shared, balance=100, clock=clock, faults=list(rules))


def test_a_page_of_a_proxy_is_no_body_that_drifts(shared: SharedResources) -> None:
    """Its status may be 200, and its media type the API's."""
    for body in ("html", "bom"):
        page = Rule(effect=NotJson(200, body), phase="after", stack=True)
        with bad_day(shared, page, Rule(effect=SchemaDrift())) as fake:
            with pytest.raises(InvalidResponse):
                fake.server_client.get_balance(APP, USER)
            assert fake.problems() == []


def test_a_date_to_retry_after_is_at_most_the_last_there_is(shared: SharedResources) -> None:
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    busy = Rule(effect=Status(503, retry_after_s=10, retry_after_form="date"))
    with bad_day(shared, busy, clock=last) as fake:
        with pytest.raises(Unavailable):
            fake.server_client.get_balance(APP, USER)
        assert fake.problems() == []


def test_a_rules_function_that_raises_fails_its_call_and_the_test(shared: SharedResources) -> None:
    """It is the test's mistake, and no bug of the fake; the test's own traceback shows where."""
    with bad_day(shared) as fake:

        def breaks(call: IncomingCall) -> bool:
            return bool(call.ordinal / 0)

        rule = fake.faults.add(Status(503), where=breaks)
        what = "the function `where` of the rule 'status#1' raised ZeroDivisionError: division by zero"
        with pytest.raises(ServerError, match=re.escape(what)) as raised:
            fake.server_client.get_balance(APP, USER)
        (problem,), (entry,) = fake.problems(), fake.journal
        assert (rule.matched, raised.value.fault, entry.cause) == (0, "status#1", "fault:status#1")
        assert entry.client == "server"
        head, start, *lines = problem.splitlines()
        assert (head, start) == (what, "Traceback (most recent call last):")
        assert __file__ in lines[0]
        assert "breaks" in lines[0]
        assert lines[-1] == "ZeroDivisionError: division by zero"


def test_a_rules_function_reads_headers_as_text_in_any_case(shared: SharedResources) -> None:
    with bad_day(shared) as fake:

        def is_ours(call: IncomingCall) -> bool:
            return call.headers.get("X-API-Key") == fake.api_key

        rule = fake.faults.add(Status(503), where=is_ours)
        with pytest.raises(Unavailable):
            fake.server_client.get_balance(APP, USER)
        assert rule.fired == 1


# ------------------------------------------------------------ what the journal says


def test_the_cause_is_the_last_fault_that_made_the_answer(shared: SharedResources) -> None:
    page = Rule(effect=NotJson(200), phase="after", stack=True, name="page")
    with bad_day(shared, page, Rule(effect=Status(503), phase="after", name="busy")) as fake:
        with pytest.raises(Unavailable):
            fake.server_client.get_balance(APP, USER)
        (entry,) = fake.journal
        assert (entry.rule, entry.cause, entry.code) == ("page+busy", "fault:busy", "unavailable")
