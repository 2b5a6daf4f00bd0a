"""Rules: defaults, validation, and serialization to JSON and TOML."""

import datetime as datetime_module
import json
import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_credits import FakeCredits, faults
from fake_credits.contract import Operation
from fake_credits.contract.types import ALL_OPERATIONS, OPERATIONS_BY_NAME, READ_OPERATIONS, WRITE_OPERATIONS
from fake_credits.faults import (
    EFFECTS,
    Close,
    Drip,
    Effect,
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
    Uniform,
    catalogue,
    lost_response,
    rule_from,
    rule_to_json,
)
from fake_credits.faults.declarations import describe_match
from fake_credits.faults.faults import RuleFields
from fake_credits.faults.rule import effect_for_script_entry
from fake_credits.models import Reason
from tests.faults.conftest import call, engine_with_rules
from tests.faults.strategies import effects, rules, to_toml

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


# ------------------------------------------------------------ defaults


def test_rule_defaults_to_all_operations_and_first_phase_of_effect() -> None:
    rule = Rule(effect=Reset())
    assert (rule.operations, rule.phase, rule.stacks, rule.is_scripted) == (ALL_OPERATIONS, "before", False, False)
    assert Rule(effect=Truncate()).phase == "after"
    assert Rule(script=["ok"]).phase == "before"


def test_operation_groups_expand_to_operations() -> None:
    assert Rule(effect=Reset(), operation="reads").operations == READ_OPERATIONS
    assert Rule(effect=Reset(), operation="writes").operations == WRITE_OPERATIONS
    assert Rule(effect=Reset(), operation="*").operations == READ_OPERATIONS | WRITE_OPERATIONS == ALL_OPERATIONS
    assert Rule(effect=Reset(), operation=Operation.GET_USER).operations == {Operation.GET_USER}


def test_operations_are_narrowed_by_effect_user_and_reason() -> None:
    assert Rule(effect=LateWrite(5)).operations == WRITE_OPERATIONS
    assert Rule(effect=StaleRead(by_ms=5), operation="reads").operations == {
        Operation.GET_BALANCE,
        Operation.LIST_TRANSACTIONS,
    }
    assert Rule(effect=Reset(), operation="reads", user="ada").operations == READ_OPERATIONS - {Operation.LIST_USERS}
    assert Rule(effect=Reset(), reason="grant").operations == {Operation.CREATE_TRANSACTION}


def test_unauthorized_rule_is_limited_to_its_client_kind() -> None:
    assert Rule(effect=Unauthorized("revoked")).client == "server"
    assert Rule(effect=Unauthorized(clock_skew_s=60)).client == "user"


def test_latency_and_gate_rules_stack_by_default() -> None:
    assert [Rule(effect=effect).stacks for effect in (Latency(1), HoldAtGate("g"), Reset())] == [True, True, False]
    assert not Rule(effect=Latency(1), stack=False).stacks
    assert Rule(effect=Reset(), stack=True).stacks


def test_late_write_fires_once_by_default() -> None:
    assert Rule(effect=LateWrite(5)).times == 1
    assert Rule(effect=LateWrite(5), times=3).times == 3
    assert Rule(effect=Reset()).times is None


@pytest.mark.parametrize("when", ["at", "nth", "first", "every", "after", "times"])
def test_rule_with_count_is_scripted(when: str) -> None:
    assert rule_from(Reset(), **{when: 1}).is_scripted
    assert rule_from(Reset(), **{when: 1}, probability=1).is_scripted
    assert not rule_from(Reset(), **{when: 1}, probability=0.5).is_scripted  # by chance, it might never fire


def test_script_makes_rule_scripted_but_criteria_and_probability_do_not() -> None:
    assert Rule(script=[503]).is_scripted
    assert not Rule(effect=Reset(), user="ada", during=(0, 5)).is_scripted
    assert not Rule(effect=Reset(), probability=1).is_scripted


