"""Shares: random rules that can meet in one call have room for 1 together."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_credits.contract import Operation
from fake_credits.faults import FaultError, Latency, Reset, Rule, Status, Unauthorized
from tests.faults.conftest import planned


def some(probability: float, **words: Any) -> Rule:
    return Rule(effect=Reset(), probability=probability, **words)


def test_a_sum_over_1_is_refused_naming_the_operation_and_the_sum() -> None:
    plan = planned(some(0.6))
    with pytest.raises(FaultError, match="probability is 0.5: with the other random rules of createTransaction that"):
        plan.add(some(0.5, operation="createTransaction"))
    with pytest.raises(FaultError, match="makes 1.1, and one draw has room for 1"):
        plan.add(some(0.5))
    assert len(plan) == 1


def test_a_sum_of_exactly_1_is_fine_as_floats_say_it() -> None:
    planned(*[some(0.1)] * 10)
    planned(some(0.7), some(0.2), some(0.1))
    planned(some(1))


APART: dict[str, tuple[Rule, Rule]] = {
    "operations": (some(0.6, operation="reads"), some(0.6, operation="writes")),
    "users": (some(0.6, user="ada"), some(0.6, user="bob")),
    "applications": (some(0.6, application="a"), some(0.6, application="b")),
    "clients": (some(0.6, client="server"), some(0.6, client="user")),
    "reasons": (some(0.6, reason="grant"), some(0.6, reason="consume")),
    "windows of time": (some(0.6, during=(0, 10)), some(0.6, during=(10, 20))),
    "effects' own clients": (
        Rule(effect=Unauthorized("revoked"), probability=0.6),
        Rule(effect=Unauthorized("rotated"), probability=0.6),
    ),
    "one that stacks": (some(0.6), Rule(effect=Latency(5), probability=0.6)),
    "one that is made to stack": (some(0.6), some(0.6, stack=True)),
    "one that is not random": (some(0.6), Rule(effect=Status(503))),
    "one that never fires": (some(1), some(0)),
}


@pytest.mark.parametrize("pair", APART.values(), ids=APART)
def test_rules_that_no_call_meets_together_have_room_each(pair: tuple[Rule, Rule]) -> None:
    assert len(planned(*pair)) == 2
    assert len(planned(*reversed(pair))) == 2


TOGETHER: dict[str, tuple[Rule, Rule]] = {
    "a user and everybody": (some(0.6, user="ada"), some(0.6)),
    "a window within another": (some(0.6, during=(0, 10)), some(0.6, during=(5, 6))),
    "a window and for ever": (some(0.6, during=(0, 10)), some(0.6)),
    "different conditions": (some(0.6, user="ada"), some(0.6, client="server")),
    "headers, which are taken to match": (some(0.6, header={"a": "1"}), some(0.6, header={"a": "2"})),
    "functions, which are taken to match": (some(0.6, where=bool), some(0.6, where=callable)),
    "different counts, which are no part of which": (some(0.6, nth=1), some(0.6, nth=2)),
}


@pytest.mark.parametrize("pair", TOGETHER.values(), ids=TOGETHER)
def test_rules_that_one_call_could_meet_are_refused(pair: tuple[Rule, Rule]) -> None:
    for one, other in (pair, pair[::-1]):
        plan = planned(one)
        with pytest.raises(FaultError, match="makes 1.2"):
            plan.add(other)


def test_two_that_never_meet_don_t_add_up_in_a_third_that_meets_both() -> None:
    planned(some(0.6, user="ada"), some(0.6, user="bob"), some(0.4))
    planned(some(0.6, during=(0, 10)), some(0.6, during=(10, None)), some(0.4))


def test_a_rule_that_is_removed_gives_its_room_back() -> None:
    plan = planned(some(0.6))
    plan.find("reset#1").remove()
    plan.add(some(0.6))


_names = st.sampled_from(["", "a", "b"])
_random = st.builds(
    some,
    st.sampled_from([0.2, 0.4, 0.6]),
    operation=st.sampled_from(["*", "reads", "writes", "getUser", "createTransaction"]),
    application=_names,
    user=_names,
    client=st.sampled_from(["", "server", "user"]),
    reason=st.sampled_from(["", "", "grant"]),
    during=st.sampled_from([None, (0, 10), (5, 15), (10, None)]),
)


def most_by_trying_every_call(rules: list[Rule]) -> float:
    """Return the largest sum that any call meets, by asking every kind of call that the rules tell apart."""
    return max(
        sum(rule.probability or 0 for rule in rules if is_for(rule, operation, (application, user, client, reason), at))
        for operation in Operation
        for application in "abc"
        for user in "abc"
        for client in ("server", "user")
        for reason in ("grant", "refund")
        for at in (0, 5, 10, 15)
    )


def is_for(rule: Rule, operation: Operation, which: tuple[str, ...], at_s: float) -> bool:
    asked = (rule.application, rule.user, rule.client, rule.reason)
    start, end = rule.during or (0, None)
    assert isinstance(start, int | float)
    assert not isinstance(end, str)
    return (
        operation in rule.operations
        and all(want in ("", has) for want, has in zip(asked, which, strict=True))
        and start <= at_s
        and (end is None or at_s < end)  # type: ignore[operator] # seconds, as above
    )


@settings(max_examples=50)
@given(st.data())
def test_a_rule_is_refused_exactly_where_some_call_would_meet_more_than_1(data: st.DataObject) -> None:
    plan, kept = planned(), list[Rule]()
    for _ in range(6):
        try:
            rule = data.draw(_random)
        except FaultError:  # a reason of a read
            continue
        too_much = most_by_trying_every_call([*kept, rule]) > 1 + 1e-9
        try:
            plan.add(rule)
            kept.append(rule)
            refused = False
        except FaultError:
            refused = True
        assert refused is too_much, (rule, kept)


@pytest.mark.slow
def test_a_thousand_random_rules_of_as_many_users_are_weighed_quickly() -> None:
    """Each is one group of its own: nothing is squared."""
    plan = planned(*[some(0.9, user=f"user-{number}") for number in range(999)])
    with pytest.raises(FaultError, match=r"makes 1\.1"):
        plan.add(some(0.2))
    plan.add(some(0.1))
