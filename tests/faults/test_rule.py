"""Rules: what each field may be, what is refused where it is declared, and the way to JSON and TOML and back."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_credits.contract import Operation
from fake_credits.faults import (
    Close,
    Drip,
    FaultError,
    Hang,
    HoldAtGate,
    IncomingCall,
    Latency,
    LateWrite,
    NotJson,
    RateLimit,
    Reset,
    Rule,
    StaleRead,
    Status,
    Truncate,
    Unauthorized,
    lost_response,
    rule_from,
    rule_to_json,
)
from fake_credits.faults.effects import ALL_OPERATIONS, READ_OPERATIONS, WRITE_OPERATIONS
from fake_credits.faults.rule import effect_for_script_entry
from fake_credits.faults.serialization import describe_match
from fake_credits.models import Reason
from tests.faults.conftest import call, planned
from tests.faults.strategies import rules, toml

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


# ------------------------------------------------------------ what a rule is unless it says so


def test_a_rule_is_for_every_call_at_its_effect_s_first_phase() -> None:
    rule = Rule(effect=Reset())
    assert (rule.operations, rule.phase, rule.stacks, rule.is_scripted) == (ALL_OPERATIONS, "before", False, False)
    assert Rule(effect=Truncate()).phase == "after"
    assert Rule(script=["ok"]).phase == "before"


def test_reads_writes_and_a_star_mean_operations() -> None:
    assert Rule(effect=Reset(), operation="reads").operations == READ_OPERATIONS
    assert Rule(effect=Reset(), operation="writes").operations == WRITE_OPERATIONS
    assert Rule(effect=Reset(), operation="*").operations == READ_OPERATIONS | WRITE_OPERATIONS == ALL_OPERATIONS
    assert Rule(effect=Reset(), operation=Operation.GET_USER).operations == {Operation.GET_USER}


def test_a_rule_touches_what_its_effect_its_user_and_its_reason_leave_of_its_operations() -> None:
    assert Rule(effect=LateWrite(5)).operations == WRITE_OPERATIONS
    assert Rule(effect=StaleRead(by_ms=5), operation="reads").operations == {
        Operation.GET_BALANCE,
        Operation.LIST_TRANSACTIONS,
    }
    assert Rule(effect=Reset(), operation="reads", user="ada").operations == READ_OPERATIONS - {Operation.LIST_USERS}
    assert Rule(effect=Reset(), reason="grant").operations == {Operation.CREATE_TRANSACTION}


def test_a_rule_for_a_credential_is_for_its_kind_of_client() -> None:
    assert Rule(effect=Unauthorized("revoked")).client == "server"
    assert Rule(effect=Unauthorized(clock_skew_s=60)).client == "user"


def test_a_latency_and_a_gate_let_the_rules_behind_be_tried_unless_they_say_not() -> None:
    assert [Rule(effect=effect).stacks for effect in (Latency(1), HoldAtGate("g"), Reset())] == [True, True, False]
    assert not Rule(effect=Latency(1), stack=False).stacks
    assert Rule(effect=Reset(), stack=True).stacks


def test_a_zombie_fires_once_unless_times_says_more() -> None:
    assert Rule(effect=LateWrite(5)).times == 1
    assert Rule(effect=LateWrite(5), times=3).times == 3
    assert Rule(effect=Reset()).times is None


@pytest.mark.parametrize("when", ["at", "nth", "first", "every", "after", "times"])
def test_a_rule_that_says_when_is_scripted(when: str) -> None:
    assert rule_from(Reset(), **{when: 1}).is_scripted
    assert rule_from(Reset(), **{when: 1}, probability=1).is_scripted
    assert not rule_from(Reset(), **{when: 1}, probability=0.5).is_scripted  # chance may well never let it fire


def test_a_script_is_scripted_and_who_during_and_chance_are_not() -> None:
    assert Rule(script=[503]).is_scripted
    assert not Rule(effect=Reset(), user="ada", during=(0, 5)).is_scripted
    assert not Rule(effect=Reset(), probability=1).is_scripted


def test_a_lost_response_is_a_write_that_stands_without_an_answer() -> None:
    assert lost_response() == Rule(effect=Reset(), operation="writes", phase="after")
    for then in (Close(), Hang(), Status(502)):
        assert lost_response(then) == Rule(effect=then, operation="writes", phase="after")
    for word, effect in (("reset", Reset()), ("close", Close()), ("hang", Hang())):
        assert lost_response(word).effect == effect  # type: ignore[arg-type]
    for nothing in (RateLimit(1, 1), Latency(5), "after", None):
        with pytest.raises(FaultError, match="by which no answer is lost: choose reset, close, hang, status, not_json"):
            lost_response(nothing)  # type: ignore[arg-type]


SAID_TWICE: dict[str, tuple[object, dict[str, Any], str]] = {
    "an operation of JSON": (
        {"effect": "reset", "operation": "getUser"},
        {"operation": "getBalance"},
        "operation is 'getUser' in the rule and 'getBalance' beside it: say it once",
    ),
    "a lost response to a read": (
        lost_response(),
        {"operation": "reads"},
        "'writes' in the rule and 'reads'",
    ),
    "a lost response before the write": (
        lost_response(),
        {"phase": "before"},
        "'after' in the rule and 'before'",
    ),
    "a count": (Rule(effect=Reset(), nth=1), {"nth": 2}, "nth is 1 in the rule and 2 beside it"),
    "a script": (Rule(script=[503]), {"script": [504]}, r"script is \(503,\) in the rule and \[504\] beside it"),
    "no user": (Reset(), {"user": ""}, "user is '', which is none: leave the word out where it may be any"),
}


@pytest.mark.parametrize(("told", "words", "problem"), SAID_TWICE.values(), ids=SAID_TWICE)
def test_words_beside_a_rule_that_contradict_it_are_refused(told: object, words: dict[str, Any], problem: str) -> None:
    with pytest.raises(FaultError, match=problem):
        rule_from(told, **words)


def test_an_operation_beside_a_rule_may_be_one_of_its_own() -> None:
    assert rule_from(lost_response(), operation="createTransaction").operation == "createTransaction"
    assert rule_from(LateWrite(5), times=3).times == rule_from(Rule(effect=LateWrite(5)), times=3).times == 3


def test_a_rule_says_what_it_waits_for() -> None:
    assert describe_match(Rule(effect=Reset())) == "any call"
    rule = Rule(effect=Reset(), operation="getUser", user="ada", header={"x": "1"}, nth=2, phase="after", name="a")
    assert describe_match(rule) == "getUser with user='ada', header={'x': '1'}, nth=2"


def test_entries_of_a_script_mean_effects() -> None:
    assert [effect_for_script_entry(entry) for entry in (503, "ok", "reset", "close", "hang")] == [
        Status(503),
        None,
        Reset(),
        Close(),
        Hang(),
    ]


def test_a_window_s_moments_are_seconds_or_any_aware_time_and_open_ends() -> None:
    assert Rule(effect=Reset(), during=(None, 5)).during == (0, 5)
    assert rule_from(Reset(), during=[5]).during == (5, None)
    assert rule_from(Reset(), during=["2030-01-01T12:00:00Z", None]).during == (NOON, None)
    east = NOON.astimezone(timezone(timedelta(hours=9)))
    assert Rule(effect=Reset(), during=(east, None)).during == (NOON, None)


def test_words_that_are_members_of_an_enumeration_become_texts() -> None:
    rule = Rule(effect=Reset(), operation=Operation.CREATE_TRANSACTION, reason=Reason.GRANT)
    assert type(rule.operation) is type(rule.reason) is str


# ------------------------------------------------------------ what is refused


def _unasked() -> bool:
    raise AssertionError


def _asked_two(_call: IncomingCall, _other: str) -> bool:
    raise AssertionError


async def _awaited(_call: IncomingCall) -> bool:
    raise AssertionError


REFUSED: Mapping[str, tuple[dict[str, Any], str]] = {
    "neither effect nor script": ({}, "a rule has an effect or a script: give one of them"),
    "both": ({"effect": Reset(), "script": [503]}, "a rule has an effect or a script"),
    "a class for an effect": ({"effect": Reset}, r"effect is .*Reset.*: give an effect, such as Reset\(\)"),
    "a word for an effect": ({"effect": "reset"}, "effect is 'reset': give an effect"),
    "an unknown operation": (
        {"operation": "getuser"},
        r"operation is 'getuser': choose '\*', 'reads', 'writes', 'createUser', .*'listTransactions'",
    ),
    "an operation that is a list": (
        {"operation": ["getUser"]},
        r"operation is \['getUser'\], a list: it must be",
    ),
    "an unknown phase": (
        {"phase": "during"},
        "phase is 'during': choose 'before', 'after', 'read', 'write', 'list'",
    ),
    "a phase that it has not": (
        {"effect": Truncate(), "phase": "before"},
        "phase is 'before', which truncate does not have: choose after",
    ),
    "a phase that a script has not": ({"effect": None, "script": [503], "phase": "read"}, "which script does not have"),
    "an operation it can't touch": (
        {"effect": LateWrite(5), "operation": "reads"},
        "operation is 'reads', which late_write can't touch: choose createTransaction, createUser",
    ),
    "an application that is no text": ({"application": 5}, "application is 5: it must be a text of at most 1024"),
    "a user that is too long": ({"user": "a" * 1025}, "it must be a text of at most 1024 characters"),
    "a list of one user": ({"operation": "listUsers", "user": "ada"}, "user is 'ada', but listUsers has no user"),
    "a reason for a read": ({"operation": "reads", "reason": "grant"}, "reason is 'grant', but of reads only createTr"),
    "an unknown reason": ({"reason": "gift"}, "reason is 'gift': choose '', 'grant', 'consume', 'refund'"),
    "an unknown client": ({"client": "admin"}, "client is 'admin': choose '', 'server', 'user'"),
    "a client that has none of it": (
        {"effect": Unauthorized("rotated"), "client": "server"},
        "client is 'server', but unauthorized touches the kind 'user' only",
    ),
    "headers that are a list": ({"header": ["a"]}, "header is .*, a list: it must map names of headers to values"),
    "a header that none can be": ({"header": {"a b": "1"}}, "header has the name 'a b', which no header can have"),
    "a header that is a number": ({"header": {"a": 1}}, "header a is 1: a value is a text of visible Latin-1"),
    "a header beyond Latin-1": ({"header": {"a": "€"}}, "header a is '€': a value is a text"),
    "a header of two lines": ({"header": {"a": "1\r\nb: 2"}}, "header a is .*: a value is a text"),
    "a user with a lone surrogate": ({"user": "a\ud800"}, r"user is 'a\\ud800': it has a lone surrogate"),
    "a user that is endless": ({"user": "a" * 10**6}, r"^user is 'a{199}\.\.\.: it must be a text of at most"),
    "a probability beyond any float": ({"probability": 10**400}, "probability is an integer of 1329 bits"),
    "a number beyond any text": ({"nth": 10**5000}, "nth is an integer of 16610 bits: it must be from 1 to 10"),
    "a script with one": ({"effect": None, "script": [10**5000]}, "the entry an integer of 16610 bits: an entry is"),
    "a where that must be awaited": ({"where": _awaited}, "where is .*, a function: it must be a function of a call"),
    "an nth that is no every": ({"nth": 1, "every": 3}, "nth=1, every=3 exclude each other: no call is all of that"),
    "an nth behind the first": ({"nth": 3, "first": 2}, "nth=3, first=2 exclude each other"),
    "an nth not after": ({"nth": 3, "after": 3}, "nth=3, after=3 exclude each other"),
    "no every between": ({"first": 5, "every": 3, "after": 3}, "first=5, every=3, after=3 exclude each other"),
    "an nth that comes later": ({"at": 2, "nth": 3}, "at=2, nth=3 exclude each other: no call is all of that"),
    "an every that comes later": ({"at": 2, "every": 3}, "at=2, every=3 exclude each other"),
    "a script over times": (
        {"effect": None, "script": [503, "ok", "reset"], "times": 2},
        "script has 3 entries, but with times=2 no more than 2 can be played: leave out the rest, or the count",
    ),
    "a script over first": (
        {"effect": None, "script": [503, 503], "first": 3, "every": 2},
        "but with first=3, every=2 no",
    ),
    "a script at one call": (
        {"effect": None, "script": [503, 503], "at": 7, "per": "user"},
        "with at=7 no more than 1",
    ),
    "a per without a count": ({"per": "user"}, "per is 'user', but the rule counts nothing: give nth, first, every"),
    "an effect for an operation": ({"operation": Close()}, r"operation is Close\(\), a Close: it must be a text"),
    "no operation": ({"operation": None}, "operation is None, a NoneType: it must be a text"),
    "a where without an argument": ({"where": _unasked}, "it is called with one argument, a call .too many pos"),
    "a where with two": ({"where": _asked_two}, "it is called with one argument, a call .missing a required"),
    "a where that can't be called": ({"where": "ada"}, "where is 'ada', a str: it must be a function of a call"),
    "at 0": ({"at": 0}, "at is 0: it must be from 1 to 1000000000"),
    "nth that is no number": ({"nth": "3"}, "nth is '3', a str: it must be an integer"),
    "first that is true": ({"first": True}, "first is True, a bool: it must be an integer"),
    "every that is a fraction": ({"every": 1.5}, "every is 1.5, a float: it must be an integer"),
    "after less than nothing": ({"after": -1}, "after is -1: it must be from 0"),
    "times 0": ({"times": 0}, "times is 0: it must be from 1"),
    "an unknown per": ({"per": "application"}, "per is 'application': choose '', 'user'"),
    "a probability over 1": ({"probability": 1.1}, "probability is 1.1: it must be from 0 to 1"),
    "a probability under 0": ({"probability": -0.1}, "probability is -0.1: it must be from 0 to 1"),
    "a probability that is none": ({"probability": float("nan")}, "probability is nan, a float: it must be a number"),
    "a probability that is true": ({"probability": True}, "probability is True, a bool: it must be a number"),
    "stack that is a number": ({"stack": 1}, "stack is 1: it must be true or false"),
    "optional that is none": ({"optional": None}, "optional is None: it must be true or false"),
    "a name with a blank": ({"name": "my rule"}, "name is 'my rule': a rule's name is 1 to 64 visible ASCII"),
    "a name that is too long": ({"name": "a" * 65}, "a rule's name is 1 to 64 visible ASCII characters"),
    "a name beside a gate's": ({"effect": HoldAtGate("g"), "name": "n"}, "a rule with a gate has none of its own"),
    "a window that ends before": ({"during": (5, 5)}, "the start must be before the end"),
    "a window that is one number": ({"during": 5}, r"during is 5: it must be \(start, end\) or \(start,\)"),
    "a window of three": ({"during": (1, 2, 3)}, r"during is \(1, 2, 3\): it must be \(start, end\)"),
    "a window that is a text": ({"during": "ab"}, "during is 'ab': it must be"),
    "a window without a time zone": ({"during": (datetime(2030, 1, 1), None)}, "during: .* is naive: give it a time"),
    "a window at no time": ({"during": ("noon", None)}, "during has 'noon', which is no ISO 8601 date and time"),
    "a window before the start": ({"during": (-1, None)}, "during is -1: it must be from 0"),
    "a window that starts never": ({"during": (float("inf"), None)}, "during is inf: it must be from 0"),
}


@pytest.mark.parametrize(("words", "problem"), REFUSED.values(), ids=REFUSED)
def test_a_rule_is_refused_where_it_is_declared(words: dict[str, Any], problem: str) -> None:
    """The refusal names the field, what it is and what it may be."""
    given: dict[str, Any] = {} if words == {} else {"effect": Reset(), **words}
    with pytest.raises(FaultError, match=problem):
        Rule(**given)


@pytest.mark.parametrize("entry", [200, 399, 600, 503.0, True, "503", "no", "OK", None, ["ok"], Reset()])
def test_an_entry_of_a_script_that_names_no_effect_is_refused(entry: object) -> None:
    with pytest.raises(FaultError, match="an entry is a status from 400 to 599, 'ok', 'reset', 'close', 'hang'"):
        rule_from({"script": ["ok", entry]})


@pytest.mark.parametrize("script", ["ok", 503, {"ok": 1}])
def test_a_script_that_is_no_list_is_refused(script: Any) -> None:
    with pytest.raises(FaultError, match="script is .*: it must be a list"):
        Rule(script=script)


def test_a_script_has_a_limit() -> None:
    Rule(script=["ok"] * 10_000)
    with pytest.raises(FaultError, match="script has 10001 entries: it may have at most 10000"):
        Rule(script=["ok"] * 10_001)


def test_delays_over_a_minute_are_refused() -> None:
    for make in (lambda: Latency(60_001), lambda: Drip(5, 60_001), lambda: Latency("uniform(1, 60001)")):
        with pytest.raises(FaultError, match="must be from 0|from 1"):
            make()


# ------------------------------------------------------------ JSON and TOML


@given(rules())
def test_every_rule_goes_through_json_and_back(rule: Rule) -> None:
    told = json.dumps(rule_to_json(rule), allow_nan=False)
    assert rule_from(json.loads(told)) == rule


@given(rules())
def test_every_rule_goes_through_toml_and_back(rule: Rule) -> None:
    told = "\n".join(f"{name} = {toml(value)}" for name, value in rule_to_json(rule).items())
    assert rule_from(tomllib.loads(told)) == rule


def test_a_word_that_chooses_no_calls_may_be_its_default_written_out() -> None:
    written_out: dict[str, object] = {"phase": "", "per": "", "script": [], "name": "", "code": ""}
    assert rule_from({"effect": "status", "status": 503, **written_out}) == Rule(effect=Status(503))


def test_toml_s_own_dates_are_moments() -> None:
    told = tomllib.loads("effect = 'reset'\nduring = [2030-01-01T12:00:00Z]")
    assert rule_from(told) == Rule(effect=Reset(), during=(NOON, None))


def test_a_rule_is_told_as_an_effect_s_attributes_beside_its_own() -> None:
    rule = Rule(effect=Reset(), operation="createTransaction", user="ada", phase="after", nth=1)
    assert rule_to_json(rule) == {
        "effect": "reset",
        "operation": "createTransaction",
        "user": "ada",
        "phase": "after",
        "nth": 1,
    }
    assert rule_to_json(Rule(effect=NotJson(502, "bom"))) == {"effect": "not_json", "body": "bom", "phase": "before"}


def test_no_attribute_of_an_effect_has_the_name_of_a_rule_s_field_but_a_gate_s_name() -> None:
    """They stand side by side in JSON; a rule with a gate has no name of its own."""
    from fake_credits.faults import EFFECTS

    own = {each.name for each in fields(Rule)}
    shared = {
        (word, each.name)
        for word, kind in EFFECTS.items()
        for each in fields(kind)  # type: ignore[arg-type] # each is a dataclass
        if each.name in own
    }
    assert shared == {("hold_at_gate", "name")}


def test_a_function_is_told_by_its_name_and_refused_from_json() -> None:
    def from_ada(_: object) -> bool:
        return True

    told = rule_to_json(Rule(effect=Reset(), where=from_ada))
    assert told["where"].endswith("from_ada")
    with pytest.raises(FaultError, match="where is a function: such a rule can be declared in Python only"):
        rule_from(told)


NOT_JSON: Mapping[str, tuple[object, str]] = {
    "no object": (5, "a rule is 5, a int: give an effect, a Rule or an object of JSON"),
    "nothing": ({}, "effect is missing: choose latency, status, rate_limit, .*, or give a script"),
    "a misspelt effect": (
        {"efect": "reset"},
        r"'efect' is no word of a rule: did you mean 'effect'\? \(it has: effect, op",
    ),
    "a misspelt effect beside a script": (
        {"efect": "reset", "script": [503]},
        r"'efect' is no attribute of a script nor .*: did you mean 'effect'\?",
    ),
    "a misspelt script": ({"scrpt": [503]}, r"'scrpt' is no word of a rule: did you mean 'script'\?"),
    "an attribute without its effect": ({"status": 503}, "effect is missing: choose latency, status"),
    "no header": ({"effect": "reset", "header": {}}, "header is {}, which is none: leave the word out"),
    "an unknown effect": ({"effect": "explode"}, "effect is 'explode': choose 'latency', 'status'"),
    "an effect that is a list": ({"effect": ["reset"]}, r"effect is \['reset'\]: choose"),
    "an unknown attribute": (
        {"effect": "status", "status": 503, "retry_after": 5},
        r"'retry_after' is no attribute of status \(it has: status, code, retry_after_s, retry_after_form\) nor of a "
        r"rule \(operation, phase, ",
    ),
    "an attribute of another effect": (
        {"effect": "reset", "status": 5},
        r"'status' is no attribute of reset \(it has: none\)",
    ),
    "an attribute of a script": (
        {"script": ["ok"], "status": 503},
        "'status' is no attribute of a script nor of a rule",
    ),
    "a missing attribute": ({"effect": "late_write"}, "after_ms is missing: late_write needs it"),
    "an attribute that can't be": ({"effect": "drip", "chunks": 0}, "chunks is 0: it must be from 1 to 1000"),
    "both": ({"effect": "reset", "script": ["ok"]}, "a rule has an effect or a script"),
    "a header that is none": ({"effect": "reset", "header": "a"}, "header is 'a', a str: it must map"),
}


@pytest.mark.parametrize(("told", "problem"), NOT_JSON.values(), ids=NOT_JSON)
def test_a_malformed_object_is_refused(told: object, problem: str) -> None:
    with pytest.raises(FaultError, match=problem):
        rule_from(told)


def test_more_words_join_a_rule_an_effect_or_an_object() -> None:
    wanted = Rule(effect=Reset(), user="ada", nth=2)
    assert rule_from(Rule(effect=Reset(), user="ada"), nth=2) == wanted
    assert rule_from(Reset(), user="ada", nth=2) == wanted
    assert rule_from({"effect": "reset", "user": "ada"}, user="ada", nth=2) == wanted


def test_an_object_of_json_may_be_given_a_function_in_python() -> None:
    def is_ada_s(each: IncomingCall) -> bool:
        return each.user == "ada"

    plan = planned(rule_from({"effect": "reset"}, where=is_ada_s))
    assert [len(plan.match(call(user=user))) for user in ("ada", "bob")] == [1, 0]


@pytest.mark.parametrize("told", [Reset(), Rule(effect=Reset()), {"effect": "reset"}])
def test_an_unknown_word_is_refused_with_those_there_are(told: object) -> None:
    says = r"'usr' is no word of a rule: did you mean 'user'\? \(it has: operation, phase, application, user, "
    with pytest.raises(FaultError, match=says):
        rule_from(told, usr="ada")


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "nth": st.integers(1, 12),
            "first": st.integers(1, 12),
            "every": st.integers(1, 4),
            "after": st.integers(0, 12),
            "times": st.integers(1, 4),
        },
    ),
    st.integers(1, 12),
)
def test_a_script_is_refused_where_some_of_it_could_never_be_played(counts: dict[str, Any], size: int) -> None:
    try:
        endless = planned(Rule(effect=Close(), **counts))
    except FaultError:  # no call is all of that
        return
    room = sum(len(endless.match(call())) for _ in range(100))
    if counts.keys() & {"nth", "first", "times"} and size > room:
        with pytest.raises(FaultError, match=f"script has {size} entries, but with .* more than {room} can be played"):
            Rule(script=[503] * size, **counts)
    else:
        assert len(Rule(script=[503] * size, **counts).script) == size


def test_rules_are_values() -> None:
    rule = Rule(effect=Reset(), script=(), header={"a": "1"}, user="ada")
    assert rule == Rule(effect=Reset(), user="ada", header={"a": "1"})
    assert len({rule, Rule(effect=Reset(), user="ada", header={"a": "1"}), Rule(effect=Close())}) == 2


def test_a_rule_keeps_headers_of_its_own() -> None:
    mine = {"a": "1"}
    rule = Rule(effect=Reset(), header=mine)
    mine["a"] = "2"
    assert rule.header == {"a": "1"}
