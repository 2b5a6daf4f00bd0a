"""Test call patterns: what they match, and that impossible criteria are rejected."""

import re
from enum import Enum
from typing import Any

import pytest
from msgspec import structs

from fake_credits.call_patterns import Call, Criteria
from fake_credits.contract import Operation
from fake_credits.contract.types import parse_operation
from fake_credits.journal import JournalEntry
from fake_credits.models import Reason
from tests.assertions.conftest import entry


def test_criteria_match_journal_entry_fields() -> None:
    """The exceptions are the operation, a positional argument, and the criteria ``headers`` and ``where``."""
    fields = {
        field.name: field.type for field in structs.fields(JournalEntry) if field.name not in ("operation", "headers")
    }
    criteria = {name: kind for name, kind in Criteria.__annotations__.items() if name not in ("headers", "where")}
    assert criteria == fields


@pytest.mark.parametrize("operation", Operation)
def test_every_operation_can_be_matched(operation: Operation) -> None:
    for name in (operation, operation.value):
        assert Call(name).matches(entry(1, operation.value))
        assert repr(Call(name)) == operation.value
    assert not Call(operation).matches(entry(1, ""))


def test_all_criteria_must_match() -> None:
    journal_entry = entry(1, delta=-10, reason="consume", committed=True)
    assert Call("createTransaction", user="ada", delta=-10, reason=Reason.CONSUME, committed=True).matches(
        journal_entry
    )
    assert not Call("createTransaction", user="bob", delta=-10).matches(journal_entry)
    assert not Call("createTransaction", delta=-11).matches(journal_entry)
    assert not Call("createTransaction", committed=False).matches(journal_entry)


def test_call_without_criteria_matches_any_entry() -> None:
    assert Call().matches(entry(1, ""))
    assert Call(user="ada").matches(entry(1, ""))
    assert repr(Call()) == "any call"


def test_delta_none_matches_entry_without_delta() -> None:
    assert Call(delta=None).matches(entry(1))
    assert not Call(delta=None).matches(entry(1, delta=5))


def test_header_names_are_case_insensitive_and_other_headers_ignored() -> None:
    journal_entry = entry(1, headers={"x-tenant": "a", "traceparent": "00-1"})
    assert Call(headers={"X-Tenant": "a"}).matches(journal_entry)
    assert not Call(headers={"X-Tenant": "A"}).matches(journal_entry)
    assert not Call(headers={"X-Other": "a"}).matches(journal_entry)


def test_where_function_receives_entry() -> None:
    assert Call(where=lambda journal_entry: journal_entry.status >= 200).matches(entry(1))
    assert not Call(where=lambda journal_entry: journal_entry.status >= 500).matches(entry(1))
    assert Call(where=lambda journal_entry: journal_entry.user).matches(entry(1))


def test_filter_keeps_order() -> None:
    journal_entry = [entry(1), entry(2, user="bob"), entry(3)]
    assert Call(user="ada").filter(journal_entry) == (journal_entry[0], journal_entry[2])


def test_repr_matches_source() -> None:
    call = Call("createTransaction", user="ada", delta=-10, reason=Reason.CONSUME, headers={"X-Tenant": "a"})
    assert repr(call) == "createTransaction(user='ada', delta=-10, reason='consume', x-tenant='a')"
    assert repr(Call(user="ada")) == repr(Call(None, user="ada")) == "any call(user='ada')"


@pytest.mark.parametrize("operation", ["createTransacton", "POST", "createuser", ""])
def test_unknown_operation_is_rejected(operation: Any) -> None:
    with pytest.raises(ValueError, match=rf"unknown operation '{operation}'.* .known: \*, reads, writes, "):
        Call(operation)


@pytest.mark.parametrize("operation", [5, None, ["createUser"], b"createUser"])
def test_operation_of_another_type_is_rejected(operation: Any) -> None:
    """Where the operation is optional, None means any call; here it is required."""
    with pytest.raises(TypeError, match="an operation must be a str, such as 'createTransaction', not "):
        parse_operation(operation)


def test_operation_can_be_the_name_of_a_client_method() -> None:
    assert repr(Call("create_transaction", user="ada")) == "createTransaction(user='ada')"
    assert Call("create_transaction").matches(entry(1, "createTransaction"))
    assert not Call("create_transaction").matches(entry(1, "createUser"))


def test_operation_can_be_a_group() -> None:
    entries = [entry(1, name) for name in ("createTransaction", "getBalance", "")]
    matching = {name: [each.operation for each in Call(name).filter(entries)] for name in ("reads", "writes", "*")}
    assert matching == {
        "reads": ["getBalance"],
        "writes": ["createTransaction"],
        "*": ["createTransaction", "getBalance"],
    }


