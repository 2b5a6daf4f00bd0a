"""The rules of a fault engine: names, limits, unused rules, the default latency, rate limits and reset."""

from typing import Any

import pytest

from fake_credits.contract import Operation
from fake_credits.faults import (
    Close,
    FaultError,
    HoldAtGate,
    Latency,
    RateLimit,
    Reset,
    Rule,
    Status,
    rule_from,
)
from fake_credits.faults.engine import MAX_RULES, FaultEngine
from fake_credits.faults.scenarios import latency_rules
from tests.faults.conftest import START_MS, call, effect_names, engine_with_rules

# ------------------------------------------------------------ names and limits


def test_unnamed_rule_is_named_by_effect_and_number() -> None:
    engine = engine_with_rules(
        Reset(), Status(503), Reset(), Rule(script=["ok"]), HoldAtGate("a"), Rule(effect=Reset(), name="mine")
    )
    assert [active.name for active in engine] == [
        "reset#1",
        "status#1",
        "reset#2",
        "script#1",
        "hold_at_gate#1",
        "mine",
    ]


def test_rule_number_is_never_reused() -> None:
    engine = engine_with_rules(Reset(), Rule(effect=Close(), name="reset#2"))
    engine.find("reset#1").remove()
    assert engine.add(Rule(effect=Reset())).name == "reset#3"


def test_duplicate_rule_name_is_rejected() -> None:
    engine = engine_with_rules(Rule(effect=Reset(), name="a"))
    with pytest.raises(FaultError, match="name is 'a', which is already taken by another rule"):
        engine.add(Rule(effect=Close(), name="a"))
    engine.find("a").remove()
    engine.add(Rule(effect=Close(), name="a"))


def test_more_than_1000_rules_are_rejected() -> None:
    engine = engine_with_rules(*[Reset()] * MAX_RULES)
    with pytest.raises(FaultError, match="a sandbox can have at most 1000 rules"):
        engine.add(Rule(effect=Reset()))
    assert len(engine) == MAX_RULES == 1000


def test_unknown_rule_name_is_rejected_listing_known_names() -> None:
    with pytest.raises(FaultError, match=r"no rule is named 'reset#3' \(rules: reset#1, close#1\)"):
        engine_with_rules(Reset(), Close()).find("reset#3")
    with pytest.raises(FaultError, match=r"rules: none"):
        engine_with_rules().find("a")


def test_repr_shows_fired_and_matched_counts() -> None:
    engine = engine_with_rules(Rule(effect=Reset(), nth=2))
    effect_names(engine, [call()] * 3)
    assert repr(engine.find("reset#1")) == "<rule 'reset#1': fired for 1 of 3 matching calls>"
    assert repr(engine) == "<FaultEngine: rules=1, seed=0>"


def test_engine_is_truthy_while_it_has_rules() -> None:
    engine = engine_with_rules(Reset())
    assert engine
    engine.find("reset#1").remove()
    assert not engine
    assert effect_names(engine, [call()]) == [""]


def test_remove_is_idempotent_and_keeps_matched_effects() -> None:
    engine = engine_with_rules(Reset(), Close())
    active = engine.find("reset#1")
    (firing,) = engine.match(call())
    active.remove()
    active.remove()
    assert [active.name for active in engine] == ["close#1"]
    assert firing.effect == Reset()
    assert effect_names(engine, [call()]) == ["close"]


def test_rules_can_be_removed_during_iteration() -> None:
    engine = engine_with_rules(Reset(), Close(), Reset())
    for active in engine:
        active.remove()
    assert not engine


# ------------------------------------------------------------ unused

