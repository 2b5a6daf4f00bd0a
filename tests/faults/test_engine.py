"""The plan: which rules fire for a call, in which order, and how often."""

import random
import threading
from collections import Counter, defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_credits.clock import from_ms
from fake_credits.contract import Operation
from fake_credits.faults import (
    Close,
    IncomingCall,
    Latency,
    LateWrite,
    Reset,
    Rule,
    Status,
    rule_from,
)
from fake_credits.faults.engine import FaultEngine
from fake_credits.keyed_random import keyed_random
from tests.faults.conftest import START_MS, call, fired, met, planned

GRANT = call(operation=Operation.CREATE_TRANSACTION, reason="grant")


# ------------------------------------------------------------ which


def is_late(each: IncomingCall) -> bool:
    return each.ordinal > 5


def is_first(each: IncomingCall) -> bool:
    return each.ordinal == 1


WHICH: dict[str, tuple[dict[str, Any], IncomingCall, IncomingCall]] = {
    "operation": ({"operation": "createTransaction"}, GRANT, call()),
    "reads": ({"operation": "reads"}, call(), GRANT),
    "writes": ({"operation": "writes"}, call(operation=Operation.CREATE_USER), call()),
    "application": ({"application": "b"}, call(application="b"), call()),
    "user": ({"user": "bob"}, call(user="bob"), call()),
    "client": ({"client": "user"}, call(client="user"), call()),
    "reason": ({"reason": "consume"}, GRANT._replace(reason="consume"), GRANT),
    "header": ({"header": {"X-Run": "a"}}, call(fields={b"x-run": b"a"}), call(fields={b"x-run": b"b"})),
    "header's absence": ({"header": {"X-Run": "a"}}, call(fields={b"x-run": b"a", b"b": b""}), call()),
    "header of Latin-1": ({"header": {"x": "é"}}, call(fields={b"x": b"\xe9"}), call(fields={b"x": b"\xc3\xa9"})),
    "where": ({"where": is_late}, call(ordinal=6), call(ordinal=5)),
    "the start of a window": (
        {"during": (10, None)},
        call(now_ms=START_MS + 10_000),
        call(now_ms=START_MS + 9_999),
    ),
    "the end of a window": ({"during": (None, 10)}, call(now_ms=START_MS + 9_999), call(now_ms=START_MS + 10_000)),
    "a moment": (
        {"during": (from_ms(START_MS + 5), from_ms(START_MS + 6))},
        call(now_ms=START_MS + 5),
        call(now_ms=START_MS + 6),
    ),
}


@pytest.mark.parametrize(("words", "yes", "no"), WHICH.values(), ids=WHICH)
def test_a_rule_is_for_the_calls_that_it_names(words: dict[str, Any], yes: IncomingCall, no: IncomingCall) -> None:
    plan = planned(rule_from(Reset(), **words))
    assert met(plan, [no, yes, no]) == ["", "reset", ""]
    assert (plan.find("reset#1").matched, plan.find("reset#1").fired) == (1, 1)


def test_all_that_a_rule_names_must_hold() -> None:
    words: dict[str, Any] = {
        "operation": "createTransaction",
        "application": "app-id",
        "user": "ada",
        "client": "server",
        "reason": "grant",
        "header": {"a": "1", "b": "2"},
        "where": is_first,
        "during": (0, 1),
    }
    good = GRANT._replace(fields={b"a": b"1", b"b": b"2"})
    others: list[dict[str, Any]] = [
        {"operation": Operation.CREATE_USER},
        {"application": "other"},
        {"user": "bob"},
        {"client": "user"},
        {"reason": "refund"},
        {"fields": {b"a": b"1"}},
        {"ordinal": 2},
        {"now_ms": START_MS + 1000},
    ]
    plan = planned(rule_from(Reset(), **words))
    assert met(plan, [good, *(good._replace(**each) for each in others)]) == ["reset", *[""] * len(others)]


def test_a_call_without_a_credential_is_of_no_kind_of_client() -> None:
    assert met(planned(Rule(effect=Reset(), client="user"), Rule(effect=Close())), [call(client="")]) == ["close"]