@pytest.mark.parametrize(
    ("criteria", "message"),
    [
        ({"usr": "ada"}, r"unknown criterion 'usr', did you mean 'user'\? \(known: ordinal, .*where\)"),
        ({"status": "201"}, "status must be of type int, not '201'"),
        ({"committed": 1}, "committed must be of type bool, not 1"),
        ({"delta": True}, "delta must be of type int | None, not True"),
        ({"user": None}, "user must be of type str, not None"),
        ({"client": "browser"}, "client must be one of 'server', 'user', 'none', not 'browser'"),
        ({"headers": {"x-a": 1}}, "headers must map names to strings"),
        ({"headers": "x-a"}, "headers must map names to strings"),
        ({"where": "status >= 500"}, "where must be a function that takes a journal entry, not 'status"),
    ],
)
def test_invalid_criterion_is_rejected(criteria: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Call("createTransaction", **criteria)


def test_unknown_reason_is_rejected() -> None:
    with pytest.raises(ValueError, match="reason must be one of grant, consume, refund, not 'spend'"):
        Call(reason="spend")
    assert Call(reason="").matches(entry(1))


@pytest.mark.parametrize("status", [-1, 99, 600, 999])
def test_invalid_status_is_rejected(status: int) -> None:
    with pytest.raises(ValueError, match=f"status must be from 100 to 599, or 0 for a call .*, not {status}"):
        Call(status=status)


@pytest.mark.parametrize("status", [0, 100, 599])
def test_valid_status_is_accepted(status: int) -> None:
    assert Call(status=status).matches(entry(1, status=status))


def test_enum_member_is_rejected_as_user() -> None:
    class Users(Enum):
        ADA = "ada"

    with pytest.raises(TypeError, match="user must be of type str, not <Users.ADA: 'ada'>"):
        Call(user=Users.ADA)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("operation", "criteria", "message"),
    [
        (None, {"method": "post"}, "method must be an HTTP method in upper case, such as 'POST', not 'post'"),
        (None, {"method": "POTS"}, "method must be an HTTP method in upper case, such as 'POST', not 'POTS'"),
        (
            None,
            {"phase": "post"},
            "phase must be one of before, after, read, write, list, or several joined by +, not 'post'",
        ),
        (None, {"phase": "before+post"}, "phase must be"),
        (None, {"ordinal": 0}, "ordinal must be 1 or more, not 0"),
        (None, {"request_id": "s1_1"}, "request_id must be an id such as 'req_s1_1', not 's1_1'"),
        (None, {"at_ms": -1}, "at_ms must be 0 or more, not -1"),
        (None, {"duration_us": -1}, "duration_us must be 0 or more, not -1"),
        (None, {"target": "https://credits.internal/v1"}, "target must be a path that starts with a slash, not 'https"),
        (None, {"delta": 0}, "delta must be None or a number other than 0, not 0"),
        (None, {"transaction": "1"}, "transaction must be '' or an id such as 'txn_1', not '1'"),
        ("listUsers", {"user": "ada"}, "omit user='ada': it is never set for listUsers, only for createUser, "),
        ("list_users", {"user": "ada"}, "omit user='ada': it is never set for listUsers, only for createUser, "),
        ("getBalance", {"delta": -10}, "omit delta=-10: it is never set for getBalance, only for createTransaction"),
        (
            "createUser",
            {"reason": "grant"},
            "omit reason='grant': it is never set for createUser, only for createTransaction",
        ),
        (
            "getUser",
            {"transaction": "txn_1"},
            "omit transaction='txn_1': it is never set for getUser, only for createT",
        ),
    ],
)
def test_impossible_value_is_rejected(operation: Any, criteria: Any, message: str) -> None:
    """Otherwise an assertion that there was no such call could never fail."""
    with pytest.raises(ValueError, match=re.escape(message)):
        Call(operation, **criteria)


def test_possible_values_are_accepted() -> None:
    for criteria in (
        {"method": "DELETE", "phase": "before+after", "ordinal": 1, "request_id": "req_s1_1", "at_ms": 0},
        {"target": "/v1", "delta": None, "transaction": "", "phase": "", "duration_us": 0, "reason": "", "user": ""},
        {"delta": -1, "transaction": "txn_12", "reason": "consume"},
    ):
        assert repr(Call(**criteria)).startswith("any call(")  # pyright: ignore[reportArgumentType]
    assert not Call("listUsers", user="", delta=None, reason="", committed=False).matches(entry(1))
    for operation in ("create_transaction", "writes", "*"):
        assert Call(operation, delta=-1, committed=True).matches(entry(1, delta=-1, committed=True))