def test_lost_response_is_a_write_rule_after_commit() -> None:
    assert lost_response() == Rule(effect=Reset(), operation="writes", phase="after")
    for then in (Close(), Hang(), Status(502)):
        assert lost_response(then) == Rule(effect=then, operation="writes", phase="after")
    for name, effect in (("reset", Reset()), ("close", Close()), ("hang", Hang())):
        assert lost_response(name).effect == effect  # type: ignore[arg-type]
    for invalid in (RateLimit(1, 1), Latency(5), "after", None):
        with pytest.raises(
            FaultError, match="it must be an effect that loses the response: reset, close, hang, status, not_json"
        ):
            lost_response(invalid)  # type: ignore[arg-type]


CONFLICTS: dict[str, tuple[object, dict[str, Any], str]] = {
    "operation in object": (
        {"effect": "reset", "operation": "getUser"},
        {"operation": "getBalance"},
        "operation is set twice: to 'getUser' in the rule and to 'getBalance' as an argument",
    ),
    "lost response on read": (
        lost_response(),
        {"operation": "reads"},
        "to 'writes' in the rule and to 'reads'",
    ),
    "lost response before the write": (
        lost_response(),
        {"phase": "before"},
        "to 'after' in the rule and to 'before'",
    ),
    "count": (Rule(effect=Reset(), nth=1), {"nth": 2}, "nth is set twice: to 1 in the rule and to 2 as an argument"),
    "script": (
        Rule(script=[503]),
        {"script": [504]},
        r"script is set twice: to \(503,\) in the rule and to \[504\] as",
    ),
    "empty user": (Reset(), {"user": ""}, "user is empty: omit it to match any user"),
}


@pytest.mark.parametrize(("data", "options", "problem"), CONFLICTS.values(), ids=CONFLICTS)
def test_conflicting_options_are_rejected(data: object, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(FaultError, match=problem):
        rule_from(data, **options)


def test_options_may_narrow_the_rule() -> None:
    assert rule_from(lost_response(), operation="createTransaction").operation == "createTransaction"
    assert rule_from(LateWrite(5), times=3).times == rule_from(Rule(effect=LateWrite(5)), times=3).times == 3


def test_describe_match_names_criteria() -> None:
    assert describe_match(Rule(effect=Reset())) == "any call"
    rule = Rule(effect=Reset(), operation="getUser", user="ada", header={"x": "1"}, nth=2, phase="after", name="a")
    assert describe_match(rule) == "getUser with user='ada', header={'x': '1'}, nth=2"


def test_script_entries_map_to_effects() -> None:
    assert [effect_for_script_entry(entry) for entry in (503, "ok", "reset", "close", "hang")] == [
        Status(503),
        None,
        Reset(),
        Close(),
        Hang(),
    ]


def test_during_accepts_seconds_aware_datetimes_and_open_ends() -> None:
    assert Rule(effect=Reset(), during=(None, 5)).during == (0, 5)
    assert rule_from(Reset(), during=[5]).during == (5, None)
    assert rule_from(Reset(), during=["2030-01-01T12:00:00Z", None]).during == (NOON, None)
    east = NOON.astimezone(timezone(timedelta(hours=9)))
    assert Rule(effect=Reset(), during=(east, None)).during == (NOON, None)


def test_enum_options_become_strings() -> None:
    rule = Rule(effect=Reset(), operation=Operation.CREATE_TRANSACTION, reason=Reason.GRANT)
    assert type(rule.operation) is type(rule.reason) is str


# ------------------------------------------------------------ repr and ids


def evaluate(text: str) -> object:
    """Evaluate a pasted repr, with the public names of faults imported."""
    return eval(text, {**vars(faults), "datetime": datetime_module})  # noqa: S307


@given(rules())
def test_repr_of_rule_can_be_pasted(rule: Rule) -> None:
    assert evaluate(repr(rule)) == rule


@given(effects)
def test_repr_of_effect_can_be_pasted(effect: Effect) -> None:
    assert evaluate(repr(effect)) == effect


REPRS: Mapping[str, tuple[object, str, str]] = {
    "effect without fields": (Reset(), "Reset()", "reset"),
    "implied code": (Status(503), "Status(503)", "status-503"),
    "unusual code": (Status(503, "teapot"), "Status(503, 'teapot')", "status-503-teapot"),
    "later field": (Status(429, retry_after_s=5), "Status(429, retry_after_s=5)", "status-429-retry_after_s=5"),
    "implied kind": (Unauthorized(clock_skew_s=60), "Unauthorized(clock_skew_s=60)", "unauthorized-clock_skew_s=60"),
    "distribution": (Latency("uniform(5, 9.5)"), "Latency(Uniform(5.0, 9.5))", "latency-uniform(5, 9.5)"),
    "positional effect": (Rule(Reset(), nth=1), "Rule(Reset(), nth=1)", "reset-nth=1"),
    "implied phase, client and times": (Rule(LateWrite(5)), "Rule(LateWrite(5))", "late_write-5"),
    "lost response": (
        lost_response(),
        "Rule(Reset(), operation='writes', phase='after')",
        "reset-writes-after",
    ),
    "script": (Rule(script=[503, "ok"]), "Rule(script=(503, 'ok'))", "script=(503, 'ok')"),
}


@pytest.mark.parametrize(("value", "code", "short_id"), REPRS.values(), ids=REPRS)
def test_repr_and_id_show_explicit_fields_only(value: object, code: str, short_id: str) -> None:
    assert (repr(value), str(value)) == (code, short_id)


@pytest.mark.parametrize("value", [Reset(), Latency("fixed(5)"), Rule(Reset(), nth=1), Uniform(1, 5)])
def test_pytest_shows_short_id(request: pytest.FixtureRequest, value: object) -> None:
    assert request.node.name == f"test_pytest_shows_short_id[{value}]"


def test_lost_response_makes_one_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Rule] = []
    check = Rule.__post_init__

    def count(rule: Rule) -> None:
        made.append(rule)
        check(rule)

    monkeypatch.setattr(Rule, "__post_init__", count)
    fake = FakeCredits()
    fake.faults.add(lost_response())
    assert len(made) == 1
    fake.faults.add(lost_response(), "createTransaction", nth=1)  # makes the rule and a narrowed copy
    assert len(made) == 3


