"""The plan as a list of rules: names, limits, what is unused, the default latency, rate limits, reset."""

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
    StaleRead,
    Status,
    rule_from,
)
from fake_credits.faults.engine import MAX_RULES, FaultEngine
from fake_credits.faults.scenarios import latency_rules
from tests.faults.conftest import START_MS, call, met, planned

# ------------------------------------------------------------ names and limits


def test_a_rule_without_a_name_is_its_effect_and_a_number() -> None:
    plan = planned(
        Reset(), Status(503), Reset(), Rule(script=["ok"]), HoldAtGate("a"), Rule(effect=Reset(), name="mine")
    )
    assert [active.name for active in plan] == ["reset#1", "status#1", "reset#2", "script#1", "hold_at_gate#1", "mine"]


def test_a_number_is_never_given_twice() -> None:
    plan = planned(Reset(), Rule(effect=Close(), name="reset#2"))
    plan.find("reset#1").remove()
    assert plan.add(Rule(effect=Reset())).name == "reset#3"


def test_a_name_that_is_taken_is_refused() -> None:
    plan = planned(Rule(effect=Reset(), name="a"))
    with pytest.raises(FaultError, match="name is 'a', which another rule has"):
        plan.add(Rule(effect=Close(), name="a"))
    plan.find("a").remove()
    plan.add(Rule(effect=Close(), name="a"))


def test_rules_over_a_thousand_are_refused() -> None:
    plan = planned(*[Reset()] * MAX_RULES)
    with pytest.raises(FaultError, match="a sandbox has at most 1000 rules"):
        plan.add(Rule(effect=Reset()))
    assert len(plan) == MAX_RULES == 1000


def test_a_name_that_no_rule_has_is_refused_with_those_there_are() -> None:
    with pytest.raises(FaultError, match=r"there is no rule 'reset#3' \(there are: reset#1, close#1\)"):
        planned(Reset(), Close()).find("reset#3")
    with pytest.raises(FaultError, match=r"there are: none"):
        planned().find("a")


def test_a_rule_says_how_often_it_fired() -> None:
    plan = planned(Rule(effect=Reset(), nth=2))
    met(plan, [call()] * 3)
    assert repr(plan.find("reset#1")) == "<rule 'reset#1': fired 1 of 3 matching calls>"
    assert repr(plan) == "<FaultEngine of 1 rules, seed 0>"


def test_a_plan_is_true_while_it_has_rules() -> None:
    plan = planned(Reset())
    assert plan
    plan.find("reset#1").remove()
    assert not plan
    assert met(plan, [call()]) == [""]


def test_a_rule_is_removed_once_and_a_shot_it_has_fired_stays() -> None:
    plan = planned(Reset(), Close())
    active = plan.find("reset#1")
    (shot,) = plan.match(call())
    active.remove()
    active.remove()
    assert [each.name for each in plan] == ["close#1"]
    assert shot.effect == Reset()
    assert met(plan, [call()]) == ["close"]


def test_rules_can_be_removed_while_one_walks_through_them() -> None:
    plan = planned(Reset(), Close(), Reset())
    for active in plan:
        active.remove()
    assert not plan


# ------------------------------------------------------------ unused

UNUSED: dict[str, tuple[Rule, int, bool]] = {
    "never fired": (Rule(effect=Reset(), nth=3), 2, True),
    "fired": (Rule(effect=Reset(), nth=3), 3, False),
    "fired less than it could": (Rule(effect=Reset(), times=3), 1, False),
    "a script with entries left": (Rule(script=[503, "ok", "reset"]), 2, True),
    "a script that was used up": (Rule(script=[503, "ok", "reset"]), 3, False),
    "a script's ok that was never reached": (Rule(script=[503, "ok"]), 1, True),
    "optional": (Rule(effect=Reset(), nth=3, optional=True), 0, False),
    "no scripted rule": (Rule(effect=Reset(), user="nobody"), 5, False),
    "a random rule": (Rule(effect=Reset(), times=1, probability=0.000001), 5, False),
    "each user's script, one user's used up": (Rule(script=["ok", "ok"], per="user"), 2, False),
    "each user's script with entries left": (Rule(script=["ok", "ok"], per="user"), 1, True),
}