def test_reasons_are_read_only_where_some_rule_asks() -> None:
    assert not planned(Reset()).needs_reason
    assert planned(Reset(), Rule(effect=Close(), reason="grant")).needs_reason
    assert planned(Rule(effect=Close(), where=lambda _: True)).needs_reason
    plan = planned(Rule(effect=Close(), reason="grant"))
    plan.find("close#1").remove()
    assert not plan.needs_reason


# ------------------------------------------------------------ when

WHEN: dict[str, tuple[dict[str, Any], list[int]]] = {
    "always": ({}, list(range(1, 13))),
    "nth": ({"nth": 3}, [3]),
    "first": ({"first": 2}, [1, 2]),
    "every": ({"every": 5}, [5, 10]),
    "after": ({"after": 9}, [10, 11, 12]),
    "after 0": ({"after": 0, "first": 1}, [1]),
    "times": ({"times": 2}, [1, 2]),
    "every and after": ({"every": 5, "after": 5}, [10]),
    "every and times": ({"every": 5, "times": 1}, [5]),
    "after and times": ({"after": 3, "times": 2}, [4, 5]),
    "the only one of its kind": ({"nth": 6, "every": 3, "after": 5, "first": 6}, [6]),
    "probability 0": ({"probability": 0}, []),
    "probability 1": ({"probability": 1}, list(range(1, 13))),
    "probability 1 and nth": ({"probability": 1, "nth": 4}, [4]),
}


@pytest.mark.parametrize(("words", "numbers"), WHEN.values(), ids=WHEN)
def test_a_rule_fires_when_all_that_it_says_holds(words: dict[str, Any], numbers: list[int]) -> None:
    assert fired(rule_from(Reset(), **words), [call()] * 12) == numbers


def test_at_is_the_sandbox_s_own_count_of_exchanges() -> None:
    """A call that does not match at that moment is none the rule waits for."""
    rule = Rule(effect=Reset(), at=7, user="ada")
    assert fired(rule, [call(ordinal=number) for number in (5, 6, 7, 8)]) == [3]
    assert fired(rule, [call(ordinal=7, user="bob"), call(ordinal=8)]) == []


def test_counts_are_of_the_calls_that_match() -> None:
    calls = [call(user="bob"), call(), call(user="bob"), call(), call()]
    assert fired(Rule(effect=Reset(), user="ada", nth=2), calls) == [4]


def test_calls_outside_a_window_are_not_counted() -> None:
    calls = [call(now_ms=START_MS + s * 1000) for s in (1, 2, 60, 61, 62)]
    assert fired(Rule(effect=Reset(), during=(60, None), nth=2), calls) == [4]


def test_counters_count_every_matching_call_also_one_that_an_earlier_rule_won() -> None:
    plan = planned(Rule(effect=Close(), first=2), Rule(effect=Reset(), nth=3))
    assert met(plan, [call()] * 4) == ["close", "close", "reset", ""]
    assert [active.matched for active in plan] == [4, 4]


def test_a_script_is_consumed_one_call_at_a_time() -> None:
    plan = planned(Rule(script=[503, "ok", "reset", "close", "hang", 429]))
    assert met(plan, [call()] * 8) == ["503", "", "reset", "close", "hang", "429", "", ""]
    assert plan.find("script#1").fired == 6


def test_ok_tries_no_further_rule() -> None:
    plan = planned(Rule(script=["ok", "reset"], stack=True), Rule(effect=Close()))
    assert met(plan, [call()] * 3) == ["", "reset+close", "close"]


def test_a_script_s_entry_is_consumed_only_when_its_rule_is_reached() -> None:
    plan = planned(Rule(effect=Close(), first=2), Rule(script=[503, "reset"]))
    assert met(plan, [call()] * 5) == ["close", "close", "503", "reset", ""]


def test_a_script_s_entry_is_consumed_only_when_the_rule_s_time_has_come() -> None:
    assert met(planned(Rule(script=[503, "reset"], every=2)), [call()] * 5) == ["", "503", "", "reset", ""]


def test_per_user_counts_each_user_s_calls_apart() -> None:
    calls = [call(user=user) for user in ("ada", "bob", "ada", "bob", "ada")]
    assert fired(Rule(effect=Reset(), nth=2, per="user"), calls) == [3, 4]
    assert fired(Rule(effect=Reset(), times=1, per="user"), calls) == [1, 2]
    assert met(planned(Rule(script=[503, "reset"], per="user")), calls) == ["503", "503", "reset", "reset", ""]
    assert met(planned(Rule(script=[503], times=1, per="user")), calls) == ["503", "503", "", "", ""]