# ------------------------------------------------------------ catalogue


def test_catalogue_has_every_effect_except_gates_in_every_phase() -> None:
    listed = {(rule.word, rule.phase) for rule in catalogue("*")}
    assert listed == {(name, phase) for name, kind in EFFECTS.items() for phase in kind.phases if kind != HoldAtGate}


@pytest.mark.parametrize("operation", OPERATIONS_BY_NAME)
def test_catalogue_of_operation_has_every_rule_that_can_match_it(operation: Any) -> None:
    listed = catalogue(operation)
    possible = [rule for rule in catalogue("*") if rule.operations & OPERATIONS_BY_NAME[operation]]
    assert listed == [replace(rule, operation=operation) for rule in possible]
    assert len({str(rule) for rule in listed}) == len(listed)


def test_catalogue_of_unknown_operation_is_rejected() -> None:
    with pytest.raises(FaultError, match=r"operation is 'pay': it must be '\*', 'reads', "):
        catalogue("pay")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


# ------------------------------------------------------------ validation


def _without_argument() -> bool:
    raise AssertionError


def _with_two_arguments(_call: IncomingCall, _other: str) -> bool:
    raise AssertionError


async def _async_where(_call: IncomingCall) -> bool:
    raise AssertionError


INVALID_RULES: Mapping[str, tuple[dict[str, Any], str]] = {
    "neither effect nor script": ({}, "a rule needs an effect or a script"),
    "effect and script": ({"effect": Reset(), "script": [503]}, "a rule has either an effect or a script, not both"),
    "class instead of effect": ({"effect": Reset}, r"effect is .*Reset.*: it must be an effect, such as Reset\(\)"),
    "string instead of effect": ({"effect": "reset"}, "effect is 'reset': it must be an effect"),
    "unknown operation": (
        {"operation": "getuser"},
        r"operation is 'getuser': it must be '\*', 'reads', 'writes', 'createUser', .*; did you mean 'getUser'",
    ),
    "operation as list": (
        {"operation": ["getUser"]},
        r"operation is \['getUser'\]: it must be",
    ),
    "unknown phase": (
        {"phase": "during"},
        "phase is 'during': it must be 'before' or 'after' for reset",
    ),
    "phase unsupported by effect": (
        {"effect": Truncate(), "phase": "before"},
        "phase is 'before': it must be 'after' for truncate",
    ),
    "phase unsupported by script": (
        {"effect": None, "script": [503], "phase": "read"},
        "phase is 'read': it must be 'before' or 'after' for script",
    ),
    "operation unsupported by effect": (
        {"effect": LateWrite(5), "operation": "reads"},
        "operation is 'reads', but late_write can affect only 'createTransaction' or 'createUser'",
    ),
    "application as number": ({"application": 5}, "application is 5: it must be a string of at most 1024"),
    "user too long": ({"user": "a" * 1025}, "it must be a string of at most 1024 characters"),
    "user with listUsers": ({"operation": "listUsers", "user": "ada"}, "user is 'ada', but listUsers has no user"),
    "reason with reads": ({"operation": "reads", "reason": "grant"}, "reason is 'grant', but only createTr"),
    "unknown reason": ({"reason": "gift"}, "reason is 'gift': it must be 'grant', 'consume' or 'refund'"),
    "unknown client": ({"client": "admin"}, "client is 'admin': it must be 'server' or 'user'"),
    "client unsupported by effect": (
        {"effect": Unauthorized("rotated"), "client": "server"},
        "client is 'server', but this 'unauthorized' effect applies only to 'user' clients",
    ),
    "headers as list": ({"header": ["a"]}, "header is .*: it must map header names to values"),
    "invalid header name": ({"header": {"a b": "1"}}, "header has 'a b', which is not a valid header name"),
    "header value as number": ({"header": {"a": 1}}, "header a is 1: it must be a string of visible Latin-1"),
    "header value outside Latin-1": ({"header": {"a": "€"}}, "header a is '€': it must be a string"),
    "header value with line break": ({"header": {"a": "1\r\nb: 2"}}, "header a is .*: it must be a string"),
    "very long user": ({"user": "a" * 10**6}, r"^user is 'a{78}…: it must be a string of at most"),
    "probability beyond float range": ({"probability": 10**400}, "probability is an integer of 1329 bits"),
    "huge integer": ({"nth": 10**5000}, "nth is an integer of 16610 bits: it must be from 1 to 10"),
    "script with huge integer": (
        {"effect": None, "script": [10**5000]},
        "a script entry is an integer of 16610 bits: it must be",
    ),
    "async where": (
        {"where": _async_where},
        "where is .*: it must be a non-async function that takes a call",
    ),
    "nth conflicting with every": ({"nth": 1, "every": 3}, "nth=1 and every=3 can never match the same call"),
    "nth conflicting with first": ({"nth": 3, "first": 2}, "nth=3 and first=2 can never match"),
    "nth conflicting with after": ({"nth": 3, "after": 3}, "nth=3 and after=3 can never match"),
    "every conflicting with first and after": (
        {"first": 5, "every": 3, "after": 3},
        "first=5 and every=3 and after=3 can never match",
    ),
    "at before nth": ({"at": 2, "nth": 3}, "at=2 and nth=3 can never match"),
    "at before every": ({"at": 2, "every": 3}, "at=2 and every=3 can never match"),
    "script longer than times": (
        {"effect": None, "script": [503, "ok", "reset"], "times": 2},
        "script has 3 entries, but with times=2, at most 2 can be used",
    ),
    "script longer than first": (
        {"effect": None, "script": [503, 503], "first": 3, "every": 2},
        "but with first=3 and every=2, at most",
    ),
    "script longer than at": (
        {"effect": None, "script": [503, 503], "at": 7, "per": "user"},
        "with at=7, at most 1",
    ),
    "per without count": ({"per": "user"}, "per is 'user', but the rule counts nothing: add nth, first, every"),
    "effect instead of operation": ({"operation": Close()}, r"operation is Close\(\): it must be"),
    "operation is None": ({"operation": None}, "operation has no value: it must be"),
    "where without parameter": (
        {"where": _without_argument},
        "it must be a function with one argument, the call .too many pos",
    ),
    "where with two parameters": (
        {"where": _with_two_arguments},
        "it must be a function with one argument, the call .missing a required",
    ),
    "where not callable": ({"where": "ada"}, "where is 'ada': it must be a non-async function that takes a call"),
    "at 0": ({"at": 0}, "at is 0: it must be from 1 to 1000000000"),
    "nth as string": ({"nth": "3"}, "nth is '3': it must be an integer"),
    "first as true": ({"first": True}, "first is true: it must be an integer"),
    "fractional every": ({"every": 1.5}, "every is 1.5: it must be an integer"),
    "negative after": ({"after": -1}, "after is -1: it must be from 0"),
    "times 0": ({"times": 0}, "times is 0: it must be from 1"),
    "unknown per": ({"per": "application"}, "per is 'application': it must be 'user'"),
    "probability over 1": ({"probability": 1.1}, "probability is 1.1: it must be from 0 to 1"),
    "probability under 0": ({"probability": -0.1}, "probability is -0.1: it must be from 0 to 1"),
    "probability NaN": ({"probability": float("nan")}, "probability is nan: it must be a number"),
    "probability as true": ({"probability": True}, "probability is true: it must be a number"),
    "stack as number": ({"stack": 1}, "stack is 1: it must be true or false"),
    "optional as None": ({"optional": None}, "optional has no value: it must be true or false"),
    "name with space": ({"name": "my rule"}, "name is 'my rule': it must be 1 to 64 visible ASCII"),
    "name too long": ({"name": "a" * 65}, "it must be 1 to 64 visible ASCII characters"),
    "name in addition to gate name": (
        {"effect": HoldAtGate("g"), "name": "n"},
        "a rule with HoldAtGate is named after its gate",
    ),
    "window ending before start": ({"during": (5, 5)}, "the start must be before the end"),
    "window as number": ({"during": 5}, r"during is 5: it must be a start and, optionally, an end"),
    "window with three values": ({"during": (1, 2, 3)}, r"during is \(1, 2, 3\): it must be a start"),
    "window as string": ({"during": "ab"}, "during is 'ab': it must be"),
    "window without a time zone": (
        {"during": (datetime(2030, 1, 1), None)},
        r"during: .* has no time zone: add one",
    ),
    "window with invalid time": (
        {"during": ("noon", None)},
        "during: 'noon' is not an ISO 8601 date and time, such as 2030-01-01T00:00:00Z",
    ),
    "window with negative start": ({"during": (-1, None)}, "during is -1: it must be from 0"),
    "window with infinite start": ({"during": (float("inf"), None)}, "during is inf: it must be from 0"),
}