@pytest.mark.parametrize(("rule", "calls", "unused"), UNUSED.values(), ids=UNUSED)
def test_a_scripted_rule_is_unused_if_it_never_fired_or_has_entries_left(rule: Rule, calls: int, unused: bool) -> None:
    plan = planned(rule)
    met(plan, [call()] * calls)
    assert bool(plan.unused_rules()) is unused


def test_a_script_says_which_entries_are_left() -> None:
    plan = planned(Rule(script=[503, "ok", "reset"], per="user"))
    met(plan, [call(), call(), call(user="bob")])
    (active,) = plan.unused_rules()
    assert active.script_left() == ("reset",)


# ------------------------------------------------------------ the default latency


def delays(plan: FaultEngine, operation: Operation = Operation.GET_BALANCE) -> list[str]:
    """Return the delays that a call meets, in order."""
    effects = [shot.effect for shot in plan.match(call(operation=operation))]
    return [str(effect.distribution) for effect in effects if isinstance(effect, Latency)]


def test_the_default_latency_is_last_and_other_latencies_add_to_it() -> None:
    plan = planned(*latency_rules(100), Latency(1), Rule(effect=Latency(2), probability=0.999999))
    assert delays(plan) == ["fixed(1)", "fixed(2)", "fixed(100)"]


def test_the_default_latency_of_an_operation_takes_its_place_there() -> None:
    plan = planned(*latency_rules({"*": 100, "reads": 10, "getBalance": 1}))
    assert delays(plan) == ["fixed(1)"]
    assert delays(plan, Operation.GET_USER) == ["fixed(10)"]
    assert delays(plan, Operation.CREATE_USER) == ["fixed(100)"]


def test_a_later_default_latency_takes_the_place_of_the_one_before() -> None:
    plan = planned(*latency_rules({"*": 100, "getBalance": 1}))
    old = plan.find("latency")
    plan.add(latency_rules(200)[0])
    assert (delays(plan), delays(plan, Operation.GET_USER), len(plan)) == (["fixed(1)"], ["fixed(200)"], 2)
    old.remove()
    assert len(plan) == 2


def test_a_refused_rule_takes_nobody_s_place() -> None:
    plan = planned(*latency_rules(100), *[Reset()] * (MAX_RULES - 1))
    plan.add(latency_rules(200)[0])
    with pytest.raises(FaultError, match="at most 1000 rules"):
        plan.add(latency_rules({"reads": 5})[0])
    assert delays(plan) == []  # a reset has won
    plan.find("reset#1").remove()
    assert [active.name for active in plan].count("latency") == 1


def test_the_default_latency_s_name_is_its_own() -> None:
    with pytest.raises(FaultError, match="name is 'latency', the default latency's: reset needs another"):
        planned(Rule(effect=Reset(), name="latency"))
    for words in ({"user": "ada"}, {"probability": 0.5}, {"stack": False}, {"during": (0, 5)}):
        with pytest.raises(FaultError, match="the default latency's, which has an operation and a phase only"):
            planned(rule_from(Latency(5), name="latency", **words))


# ------------------------------------------------------------ rate limits


def limited(plan: FaultEngine, *at_ms: float) -> list[bool]:
    """Tell for each moment, in milliseconds since the start, whether a call is refused."""
    return [bool(plan.match(call(now_ms=START_MS + round(at)))) for at in at_ms]


def test_a_rate_limit_admits_so_many_calls_in_any_window() -> None:
    plan = planned(RateLimit(2, 10))
    assert limited(plan, 0, 5000, 6000, 9999) == [False, False, True, True]


