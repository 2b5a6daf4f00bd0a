"""Schedules as text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_credits.contract import Operation
from fake_credits.explore.schedules import (
    FAULTS,
    CallKey,
    Injection,
    ScheduleError,
    anonymous_id,
    format_schedule,
    parse_fault,
    parse_schedule,
)
from fake_credits.faults import Reset, Rule, Status

IDS = st.one_of(
    st.text(st.characters(blacklist_categories=("Cc", "Cs")), min_size=1, max_size=8),
    st.sampled_from(["ada", "id#1", "@x", "#2", "-10", "consume", "a+b", "a:b", 'a"b', "a\\b"]),
    st.integers(1, 9).map(anonymous_id),
)
KEYS = st.builds(
    CallKey,
    st.sampled_from([operation.value for operation in Operation if operation is not Operation.LIST_USERS]),
    st.one_of(st.just(""), IDS),
    IDS,
    st.one_of(st.none(), st.integers(-(2**53), 2**53)),
    st.sampled_from(["", "consume", "grant", "refund"]),
    st.integers(1, 1000),
)
INJECTIONS = st.builds(Injection, st.one_of(st.integers(1, 10**7), KEYS), st.sampled_from(list(FAULTS.values())))


@given(st.lists(INJECTIONS, min_size=1, max_size=3).map(tuple))
def test_any_schedule_round_trips_through_text(schedule: tuple[Injection, ...]) -> None:
    assert parse_schedule(format_schedule(schedule)) == schedule


def test_call_of_the_fault_free_run_is_written_as_its_number() -> None:
    key = CallKey("createTransaction", "", "ada", -10, "consume")
    schedule = (Injection(key, FAULTS["lost_after"]), Injection(key._replace(occurrence=2), FAULTS["refused"]))
    text = format_schedule(schedule, {key: 2})
    assert text == "2:lost_after+createTransaction ada -10 consume #2:refused"


def test_omitted_fields_of_a_handwritten_key_match_anything() -> None:
    call = CallKey("createTransaction", "", "ada", -10, "consume")
    assert CallKey("createTransaction").matches(call)
    assert CallKey("createTransaction", user="ada", delta=-10).matches(call)
    assert not CallKey("createTransaction", user="bob").matches(call)
    assert not CallKey("createTransaction", occurrence=2).matches(call)


def test_custom_fault_is_written_as_a_json_object() -> None:
    fault = parse_fault(Status(429, retry_after_s=5))
    members = {"effect": "status", "status": 429, "code": "rate_limited", "retry_after_s": 5, "phase": "before"}
    assert json.loads(fault.name) == members
    ((call, parsed),) = parse_schedule(f"3:{fault.name}")
    assert (call, parsed.rule) == (3, fault.rule)
    assert parse_fault({"effect": "reset", "phase": "after"}).rule == Rule(Reset(), phase="after")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "a call is missing"),
        ("2", "expected ':' at the end"),
        ("2:", "a fault is missing"),
        ("0:refused", "'0' is not a call number"),
        ("2 3:refused", "'2 3' is not a call number"),
        ("2:lost_afte", "unknown fault 'lost_afte': did you mean 'lost_after'?"),
        ("2:refused 3:refused", "expected '+' at '3:refused'"),
        ("2:refused+", "a call is missing"),
        ("createTransactoin ada:refused", "'createTransactoin' is neither an operation nor a number"),
        ("createTransaction ada -10 -10:refused", "'-10' sets the delta a second time"),
        ("createTransaction ada x:refused", "'x' is not a delta (-5), a reason"),
        ('createTransaction "a\\q":refused', "is not a JSON string"),
        ('1:{"effect":', "is not a JSON object"),
        ('1:{"effect":"reset","user":"ada"}', "user is not allowed; only an effect, its arguments and a phase are"),
        ('1:{"effect":"rest"}', "effect is 'rest'"),
        ('1:{"script":["ok"]}', "a script is not allowed in a schedule"),
    ],
)
def test_invalid_schedule_is_rejected_with_the_reason(text: str, problem: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        parse_schedule(text)
    assert problem in str(caught.value)