UNUSED_CASES: dict[str, tuple[Rule, int, bool]] = {
    "never fired": (Rule(effect=Reset(), nth=3), 2, True),
    "fired": (Rule(effect=Reset(), nth=3), 3, False),
    "fired less than times": (Rule(effect=Reset(), times=3), 1, False),
    "script with entries left": (Rule(script=[503, "ok", "reset"]), 2, True),
    "script used up": (Rule(script=[503, "ok", "reset"]), 3, False),
    "script with ok left": (Rule(script=[503, "ok"]), 1, True),
    "optional": (Rule(effect=Reset(), nth=3, optional=True), 0, False),
    "matched no call": (Rule(effect=Reset(), user="nobody"), 5, True),
    "matched no call, for sure": (Rule(effect=Reset(), user="nobody", probability=1), 5, True),
    "matched a call": (Rule(effect=Reset()), 1, False),
    "matched a call, for sure": (Rule(effect=Reset(), probability=1), 1, False),
    "matched, but never over its limit": (Rule(effect=RateLimit(limit=10, window_s=1)), 1, False),
    "matched no call, by chance": (Rule(effect=Reset(), probability=0.5, user="nobody"), 5, False),
    "switched off": (Rule(effect=Reset(), probability=0), 0, False),
    "default latency": (Rule(effect=Latency(1), name="latency"), 0, False),
    "gate without a call": (Rule(effect=HoldAtGate("door"), user="nobody"), 5, True),
    "gate with a call": (Rule(effect=HoldAtGate("door")), 1, False),
    "random rule": (Rule(effect=Reset(), times=1, probability=0.000001), 5, False),
    "per-user script used up by one user": (Rule(script=["ok", "ok"], per="user"), 2, False),
    "per-user script with entries left": (Rule(script=["ok", "ok"], per="user"), 1, True),
}


@pytest.mark.parametrize(("rule", "calls", "is_unused"), UNUSED_CASES.values(), ids=UNUSED_CASES)
def test_unmet_rule_is_unused_unless_random_or_optional(rule: Rule, calls: int, is_unused: bool) -> None:
    engine = engine_with_rules(rule)
    effect_names(engine, [call()] * calls)
    assert bool(engine.unused_rules()) is is_unused


def test_script_left_returns_remaining_entries() -> None:
    engine = engine_with_rules(Rule(script=[503, "ok", "reset"], per="user"))
    effect_names(engine, [call(), call(), call(user="bob")])
    (active,) = engine.unused_rules()
    assert active.script_left() == ("reset",)


# ------------------------------------------------------------ the default latency


def latencies(engine: FaultEngine, operation: Operation = Operation.GET_BALANCE) -> list[str]:
    """Return the latencies applied to a call, in order."""
    effects = [firing.effect for firing in engine.match(call(operation=operation))]
    return [str(effect.distribution) for effect in effects if isinstance(effect, Latency)]


def test_default_latency_is_applied_last_and_adds_up() -> None:
    engine = engine_with_rules(*latency_rules(100), Latency(1), Rule(effect=Latency(2), probability=0.999999))
    assert latencies(engine) == ["fixed(1)", "fixed(2)", "fixed(100)"]


def test_operation_latency_overrides_default_latency() -> None:
    engine = engine_with_rules(*latency_rules({"*": 100, "reads": 10, "getBalance": 1}))
    assert latencies(engine) == ["fixed(1)"]
    assert latencies(engine, Operation.GET_USER) == ["fixed(10)"]
    assert latencies(engine, Operation.CREATE_USER) == ["fixed(100)"]


def test_new_default_latency_replaces_the_old_one() -> None:
    engine = engine_with_rules(*latency_rules({"*": 100, "getBalance": 1}))
    old = engine.find("latency")
    engine.add(latency_rules(200)[0])
    assert (latencies(engine), latencies(engine, Operation.GET_USER), len(engine)) == (["fixed(1)"], ["fixed(200)"], 2)
    old.remove()
    assert len(engine) == 2


def test_rejected_rule_does_not_replace_the_old_one() -> None:
    engine = engine_with_rules(*latency_rules(100), *[Reset()] * (MAX_RULES - 1))
    engine.add(latency_rules(200)[0])
    with pytest.raises(FaultError, match="at most 1000 rules"):
        engine.add(latency_rules({"reads": 5})[0])
    assert latencies(engine) == []  # the first reset rule wins
    engine.find("reset#1").remove()
    assert [active.name for active in engine].count("latency") == 1


def test_latency_rule_name_is_reserved() -> None:
    with pytest.raises(
        FaultError,
        match="reserved for the default latency: choose another name for this rule",
    ):
        engine_with_rules(Rule(effect=Reset(), name="latency"))
    for options in ({"user": "ada"}, {"probability": 0.5}, {"stack": False}, {"during": (0, 5)}):
        with pytest.raises(FaultError, match="a rule with that name can have only an operation and a phase"):
            engine_with_rules(rule_from(Latency(5), name="latency", **options))


