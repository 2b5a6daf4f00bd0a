"""The fault engine: which rules fire for a call, in which order, and how often."""

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
from tests.faults.conftest import START_MS, call, effect_names, engine_with_rules, fired_calls

GRANT = call(operation=Operation.CREATE_TRANSACTION, reason="grant")


# ------------------------------------------------------------ criteria


def is_late(incoming: IncomingCall) -> bool:
    return incoming.ordinal > 5


def is_first(incoming: IncomingCall) -> bool:
    return incoming.ordinal == 1


CRITERIA: dict[str, tuple[dict[str, Any], IncomingCall, IncomingCall]] = {
    "operation": ({"operation": "createTransaction"}, GRANT, call()),
    "reads": ({"operation": "reads"}, call(), GRANT),
    "writes": ({"operation": "writes"}, call(operation=Operation.CREATE_USER), call()),
    "application": ({"application": "b"}, call(application="b"), call()),
    "user": ({"user": "bob"}, call(user="bob"), call()),
    "client": ({"client": "user"}, call(client="user"), call()),
    "reason": ({"reason": "consume"}, GRANT._replace(reason="consume"), GRANT),
    "header": ({"header": {"X-Run": "a"}}, call(fields={b"x-run": b"a"}), call(fields={b"x-run": b"b"})),
    "missing header": ({"header": {"X-Run": "a"}}, call(fields={b"x-run": b"a", b"b": b""}), call()),
    "header of Latin-1": ({"header": {"x": "é"}}, call(fields={b"x": b"\xe9"}), call(fields={b"x": b"\xc3\xa9"})),
    "where": ({"where": is_late}, call(ordinal=6), call(ordinal=5)),
    "window start": (
        {"during": (10, None)},
        call(now_ms=START_MS + 10_000),
        call(now_ms=START_MS + 9_999),
    ),
    "window end": ({"during": (None, 10)}, call(now_ms=START_MS + 9_999), call(now_ms=START_MS + 10_000)),
    "window of datetimes": (
        {"during": (from_ms(START_MS + 5), from_ms(START_MS + 6))},
        call(now_ms=START_MS + 5),
        call(now_ms=START_MS + 6),
    ),
}


@pytest.mark.parametrize(("options", "matching", "other"), CRITERIA.values(), ids=CRITERIA)
def test_rule_fires_only_for_matching_calls(
    options: dict[str, Any], matching: IncomingCall, other: IncomingCall
) -> None:
    engine = engine_with_rules(rule_from(Reset(), **options))
    assert effect_names(engine, [other, matching, other]) == ["", "reset", ""]
    assert (engine.find("reset#1").matched, engine.find("reset#1").fired) == (1, 1)


def test_all_criteria_of_a_rule_must_match() -> None:
    options: dict[str, Any] = {
        "operation": "createTransaction",
        "application": "app-id",
        "user": "ada",
        "client": "server",
        "reason": "grant",
        "header": {"a": "1", "b": "2"},
        "where": is_first,
        "during": (0, 1),
    }
    matching = GRANT._replace(fields={b"a": b"1", b"b": b"2"})
    mismatches: list[dict[str, Any]] = [
        {"operation": Operation.CREATE_USER},
        {"application": "other"},
        {"user": "bob"},
        {"client": "user"},
        {"reason": "refund"},
        {"fields": {b"a": b"1"}},
        {"ordinal": 2},
        {"now_ms": START_MS + 1000},
    ]
    engine = engine_with_rules(rule_from(Reset(), **options))
    assert effect_names(engine, [matching, *(matching._replace(**incoming) for incoming in mismatches)]) == [
        "reset",
        *[""] * len(mismatches),
    ]


def test_call_without_credential_matches_no_client_kind() -> None:
    assert effect_names(
        engine_with_rules(Rule(effect=Reset(), client="user"), Rule(effect=Close())), [call(client="")]
    ) == ["close"]


def test_body_is_needed_only_if_a_rule_depends_on_it() -> None:
    assert not engine_with_rules(Reset()).needs_body
    assert engine_with_rules(Reset(), Rule(effect=Close(), reason="grant")).needs_body
    assert engine_with_rules(Rule(effect=Close(), where=lambda _: True)).needs_body
    engine = engine_with_rules(Rule(effect=Close(), reason="grant"))
    engine.find("close#1").remove()
    assert not engine.needs_body