@pytest.mark.parametrize(("options", "problem"), INVALID_RULES.values(), ids=INVALID_RULES)
def test_invalid_rule_is_rejected_naming_field_and_allowed_values(options: dict[str, Any], problem: str) -> None:
    arguments: dict[str, Any] = {} if options == {} else {"effect": Reset(), **options}
    with pytest.raises(FaultError, match=problem):
        Rule(**arguments)


@pytest.mark.parametrize("entry", [200, 399, 600, 503.0, True, "503", "no", "OK", None, ["ok"], Reset()])
def test_invalid_script_entry_is_rejected(entry: object) -> None:
    with pytest.raises(FaultError, match="it must be a status from 400 to 599, 'ok', 'reset', 'close' or 'hang'"):
        rule_from({"script": ["ok", entry]})


@pytest.mark.parametrize("script", ["ok", 503, {"ok": 1}])
def test_script_that_is_not_a_list_is_rejected(script: Any) -> None:
    with pytest.raises(FaultError, match="script is .*: it must be a list"):
        Rule(script=script)


def test_script_length_is_limited() -> None:
    Rule(script=["ok"] * 10_000)
    with pytest.raises(FaultError, match="script has 10001 entries: at most 10000 are allowed"):
        Rule(script=["ok"] * 10_001)