# ------------------------------------------------------------ rate limits


def rejections(engine: FaultEngine, *at_ms: float) -> list[bool]:
    """Return whether a call is rejected at each time, given in milliseconds since the start."""
    return [bool(engine.match(call(now_ms=START_MS + round(at)))) for at in at_ms]


def test_rate_limit_admits_limit_calls_per_window() -> None:
    engine = engine_with_rules(RateLimit(2, 10))
    assert rejections(engine, 0, 5000, 6000, 9999) == [False, False, True, True]


def test_rate_limit_window_excludes_start_and_includes_end() -> None:
    """The window is (t - w, t]: a call exactly one window ago does not count."""
    assert rejections(engine_with_rules(RateLimit(1, 10)), 0, 9999, 10_000, 19_999, 20_000) == [
        False,
        True,
        False,
        True,
        False,
    ]


def test_rejected_calls_are_not_counted_by_rate_limit() -> None:
    assert rejections(engine_with_rules(RateLimit(1, 10)), 0, 5000, 9000, 10_000) == [False, True, True, False]


def test_calls_won_by_earlier_rule_are_counted_by_rate_limit() -> None:
    """The window includes all matching calls."""
    engine = engine_with_rules(Rule(effect=Close(), first=1), RateLimit(1, 10))
    assert effect_names(engine, [call(), call()]) == ["close", "reject_over_limit"]
    assert engine.find("rate_limit#1").fired == 1


@pytest.mark.parametrize("window_s", [0.001, 0.1, 1.1, 3, 59.999])
def test_call_after_exact_retry_after_is_admitted(window_s: float) -> None:
    engine = engine_with_rules(RateLimit(3, window_s))
    now_ms: int = START_MS
    for _ in range(40):
        firings = engine.match(call(now_ms=now_ms))
        if firings:
            rejection: Any = firings[0].effect
            wait_ms = round(rejection.retry_after_s * 1000)
            assert wait_ms > 0
            if wait_ms > 1:
                assert engine.match(call(now_ms=now_ms + wait_ms - 1))
            now_ms += wait_ms
            assert not engine.match(call(now_ms=now_ms))
        now_ms += 7


def test_rate_limit_of_0_rejects_every_call() -> None:
    assert rejections(engine_with_rules(RateLimit(0, 10)), 0, 10_000, 20_000) == [True, True, True]


def test_admitted_call_continues_with_next_rule() -> None:
    engine = engine_with_rules(RateLimit(1, 10), Close())
    assert effect_names(engine, [call()]) == ["close"]
    assert engine.find("rate_limit#1").fired == 0


def test_rate_limit_per_user_counts_each_user_separately() -> None:
    engine = engine_with_rules(rule_from(RateLimit(1, 10), per="user"))
    assert [bool(engine.match(call(user=user))) for user in ("ada", "bob", "ada", "bob")] == [False, False, True, True]


def test_rate_limit_with_criteria_counts_matching_calls_only() -> None:
    engine = engine_with_rules(rule_from(RateLimit(1, 10), operation="writes"))
    assert rejections(engine, 0, 1, 2) == [False, False, False]


# ------------------------------------------------------------ reset


def test_reset_restarts_counts_draws_and_names() -> None:
    engine = engine_with_rules(Rule(effect=Reset(), nth=1), Rule(effect=Close(), probability=0.5))
    before = effect_names(engine, [call()] * 20)
    old = engine.find("reset#1")
    engine.reset([Rule(effect=Reset(), nth=1), Rule(effect=Close(), probability=0.5)], START_MS)
    old.remove()
    assert [active.name for active in engine] == ["reset#1", "close#1"]
    assert effect_names(engine, [call()] * 20) == before


def test_window_seconds_are_relative_to_reset() -> None:
    rule = Rule(effect=Reset(), during=(10, None))
    engine = engine_with_rules(rule)
    assert effect_names(engine, [call(now_ms=START_MS + 10_000)]) == ["reset"]
    engine.reset([rule], START_MS + 5000)
    assert effect_names(engine, [call(now_ms=START_MS + 10_000), call(now_ms=START_MS + 15_000)]) == ["", "reset"]