def test_users_of_the_same_name_in_two_applications_are_two() -> None:
    calls = [call(), call(application="other"), call(), call(application="other")]
    assert fired(Rule(effect=Reset(), nth=2, per="user"), calls) == [3, 4]


def test_a_rule_that_fired_for_nothing_is_taken_back() -> None:
    """A write that is refused at its arrival is none that a zombie could let land later."""
    for per in ("", "user"):
        plan = planned(rule_from(LateWrite(500), per=per))
        (shot,) = plan.match(GRANT)
        assert met(plan, [GRANT]) == [""]
        shot.undo()
        assert shot.active_rule.fired == 0
        assert met(plan, [GRANT, GRANT]) == ["late_write", ""]
        assert shot.active_rule.fired == 1


# ------------------------------------------------------------ order


def test_the_first_that_fires_wins() -> None:
    assert met(planned(Reset(), Close()), [call()]) == ["reset"]
    assert met(planned(Close(), Reset()), [call()]) == ["close"]


def test_a_rule_that_stacks_lets_the_next_be_tried() -> None:
    plan = planned(Latency(5), Rule(effect=Status(503), stack=True, phase="after"), Reset(), Close())
    assert met(plan, [call()]) == ["latency+503+reset"]
    assert met(planned(Rule(effect=Latency(5), stack=False), Reset()), [call()]) == ["latency"]


def test_a_rule_that_has_won_ends_the_turn_also_of_those_that_stack() -> None:
    assert met(planned(Reset(), Latency(5)), [call()]) == ["reset"]


def test_a_scripted_rule_is_tried_before_random_ones() -> None:
    """Chance never takes a call away from what a test has written down."""
    plan = planned(Rule(effect=Close(), probability=0.999999), Rule(effect=Reset(), nth=2))
    assert met(plan, [call()] * 3) == ["close", "reset", "close"]


def test_a_rule_that_always_fires_keeps_its_place_before_and_behind_chance() -> None:
    assert set(met(planned(Reset(), Rule(effect=Close(), probability=0.5)), [call()] * 50)) == {"reset"}
    assert set(met(planned(Rule(effect=Close(), probability=0.5), Reset()), [call()] * 50)) == {"reset", "close"}
    assert met(planned(Rule(effect=Close(), probability=1), Rule(effect=Reset(), nth=1)), [call()]) == ["close"]


# ------------------------------------------------------------ chance


def rates(plan: FaultEngine, count: int = 10_000) -> Counter[str]:
    return Counter(met(plan, [call()] * count))


def test_probability_02_over_10_000_calls_is_within_4_standard_deviations() -> None:
    for seed in range(3):
        hits = rates(planned(Rule(effect=Reset(), probability=0.2), seed=seed))["reset"]
        assert abs(hits - 2000) <= 4 * 40


def test_exclusive_random_rules_share_one_draw_so_each_rate_is_exact() -> None:
    """Drawn apart, the second would fire in 0.8 * 0.3 of the calls."""
    plan = planned(Rule(effect=Reset(), probability=0.2), Rule(effect=Close(), probability=0.3))
    hits = rates(plan)
    assert abs(hits["reset"] - 2000) <= 4 * 40
    assert abs(hits["close"] - 3000) <= 4 * 46
    assert hits["reset+close"] == 0


def test_thresholds_are_cumulated_over_the_rules_that_match() -> None:
    rules = [Rule(effect=Reset(), probability=0.5, user="bob"), Rule(effect=Close(), probability=0.5)]
    calls = [call()] * 100
    assert met(planned(*rules), calls) == met(planned(rules[1]), calls)


def test_a_random_rule_that_is_used_up_leaves_the_others_rates_as_they_are() -> None:
    rare = Rule(effect=Reset(), probability=0.3)
    rules = [rule_from(rare, times=1), Rule(effect=Close(), probability=0.3)]
    words = met(planned(*rules), [call()] * 500)
    free = met(planned(rule_from(rare, times=10**9), rules[1]), [call()] * 500)
    assert [word == "close" for word in words] == [word == "close" for word in free]
    assert words.count("reset") == 1