def test_its_window_is_open_behind_and_closed_before() -> None:
    """The window is (t - w, t]: a call a whole window ago does not count."""
    assert limited(planned(RateLimit(1, 10)), 0, 9999, 10_000, 19_999, 20_000) == [False, True, False, True, False]


def test_refused_calls_do_not_count() -> None:
    assert limited(planned(RateLimit(1, 10)), 0, 5000, 9000, 10_000) == [False, True, True, False]


def test_calls_that_an_earlier_rule_won_count() -> None:
    """The window is over all calls that match."""
    plan = planned(Rule(effect=Close(), first=1), RateLimit(1, 10))
    assert met(plan, [call(), call()]) == ["close", ""]  # a refusal bears no word of its own
    assert plan.find("rate_limit#1").fired == 1


@pytest.mark.parametrize("window_s", [0.001, 0.1, 1.1, 3, 59.999])
def test_waiting_exactly_as_long_as_it_says_is_admitted(window_s: float) -> None:
    plan = planned(RateLimit(3, window_s))
    now_ms: int = START_MS
    for _ in range(40):
        shots = plan.match(call(now_ms=now_ms))
        if shots:
            refusal: Any = shots[0].effect
            wait_ms = round(refusal.retry_after_s * 1000)
            assert wait_ms > 0
            if wait_ms > 1:
                assert plan.match(call(now_ms=now_ms + wait_ms - 1))
            now_ms += wait_ms
            assert not plan.match(call(now_ms=now_ms))
        now_ms += 7


def test_a_limit_of_nothing_admits_nobody() -> None:
    assert limited(planned(RateLimit(0, 10)), 0, 10_000, 20_000) == [True, True, True]


def test_a_rate_limit_that_admits_lets_the_rules_behind_be_tried() -> None:
    plan = planned(RateLimit(1, 10), Close())
    assert met(plan, [call()]) == ["close"]
    assert plan.find("rate_limit#1").fired == 0


def test_a_rate_limit_per_user_counts_each_user_apart() -> None:
    plan = planned(rule_from(RateLimit(1, 10), per="user"))
    assert [bool(plan.match(call(user=user))) for user in ("ada", "bob", "ada", "bob")] == [False, False, True, True]


def test_a_rate_limit_for_some_calls_counts_those() -> None:
    plan = planned(rule_from(RateLimit(1, 10), operation="writes"))
    assert limited(plan, 0, 1, 2) == [False, False, False]


# ------------------------------------------------------------ reset


def test_a_reset_begins_anew() -> None:
    plan = planned(Rule(effect=Reset(), nth=1), Rule(effect=Close(), probability=0.5))
    before = met(plan, [call()] * 20)
    old = plan.find("reset#1")
    plan.reset([Rule(effect=Reset(), nth=1), Rule(effect=Close(), probability=0.5)], START_MS, 20)
    old.remove()
    assert [active.name for active in plan] == ["reset#1", "close#1"]
    assert met(plan, [call()] * 20) == before
    assert plan.ordinal_offset == 20


def test_seconds_of_a_window_are_since_the_start() -> None:
    rule = Rule(effect=Reset(), during=(10, None))
    plan = planned(rule)
    assert met(plan, [call(now_ms=START_MS + 10_000)]) == ["reset"]
    plan.reset([rule], START_MS + 5000, 0)
    assert met(plan, [call(now_ms=START_MS + 10_000), call(now_ms=START_MS + 15_000)]) == ["", "reset"]


def test_what_stood_before_a_rule_that_reads_the_past_is_noted_when_it_is_added() -> None:
    plan = planned(Reset())
    plan.get_history_lengths = lambda: {("app-id", "ada"): 3}
    assert plan.add(Rule(effect=StaleRead(by_writes=1))).history_lengths == {("app-id", "ada"): 3}
    assert plan.add(Rule(effect=Close())).history_lengths == {}
