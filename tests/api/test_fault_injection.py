"""Exchanges under fault rules: the journal entry is right, and no rule causes a bug in the fake."""

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


def test_bug_in_late_write_is_recorded_and_not_raised_from_clock(
    shared: SharedResources, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeCredits(shared=shared, balance=100, clock=NOON) as fake:
        fake.faults.add(LateWrite(60_000), "createTransaction")
        with pytest.raises(Timeout):
            fake.server_client.create_transaction(APP, USER, delta=-1, reason="consume")
        bug = ZeroDivisionError("it broke")

        def fail(*_: object) -> NoReturn:
            raise bug

        monkeypatch.setattr(Ledger, "append", fail)
        fake.sleep(60)
        assert fake.sandbox.bugs == [bug]
        assert not fake.journal.entries()[-1].committed


STATE_READERS: dict[str, tuple[Callable[[FakeCredits], object], object]] = {
    "balance": (lambda fake: fake.balance(), 99),
    "journal": (lambda fake: fake.journal.entries()[0].committed, True),
    "wait for the journal": (lambda fake: len(fake.journal.wait_for(committed=True)), 1),
    "new balance": (lambda fake: fake.user(USER, balance=100) and len(fake.sandbox.account(USER)), 3),
}


@pytest.mark.parametrize(("read_state", "expected"), STATE_READERS.values(), ids=STATE_READERS)
def test_due_events_run_before_python_reads_state(
    shared: SharedResources, read_state: Callable[[FakeCredits], object], expected: object
) -> None:
    """Nothing advances a real clock explicitly, so the first read of the state runs due events."""
    with freeze_time(NOON) as wall, FakeCredits(shared=shared, balance=100) as fake:
        fake.faults.add(LateWrite(60_000), "createTransaction")
        with pytest.raises(Timeout):
            fake.server_client.create_transaction(APP, USER, delta=-1, reason="consume")
        wall.tick(timedelta(seconds=61))
        assert read_state(fake) == expected


# ------------------------------------------------------------ no rule causes a bug in the fake


def fake_with_rules(shared: SharedResources, *rules: Rule, clock: datetime = NOON) -> FakeCredits:
    return FakeCredits(shared=shared, balance=100, clock=clock, faults=list(rules))


def test_schema_drift_skips_body_that_is_not_json(shared: SharedResources) -> None:
    """A response with such a body may have status 200 and the API's media type."""
    for body in ("html", "bom"):
        not_json = Rule(effect=NotJson(200, body), phase="after", stack=True)
        with fake_with_rules(shared, not_json, Rule(effect=SchemaDrift())) as fake:
            with pytest.raises(InvalidResponse):
                fake.server_client.get_balance(APP, USER)
            assert fake.problems() == []


def test_retry_after_date_is_capped_at_last_datetime(shared: SharedResources) -> None:
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    unavailable = Rule(effect=Status(503, retry_after_s=10, retry_after_form="date"))
    with fake_with_rules(shared, unavailable, clock=last) as fake:
        with pytest.raises(Unavailable):
            fake.server_client.get_balance(APP, USER)
        assert fake.problems() == []


def test_exception_in_where_function_fails_call_and_test(shared: SharedResources) -> None:
    """Such an exception is a mistake in the test, not a bug in the fake; the traceback points into the test."""
    with fake_with_rules(shared) as fake:

        def fail(call: IncomingCall) -> bool:
            return bool(call.ordinal / 0)

        rule = fake.faults.add(Status(503), where=fail)
        message = "the `where` function of the rule 'status#1' raised ZeroDivisionError: division by zero"
        with pytest.raises(ServerError, match=re.escape(message)) as raised:
            fake.server_client.get_balance(APP, USER)
        (problem, unused), (entry,) = fake.problems(), fake.journal
        assert unused.startswith("the rule 'status#1' never fired")
        assert (rule.matched, raised.value.fault, entry.cause) == (0, "status#1", "fault:status#1")
        assert entry.client == "server"
        head, start, *lines = problem.splitlines()
        assert (head, start) == (message, "Traceback (most recent call last):")
        assert __file__ in lines[0]
        assert "fail" in lines[0]
        assert lines[-1] == "ZeroDivisionError: division by zero"


def test_where_function_reads_headers_case_insensitively(shared: SharedResources) -> None:
    with fake_with_rules(shared) as fake:

        def has_api_key(call: IncomingCall) -> bool:
            return call.headers.get("X-API-Key") == fake.api_key

        rule = fake.faults.add(Status(503), where=has_api_key)
        with pytest.raises(Unavailable):
            fake.server_client.get_balance(APP, USER)
        assert rule.fired == 1


# ------------------------------------------------------------ the journal


def test_cause_is_the_last_fault_that_shaped_the_response(shared: SharedResources) -> None:
    not_json = Rule(effect=NotJson(200), phase="after", stack=True, name="page")
    with fake_with_rules(shared, not_json, Rule(effect=Status(503), phase="after", name="busy")) as fake:
        with pytest.raises(Unavailable):
            fake.server_client.get_balance(APP, USER)
        (entry,) = fake.journal
        assert (entry.rule, entry.cause, entry.code) == ("page+busy", "fault:busy", "unavailable")