def test_delay_over_one_minute_is_rejected() -> None:
    for make in (lambda: Latency(60_001), lambda: Drip(5, 60_001), lambda: Latency("uniform(1, 60001)")):
        with pytest.raises(FaultError, match="must be from 0|from 1"):
            make()


# ------------------------------------------------------------ JSON and TOML


@given(rules())
def test_rule_round_trips_through_json(rule: Rule) -> None:
    data = json.dumps(rule_to_json(rule), allow_nan=False)
    assert rule_from(json.loads(data)) == rule


@given(rules())
def test_rule_round_trips_through_toml(rule: Rule) -> None:
    data = "\n".join(f"{name} = {to_toml(value)}" for name, value in rule_to_json(rule).items())
    assert rule_from(tomllib.loads(data)) == rule


def test_explicit_default_values_are_accepted() -> None:
    defaults: dict[str, object] = {"phase": "", "per": "", "script": [], "name": "", "code": ""}
    assert rule_from({"effect": "status", "status": 503, **defaults}) == Rule(effect=Status(503))


def test_toml_datetimes_are_accepted_in_during() -> None:
    data = tomllib.loads("effect = 'reset'\nduring = [2030-01-01T12:00:00Z]")
    assert rule_from(data) == Rule(effect=Reset(), during=(NOON, None))