# ------------------------------------------------------------ schedules

SCHEDULES: dict[str, tuple[dict[str, Any], list[int]]] = {
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
    "all counts": ({"nth": 6, "every": 3, "after": 5, "first": 6}, [6]),
    "probability 0": ({"probability": 0}, []),
    "probability 1": ({"probability": 1}, list(range(1, 13))),
    "probability 1 and nth": ({"probability": 1, "nth": 4}, [4]),
}


@pytest.mark.parametrize(("options", "fired_numbers"), SCHEDULES.values(), ids=SCHEDULES)
def test_rule_fires_when_all_conditions_hold(options: dict[str, Any], fired_numbers: list[int]) -> None:
    assert fired_calls(rule_from(Reset(), **options), [call()] * 12) == fired_numbers


def test_at_counts_all_exchanges_of_the_sandbox() -> None:
    """The rule does not fire if the call with that ordinal does not match."""
    rule = Rule(effect=Reset(), at=7, user="ada")
    assert fired_calls(rule, [call(ordinal=number) for number in (5, 6, 7, 8)]) == [3]
    assert fired_calls(rule, [call(ordinal=7, user="bob"), call(ordinal=8)]) == []


def test_nth_counts_only_matching_calls() -> None:
    calls = [call(user="bob"), call(), call(user="bob"), call(), call()]
    assert fired_calls(Rule(effect=Reset(), user="ada", nth=2), calls) == [4]


def test_calls_outside_window_are_not_counted() -> None:
    calls = [call(now_ms=START_MS + s * 1000) for s in (1, 2, 60, 61, 62)]
    assert fired_calls(Rule(effect=Reset(), during=(60, None), nth=2), calls) == [4]


def test_calls_won_by_earlier_rule_are_counted() -> None:
    engine = engine_with_rules(Rule(effect=Close(), first=2), Rule(effect=Reset(), nth=3))
    assert effect_names(engine, [call()] * 4) == ["close", "close", "reset", ""]
    assert [active.matched for active in engine] == [4, 4]


def test_script_is_consumed_one_call_at_a_time() -> None:
    engine = engine_with_rules(Rule(script=[503, "ok", "reset", "close", "hang", 429]))
    assert effect_names(engine, [call()] * 8) == ["503", "", "reset", "close", "hang", "429", "", ""]
    assert engine.find("script#1").fired == 6


def test_no_further_rule_is_tried_after_ok_entry() -> None:
    engine = engine_with_rules(Rule(script=["ok", "reset"], stack=True), Rule(effect=Close()))
    assert effect_names(engine, [call()] * 3) == ["", "reset+close", "close"]


def test_script_entry_is_consumed_only_when_rule_is_reached() -> None:
    engine = engine_with_rules(Rule(effect=Close(), first=2), Rule(script=[503, "reset"]))
    assert effect_names(engine, [call()] * 5) == ["close", "close", "503", "reset", ""]


def test_script_entry_is_consumed_only_when_rule_fires() -> None:
    assert effect_names(engine_with_rules(Rule(script=[503, "reset"], every=2)), [call()] * 5) == [
        "",
        "503",
        "",
        "reset",
        "",
    ]


def test_per_user_counts_each_user_separately() -> None:
    calls = [call(user=user) for user in ("ada", "bob", "ada", "bob", "ada")]
    assert fired_calls(Rule(effect=Reset(), nth=2, per="user"), calls) == [3, 4]
    assert fired_calls(Rule(effect=Reset(), times=1, per="user"), calls) == [1, 2]
    assert effect_names(engine_with_rules(Rule(script=[503, "reset"], per="user")), calls) == [
        "503",
        "503",
        "reset",
        "reset",
        "",
    ]
    assert effect_names(engine_with_rules(Rule(script=[503], times=1, per="user")), calls) == ["503", "503", "", "", ""]


def test_same_user_id_in_two_applications_is_counted_separately() -> None:
    calls = [call(), call(application="other"), call(), call(application="other")]
    assert fired_calls(Rule(effect=Reset(), nth=2, per="user"), calls) == [3, 4]


