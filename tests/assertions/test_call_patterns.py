"""Test the description of a call: what it fits, and that what no call could meet is refused."""

from enum import Enum
from typing import Any

import pytest
from msgspec import structs

from fake_credits.call_patterns import Call, Criteria
from fake_credits.contract import Operation
from fake_credits.journal import JournalEntry
from fake_credits.models import Reason
from tests.assertions.conftest import entry


def test_every_field_of_an_entry_is_a_criterion() -> None:
    """With its type, but for the operation, which is said first."""
    fields = {
        field.name: field.type for field in structs.fields(JournalEntry) if field.name not in ("operation", "headers")
    }
    criteria = {name: kind for name, kind in Criteria.__annotations__.items() if name not in ("headers", "where")}
    assert criteria == fields


@pytest.mark.parametrize("operation", Operation)
def test_every_operation_can_be_asked_for(operation: Operation) -> None:
    for said in (operation, operation.value):
        assert Call(said).matches(entry(1, operation.value))
        assert repr(Call(said)) == operation.value
    assert not Call(operation).matches(entry(1, ""))


def test_all_criteria_must_hold() -> None:
    told = entry(1, delta=-10, reason="consume", committed=True)
    assert Call("createTransaction", user="ada", delta=-10, reason=Reason.CONSUME, committed=True).matches(told)
    assert not Call("createTransaction", user="bob", delta=-10).matches(told)
    assert not Call("createTransaction", delta=-11).matches(told)
    assert not Call("createTransaction", committed=False).matches(told)


def test_without_operation_and_criteria_it_is_any_call() -> None:
    assert Call().matches(entry(1, ""))
    assert Call(user="ada").matches(entry(1, ""))
    assert repr(Call()) == "any call"


def test_none_asks_for_a_call_without_a_delta() -> None:
    assert Call(delta=None).matches(entry(1))
    assert not Call(delta=None).matches(entry(1, delta=5))


def test_headers_are_named_in_any_case_and_others_do_not_matter() -> None:
    told = entry(1, headers={"x-tenant": "a", "traceparent": "00-1"})
    assert Call(headers={"X-Tenant": "a"}).matches(told)
    assert not Call(headers={"X-Tenant": "A"}).matches(told)
    assert not Call(headers={"X-Other": "a"}).matches(told)


def test_a_condition_is_told_the_entry() -> None:
    assert Call(where=lambda told: told.status >= 200).matches(entry(1))
    assert not Call(where=lambda told: told.status >= 500).matches(entry(1))
    assert Call(where=lambda told: told.user).matches(entry(1))


def test_calls_among_others_keep_their_order() -> None:
    told = [entry(1), entry(2, user="bob"), entry(3)]
    assert Call(user="ada").filter(told) == (told[0], told[2])


def test_it_is_shown_as_it_was_written() -> None:
    call = Call("createTransaction", user="ada", delta=-10, reason=Reason.CONSUME, headers={"X-Tenant": "a"})
    assert repr(call) == "createTransaction(user='ada', delta=-10, reason='consume', x-tenant='a')"
    assert repr(Call(user="ada")) == repr(Call(None, user="ada")) == "any call(user='ada')"


@pytest.mark.parametrize("operation", ["createTransacton", "POST", "create_user", ""])
def test_an_operation_that_there_is_not_is_refused(operation: str) -> None:
    with pytest.raises(ValueError, match=rf"no operation '{operation}': choose one of createUser, .*listTransactions"):
        Call(operation)


@pytest.mark.parametrize(
    ("criteria", "message"),
    [
        ({"usr": "ada"}, r"a call has no 'usr', did you mean 'user'\? \(it has: ordinal, .*where\)"),
        ({"status": "201"}, "no call has status='201': Expected `int`, got `str`"),
        ({"committed": 1}, "no call has committed=1: Expected `bool`"),
        ({"delta": True}, "no call has delta=True: Expected `int | null`"),
        ({"user": None}, "no call has user=None: Expected `str`"),
        ({"client": "browser"}, "no call has client='browser'"),
        ({"headers": {"x-a": 1}}, "headers must map names to texts"),
        ({"headers": "x-a"}, "headers must map names to texts"),
        ({"where": "status >= 500"}, "where must be a function that is told the entry, not str"),
    ],
)
def test_what_no_call_could_meet_is_refused(criteria: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Call("createTransaction", **criteria)


def test_a_reason_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="no call has the reason 'spend': choose one of grant, consume, refund"):
        Call(reason="spend")
    assert Call(reason="").matches(entry(1))


@pytest.mark.parametrize("status", [-1, 99, 600, 999])
def test_a_status_that_there_is_not_is_refused(status: int) -> None:
    with pytest.raises(ValueError, match=f"no call has the status {status}: it is 100 to 599, or 0 where nothing was"):
        Call(status=status)


@pytest.mark.parametrize("status", [0, 100, 599])
def test_a_status_that_there_is_is_taken(status: int) -> None:
    assert Call(status=status).matches(entry(1, status=status))


def test_a_foreign_enum_s_member_is_no_text() -> None:
    class Users(Enum):
        ADA = "ada"

    with pytest.raises(TypeError, match="no call has user="):
        Call(user=Users.ADA)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