def test_rule_json_merges_effect_attributes_and_rule_fields() -> None:
    rule = Rule(effect=Reset(), operation="createTransaction", user="ada", phase="after", nth=1)
    assert rule_to_json(rule) == {
        "effect": "reset",
        "operation": "createTransaction",
        "user": "ada",
        "phase": "after",
        "nth": 1,
    }
    assert rule_to_json(Rule(effect=NotJson(502, "bom"))) == {"effect": "not_json", "body": "bom", "phase": "before"}


def test_effect_attributes_do_not_clash_with_rule_fields() -> None:
    """Both are written to the same JSON object; only a gate's name doubles as its rule's name."""
    from fake_credits.faults import EFFECTS

    rule_fields = {item.name for item in fields(Rule)}
    shared = {
        (name, item.name)
        for name, kind in EFFECTS.items()
        for item in fields(kind)  # type: ignore[arg-type] # each is a dataclass
        if item.name in rule_fields
    }
    assert shared == {("hold_at_gate", "name")}


def test_where_function_serializes_by_name_and_is_rejected_from_json() -> None:
    def from_ada(_: object) -> bool:
        return True

    data = rule_to_json(Rule(effect=Reset(), where=from_ada))
    assert data["where"].endswith("from_ada")
    with pytest.raises(FaultError, match="'where' is a function, so JSON and TOML can't express it"):
        rule_from(data)