def test_rules_whose_rates_make_1_leave_no_call_alone() -> None:
    plan = planned(*(Rule(effect=effect, probability=0.1) for effect in [Reset(), Close()] * 5))
    assert "" not in rates(plan, 2000)


def test_random_rules_that_stack_draw_each_for_itself() -> None:
    rules = [Rule(effect=effect, probability=0.5, stack=True) for effect in (Reset(), Close())]
    hits = rates(planned(*rules), 4000)
    assert all(abs(hits[word] - 1000) <= 4 * 28 for word in ("", "reset", "close", "reset+close"))


def a_day(users: str, order: random.Random | None) -> list[IncomingCall]:
    """Return 20 calls of each user, in turn or shuffled."""
    turns = [user for _ in range(20) for user in users]
    if order is not None:
        order.shuffle(turns)
    return [call(user=user) for user in turns]


RANDOM = [
    Rule(effect=Reset(), probability=0.3),
    Rule(effect=Close(), probability=0.2),
    Rule(effect=Latency("uniform(0, 100)"), probability=0.5),
    Rule(effect=Status(503), per="user", every=7),
    Rule(script=["hang", "ok"], per="user"),
]


def by_user(plan: FaultEngine, calls: list[IncomingCall]) -> dict[str, list[object]]:
    """Return what each user met, with a number that each effect has drawn."""
    found: defaultdict[str, list[object]] = defaultdict(list)
    for each in calls:
        found[each.user].append([(shot.active_rule.name, shot.effect, shot.random()) for shot in plan.match(each)])
    return found


@given(st.integers(0, 2**32), st.integers(0, 2**32))
def test_what_one_user_meets_does_not_depend_on_what_others_do(seed: int, shuffle: int) -> None:
    alone = by_user(planned(*RANDOM, seed=seed), a_day("a", None))
    together = by_user(planned(*RANDOM, seed=seed), a_day("abc", random.Random(shuffle)))  # noqa: S311 - an order to try
    assert together["a"] == alone["a"]


def test_what_a_user_meets_is_the_same_with_16_threads() -> None:
    plan, lock = planned(*RANDOM, seed=3), threading.Lock()
    found: dict[str, list[object]] = {}

    def act(user: str) -> None:
        met_so_far: list[object] = []
        for _ in range(30):
            with lock:
                met_so_far.append([(shot.active_rule.name, shot.random()) for shot in plan.match(call(user=user))])
        found[user] = met_so_far

    threads = [threading.Thread(target=act, args=(str(number),)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for user, words in found.items():
        alone = planned(*RANDOM, seed=3)
        assert words == [
            [(shot.active_rule.name, shot.random()) for shot in alone.match(call(user=user))] for _ in range(30)
        ]


def test_a_rule_for_others_changes_no_draw() -> None:
    extra = Rule(effect=Reset(), reason="refund", probability=0.9)
    rules = [Rule(effect=Close(), probability=0.4), Rule(effect=Latency("uniform(0, 9)"), probability=0.4)]
    calls = [GRANT._replace(reason=reason) for reason in ("grant", "refund", "consume") * 30]
    plain, more = planned(*rules), planned(rules[0], rule_from(extra, stack=True), rules[1])
    for each in calls:
        mine = [(shot.effect, shot.random()) for shot in plain.match(each)]
        assert [(shot.effect, shot.random()) for shot in more.match(each) if shot.active_rule.rule.reason == ""] == mine


def test_seeds_and_rules_and_calls_and_draws_draw_apart() -> None:
    def numbers(seed: int, name: str) -> list[float]:
        plan = planned(Rule(effect=Latency(5), name=name), seed=seed)
        return [shot.random() for each in (call(), call(), call(user="b")) for shot in plan.match(each) for _ in "12"]

    drawn = [*numbers(0, "a"), *numbers(0, "b"), *numbers(1, "a")]
    assert len(set(drawn)) == len(drawn) == 18
    assert numbers(0, "a") == drawn[:6]


def test_a_draw_is_keyed_by_seed_rule_operation_application_user_and_ordinals() -> None:
    """So that a seed in a bug report means the same faults next year."""
    plan = planned(Rule(effect=Latency(5), name="slow"), seed=7)
    plan.match(call())
    (shot,) = plan.match(call())
    shot.random()
    assert shot.random() == keyed_random(7, "effect", "slow", "getBalance", "app-id", "ada", 2, 2)