def test_undo_reverts_a_fired_rule() -> None:
    """A write that is rejected on arrival can't be committed late."""
    for per in ("", "user"):
        engine = engine_with_rules(rule_from(LateWrite(500), per=per))
        (firing,) = engine.match(GRANT)
        assert effect_names(engine, [GRANT]) == [""]
        firing.undo()
        assert firing.active_rule.fired == 0
        assert effect_names(engine, [GRANT, GRANT]) == ["late_write", ""]
        assert firing.active_rule.fired == 1


# ------------------------------------------------------------ order


def test_first_matching_rule_wins() -> None:
    assert effect_names(engine_with_rules(Reset(), Close()), [call()]) == ["reset"]
    assert effect_names(engine_with_rules(Close(), Reset()), [call()]) == ["close"]


def test_stacking_rule_continues_with_next_rule() -> None:
    engine = engine_with_rules(Latency(5), Rule(effect=Status(503), stack=True, phase="after"), Reset(), Close())
    assert effect_names(engine, [call()]) == ["latency+503+reset"]
    assert effect_names(engine_with_rules(Rule(effect=Latency(5), stack=False), Reset()), [call()]) == ["latency"]


def test_winning_rule_stops_later_stacking_rules() -> None:
    assert effect_names(engine_with_rules(Reset(), Latency(5)), [call()]) == ["reset"]


def test_scripted_rule_is_tried_before_random_rules() -> None:
    """Random rules never pre-empt scripted rules."""
    engine = engine_with_rules(Rule(effect=Close(), probability=0.999999), Rule(effect=Reset(), nth=2))
    assert effect_names(engine, [call()] * 3) == ["close", "reset", "close"]


def test_unconditional_rule_keeps_its_order_among_random_rules() -> None:
    assert set(effect_names(engine_with_rules(Reset(), Rule(effect=Close(), probability=0.5)), [call()] * 50)) == {
        "reset"
    }
    assert set(effect_names(engine_with_rules(Rule(effect=Close(), probability=0.5), Reset()), [call()] * 50)) == {
        "reset",
        "close",
    }
    assert effect_names(
        engine_with_rules(Rule(effect=Close(), probability=1), Rule(effect=Reset(), nth=1)), [call()]
    ) == ["close"]


# ------------------------------------------------------------ probability


def count_effects(engine: FaultEngine, count: int = 10_000) -> Counter[str]:
    return Counter(effect_names(engine, [call()] * count))


def test_firing_rate_is_within_4_standard_deviations() -> None:
    for seed in range(3):
        counts = count_effects(engine_with_rules(Rule(effect=Reset(), probability=0.2), seed=seed))["reset"]
        assert abs(counts - 2000) <= 4 * 40


def test_exclusive_random_rules_share_one_draw() -> None:
    """With separate draws, the second rule would fire for 0.8 * 0.3 of the calls."""
    engine = engine_with_rules(Rule(effect=Reset(), probability=0.2), Rule(effect=Close(), probability=0.3))
    counts = count_effects(engine)
    assert abs(counts["reset"] - 2000) <= 4 * 40
    assert abs(counts["close"] - 3000) <= 4 * 46
    assert counts["reset+close"] == 0


def test_probability_thresholds_cover_matching_rules_only() -> None:
    rules = [Rule(effect=Reset(), probability=0.5, user="bob"), Rule(effect=Close(), probability=0.5)]
    calls = [call()] * 100
    assert effect_names(engine_with_rules(*rules), calls) == effect_names(engine_with_rules(rules[1]), calls)


def test_exhausted_random_rule_does_not_change_other_rates() -> None:
    rare = Rule(effect=Reset(), probability=0.3)
    rules = [rule_from(rare, times=1), Rule(effect=Close(), probability=0.3)]
    names = effect_names(engine_with_rules(*rules), [call()] * 500)
    unlimited = effect_names(engine_with_rules(rule_from(rare, times=10**9), rules[1]), [call()] * 500)
    assert [word == "close" for word in names] == [word == "close" for word in unlimited]
    assert names.count("reset") == 1


def test_rules_with_total_probability_1_affect_every_call() -> None:
    engine = engine_with_rules(*(Rule(effect=effect, probability=0.1) for effect in [Reset(), Close()] * 5))
    assert "" not in count_effects(engine, 2000)


def test_stacking_random_rules_draw_independently() -> None:
    rules = [Rule(effect=effect, probability=0.5, stack=True) for effect in (Reset(), Close())]
    counts = count_effects(engine_with_rules(*rules), 4000)
    assert all(abs(counts[word] - 1000) <= 4 * 28 for word in ("", "reset", "close", "reset+close"))


