"""Probabilities of random rules: those that can match the same call must not exceed 1 in total."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_credits.contract import Operation
from fake_credits.faults import FaultError, Latency, Reset, Rule, Status, Unauthorized
from tests.faults.conftest import engine_with_rules


def random_rule(probability: float, **options: Any) -> Rule:
    return Rule(effect=Reset(), probability=probability, **options)


def test_probabilities_above_1_are_rejected_with_operation_and_sum() -> None:
    engine = engine_with_rules(random_rule(0.6))
    with pytest.raises(FaultError, match="is 0.5: together with the other random rules for createTransaction"):
        engine.add(random_rule(0.5, operation="createTransaction"))
    with pytest.raises(FaultError, match="it adds up to 1.1; the limit is 1"):
        engine.add(random_rule(0.5))
    assert len(engine) == 1


def test_probabilities_of_exactly_1_are_accepted() -> None:
    engine_with_rules(*[random_rule(0.1)] * 10)
    engine_with_rules(random_rule(0.7), random_rule(0.2), random_rule(0.1))
    engine_with_rules(random_rule(1))


DISJOINT_RULES: dict[str, tuple[Rule, Rule]] = {
    "operations": (random_rule(0.6, operation="reads"), random_rule(0.6, operation="writes")),
    "users": (random_rule(0.6, user="ada"), random_rule(0.6, user="bob")),
    "applications": (random_rule(0.6, application="a"), random_rule(0.6, application="b")),
    "clients": (random_rule(0.6, client="server"), random_rule(0.6, client="user")),
    "reasons": (random_rule(0.6, reason="grant"), random_rule(0.6, reason="consume")),
    "windows of time": (random_rule(0.6, during=(0, 10)), random_rule(0.6, during=(10, 20))),
    "clients implied by effects": (
        Rule(effect=Unauthorized("revoked"), probability=0.6),
        Rule(effect=Unauthorized("rotated"), probability=0.6),
    ),
    "stacking effect": (random_rule(0.6), Rule(effect=Latency(5), probability=0.6)),
    "stacking rule": (random_rule(0.6), random_rule(0.6, stack=True)),
    "rule without probability": (random_rule(0.6), Rule(effect=Status(503))),
    "probability 0": (random_rule(1), random_rule(0)),
}


@pytest.mark.parametrize("pair", DISJOINT_RULES.values(), ids=DISJOINT_RULES)
def test_disjoint_rules_do_not_share_probability(pair: tuple[Rule, Rule]) -> None:
    assert len(engine_with_rules(*pair)) == 2
    assert len(engine_with_rules(*reversed(pair))) == 2


OVERLAPPING_RULES: dict[str, tuple[Rule, Rule]] = {
    "one user and all users": (random_rule(0.6, user="ada"), random_rule(0.6)),
    "overlapping windows": (random_rule(0.6, during=(0, 10)), random_rule(0.6, during=(5, 6))),
    "window and no window": (random_rule(0.6, during=(0, 10)), random_rule(0.6)),
    "different criteria": (random_rule(0.6, user="ada"), random_rule(0.6, client="server")),
    "different headers": (random_rule(0.6, header={"a": "1"}), random_rule(0.6, header={"a": "2"})),
    "different functions": (random_rule(0.6, where=bool), random_rule(0.6, where=callable)),
    "different counts": (random_rule(0.6, nth=1), random_rule(0.6, nth=2)),
}


@pytest.mark.parametrize("pair", OVERLAPPING_RULES.values(), ids=OVERLAPPING_RULES)
def test_overlapping_rules_share_probability(pair: tuple[Rule, Rule]) -> None:
    for one, other in (pair, pair[::-1]):
        engine = engine_with_rules(one)
        with pytest.raises(FaultError, match="it adds up to 1.2"):
            engine.add(other)


def test_disjoint_rules_are_not_summed_for_a_third_rule() -> None:
    engine_with_rules(random_rule(0.6, user="ada"), random_rule(0.6, user="bob"), random_rule(0.4))
    engine_with_rules(random_rule(0.6, during=(0, 10)), random_rule(0.6, during=(10, None)), random_rule(0.4))


def test_removed_rule_frees_its_probability() -> None:
    engine = engine_with_rules(random_rule(0.6))
    engine.find("reset#1").remove()
    engine.add(random_rule(0.6))


_names = st.sampled_from(["", "a", "b"])
_random_rules = st.builds(
    random_rule,
    st.sampled_from([0.2, 0.4, 0.6]),
    operation=st.sampled_from(["*", "reads", "writes", "getUser", "createTransaction"]),
    application=_names,
    user=_names,
    client=st.sampled_from(["", "server", "user"]),
    reason=st.sampled_from(["", "", "grant"]),
    during=st.sampled_from([None, (0, 10), (5, 15), (10, None)]),
)


def max_total_probability(rules: list[Rule]) -> float:
    """Return the largest total probability for any call, by brute force."""
    return max(
        sum(
            rule.probability or 0
            for rule in rules
            if applies_to(rule, operation, (application, user, client, reason), at)
        )
        for operation in Operation
        for application in "abc"
        for user in "abc"
        for client in ("server", "user")
        for reason in ("grant", "refund")
        for at in (0, 5, 10, 15)
    )


def applies_to(rule: Rule, operation: Operation, attributes: tuple[str, ...], at_s: float) -> bool:
    criteria = (rule.application, rule.user, rule.client, rule.reason)
    start, end = rule.during or (0, None)
    assert isinstance(start, int | float)
    assert not isinstance(end, str)
    return (
        operation in rule.operations
        and all(expected in ("", actual) for expected, actual in zip(criteria, attributes, strict=True))
        and start <= at_s
        and (end is None or at_s < end)  # type: ignore[operator] # seconds, as above
    )


@settings(max_examples=50)
@given(st.data())
def test_rule_is_rejected_if_and_only_if_total_probability_exceeds_1(data: st.DataObject) -> None:
    engine, accepted = engine_with_rules(), list[Rule]()
    for _ in range(6):
        try:
            rule = data.draw(_random_rules)
        except FaultError:  # a reason on a read operation
            continue
        exceeds_1 = max_total_probability([*accepted, rule]) > 1 + 1e-9
        try:
            engine.add(rule)
            accepted.append(rule)
            is_rejected = False
        except FaultError:
            is_rejected = True
        assert is_rejected is exceeds_1, (rule, accepted)


@pytest.mark.slow
def test_1000_random_rules_of_different_users_are_checked_quickly() -> None:
    """Each rule is in a separate group, so the check is not quadratic."""
    engine = engine_with_rules(*[random_rule(0.9, user=f"user-{number}") for number in range(999)])
    with pytest.raises(FaultError, match=r"it adds up to 1\.1"):
        engine.add(random_rule(0.2))
    engine.add(random_rule(0.1))