INVALID_OBJECTS: Mapping[str, tuple[object, str]] = {
    "number": (5, "the rule is 5: it must be an effect, a Rule or a JSON object"),
    "empty object": ({}, "effect is missing: add one of latency, status, rate_limit, .*, or a script"),
    "misspelled effect": (
        {"efect": "reset"},
        r"unknown field 'efect': did you mean 'effect'\? \(a rule has: effect, op",
    ),
    "misspelled effect with script": (
        {"efect": "reset", "script": [503]},
        r"unknown field 'efect': did you mean 'effect'\?",
    ),
    "misspelled script": ({"scrpt": [503]}, r"unknown field 'scrpt': did you mean 'script'\?"),
    "attribute without its effect": ({"status": 503}, "effect is missing: add one of latency, status"),
    "empty header": ({"effect": "reset", "header": {}}, "header is empty: omit it to match any header"),
    "unknown effect": ({"effect": "explode"}, "effect is 'explode': it must be 'latency', 'status'"),
    "effect as list": ({"effect": ["reset"]}, r"effect is \['reset'\]: it must be"),
    "unknown attribute": (
        {"effect": "status", "status": 503, "retry_after": 5},
        r"unknown field 'retry_after': did you mean 'retry_after_s'\? \(a rule with status has: status, code, "
        r"retry_after_s, retry_after_form, operation, phase, ",
    ),
    "attribute of another effect": (
        {"effect": "reset", "status": 5},
        r"unknown field 'status' \(a rule with reset has: operation, phase",
    ),
    "attribute of a script": (
        {"script": ["ok"], "status": 503},
        "unknown field 'status'",
    ),
    "missing attribute": ({"effect": "late_write"}, "after_ms is missing: the effect 'late_write' requires it"),
    "invalid attribute": ({"effect": "drip", "chunks": 0}, "chunks is 0: it must be from 1 to 1000"),
    "effect and script": ({"effect": "reset", "script": ["ok"]}, "a rule has either an effect or a script, not both"),
    "header as string": ({"effect": "reset", "header": "a"}, "header is 'a': it must map"),
}


@pytest.mark.parametrize(("data", "problem"), INVALID_OBJECTS.values(), ids=INVALID_OBJECTS)
def test_malformed_object_is_rejected(data: object, problem: str) -> None:
    with pytest.raises(FaultError, match=problem):
        rule_from(data)


def test_options_extend_rule_effect_or_object() -> None:
    expected = Rule(effect=Reset(), user="ada", nth=2)
    assert rule_from(Rule(effect=Reset(), user="ada"), nth=2) == expected
    assert rule_from(Reset(), user="ada", nth=2) == expected
    assert rule_from({"effect": "reset", "user": "ada"}, user="ada", nth=2) == expected


def test_where_function_can_extend_json_object() -> None:
    def is_ada(item: IncomingCall) -> bool:
        return item.user == "ada"

    engine = engine_with_rules(rule_from({"effect": "reset"}, where=is_ada))
    assert [len(engine.match(call(user=user))) for user in ("ada", "bob")] == [1, 0]


@pytest.mark.parametrize("data", [Reset(), Rule(effect=Reset()), {"effect": "reset"}])
def test_unknown_option_is_rejected_listing_known_options(data: object) -> None:
    message = r"unknown field 'usr': did you mean 'user'\? \(a rule has: operation, phase, application, user, "
    with pytest.raises(FaultError, match=message):
        rule_from(data, usr="ada")


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
def test_script_with_unreachable_entries_is_rejected(counts: dict[str, Any], size: int) -> None:
    try:
        engine = engine_with_rules(Rule(effect=Close(), **counts))
    except FaultError:  # the conditions can never match the same call
        return
    playable = sum(len(engine.match(call())) for _ in range(100))
    if counts.keys() & {"nth", "first", "times"} and size > playable:
        with pytest.raises(FaultError, match=f"script has {size} entries, but with .*, at most {playable} can be used"):
            Rule(script=[503] * size, **counts)
    else:
        assert len(Rule(script=[503] * size, **counts).script) == size


def test_rules_have_value_equality() -> None:
    rule = Rule(effect=Reset(), script=(), header={"a": "1"}, user="ada")
    assert rule == Rule(effect=Reset(), user="ada", header={"a": "1"})
    assert len({rule, Rule(effect=Reset(), user="ada", header={"a": "1"}), Rule(effect=Close())}) == 2


def test_rule_copies_its_headers() -> None:
    headers = {"a": "1"}
    rule = Rule(effect=Reset(), header=headers)
    headers["a"] = "2"
    assert rule.header == {"a": "1"}


def test_rule_fields_typed_dict_matches_rule() -> None:
    """Type checkers check the keywords of ``faults.add`` against ``RuleFields``."""
    hints = get_type_hints(Rule)
    assert get_type_hints(RuleFields) == {name: hints[name] for name in hints if name in get_type_hints(RuleFields)}
    assert {spec.name for spec in fields(Rule)} - set(get_type_hints(RuleFields)) == {"effect", "operation"}