def calls_of_users(users: str, order: random.Random | None) -> list[IncomingCall]:
    """Return 20 calls by each user, in turn or shuffled."""
    turns = [user for _ in range(20) for user in users]
    if order is not None:
        order.shuffle(turns)
    return [call(user=user) for user in turns]


RANDOM_RULES = [
    Rule(effect=Reset(), probability=0.3),
    Rule(effect=Close(), probability=0.2),
    Rule(effect=Latency("uniform(0, 100)"), probability=0.5),
    Rule(effect=Status(503), per="user", every=7),
    Rule(script=["hang", "ok"], per="user"),
]


def matches_by_user(engine: FaultEngine, calls: list[IncomingCall]) -> dict[str, list[object]]:
    """Return the firings by user, each with a random number drawn for it."""
    matches: defaultdict[str, list[object]] = defaultdict(list)
    for incoming in calls:
        matches[incoming.user].append(
            [(firing.active_rule.name, firing.effect, firing.random()) for firing in engine.match(incoming)]
        )
    return matches


@given(st.integers(0, 2**32), st.integers(0, 2**32))
def test_faults_of_one_user_do_not_depend_on_other_users(seed: int, shuffle: int) -> None:
    alone = matches_by_user(engine_with_rules(*RANDOM_RULES, seed=seed), calls_of_users("a", None))
    order = random.Random(shuffle)  # noqa: S311 - a test order
    together = matches_by_user(engine_with_rules(*RANDOM_RULES, seed=seed), calls_of_users("abc", order))
    assert together["a"] == alone["a"]


def test_faults_of_one_user_are_the_same_with_16_threads() -> None:
    engine, lock = engine_with_rules(*RANDOM_RULES, seed=3), threading.Lock()
    matches: dict[str, list[object]] = {}

    def match_calls(user: str) -> None:
        user_matches: list[object] = []
        for _ in range(30):
            with lock:
                user_matches.append(
                    [(firing.active_rule.name, firing.random()) for firing in engine.match(call(user=user))]
                )
        matches[user] = user_matches

    threads = [threading.Thread(target=match_calls, args=(str(number),)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for user, drawn in matches.items():
        alone = engine_with_rules(*RANDOM_RULES, seed=3)
        assert drawn == [
            [(firing.active_rule.name, firing.random()) for firing in alone.match(call(user=user))] for _ in range(30)
        ]


def test_rule_for_other_calls_does_not_change_draws() -> None:
    extra = Rule(effect=Reset(), reason="refund", probability=0.9)
    rules = [Rule(effect=Close(), probability=0.4), Rule(effect=Latency("uniform(0, 9)"), probability=0.4)]
    calls = [GRANT._replace(reason=reason) for reason in ("grant", "refund", "consume") * 30]
    without_extra, with_extra = (
        engine_with_rules(*rules),
        engine_with_rules(rules[0], rule_from(extra, stack=True), rules[1]),
    )
    for incoming in calls:
        expected = [(firing.effect, firing.random()) for firing in without_extra.match(incoming)]
        assert [
            (firing.effect, firing.random())
            for firing in with_extra.match(incoming)
            if firing.active_rule.rule.reason == ""
        ] == expected


def test_draws_differ_by_seed_rule_user_and_index() -> None:
    def draw_numbers(seed: int, name: str) -> list[float]:
        engine = engine_with_rules(Rule(effect=Latency(5), name=name), seed=seed)
        return [
            firing.random()
            for incoming in (call(), call(), call(user="b"))
            for firing in engine.match(incoming)
            for _ in "12"
        ]

    drawn = [*draw_numbers(0, "a"), *draw_numbers(0, "b"), *draw_numbers(1, "a")]
    assert len(set(drawn)) == len(drawn) == 18
    assert draw_numbers(0, "a") == drawn[:6]


def test_draw_is_keyed_by_seed_rule_call_and_index() -> None:
    """A seed in a bug report must reproduce the same faults in later versions."""
    engine = engine_with_rules(Rule(effect=Latency(5), name="slow"), seed=7)
    engine.match(call())
    (firing,) = engine.match(call())
    firing.random()
    assert firing.random() == keyed_random(7, "effect", "slow", "getBalance", "app-id", "ada", 2, 2)
