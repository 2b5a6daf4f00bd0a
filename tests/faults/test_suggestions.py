"""Unknown fault fields, values and arguments are rejected with a suggestion of what was probably meant."""

import copy
import pickle
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import pytest

from fake_credits import FakeCredits
from fake_credits.faults import (
    EFFECTS,
    Effect,
    FaultError,
    Latency,
    LateWrite,
    Lognormal,
    NotJson,
    RateLimit,
    Reset,
    Rule,
    Status,
    Unauthorized,
)
from fake_credits.faults.effects.base import suggest_name
from fake_credits.faults.scenarios import parse_rules, parse_scenario
from tests.faults.strategies import to_toml


@pytest.fixture
def fake() -> Iterator[FakeCredits]:
    with FakeCredits() as fake_credits:
        yield fake_credits


MEANINGS: Mapping[str, tuple[dict[str, Any], str]] = {
    "when": ({"effect": "reset", "when": "after"}, "unknown field 'when': did you mean 'phase'?"),
    "rate": ({"effect": "reset", "rate": 0.5}, "unknown field 'rate': did you mean 'probability'?"),
    "chance": ({"effect": "reset", "chance": 0.5}, "unknown field 'chance': did you mean 'probability'?"),
    "p": ({"effect": "reset", "p": 0.5}, "unknown field 'p': did you mean 'probability'?"),
    "count": ({"effect": "reset", "count": 1}, "unknown field 'count': did you mean 'nth' or 'times'?"),
    "n": ({"effect": "reset", "n": 1}, "unknown field 'n': did you mean 'nth' or 'times'?"),
    "skip": ({"script": [503], "skip": 1}, "unknown field 'skip': did you mean 'after'?"),
    "ms": (
        {"effect": "latency", "ms": 50},
        "unknown field 'ms': did you mean 'distribution', which can be a fixed number of milliseconds?",
    ),
    "delay": ({"effect": "late_write", "delay": 50}, "unknown field 'delay': did you mean 'after_ms'?"),
    "delay_ms": ({"effect": "drip", "delay_ms": 50}, "unknown field 'delay_ms': did you mean 'over_ms'?"),
    "status_code": ({"effect": "status", "status_code": 503}, "unknown field 'status_code': did you mean 'status'?"),
    "code": ({"effect": "not_json", "code": 502}, "unknown field 'code': did you mean 'status'?"),
    "window": ({"effect": "rate_limit", "limit": 1, "window": 1}, "did you mean 'window_s'?"),
    "misspelt": ({"effect": "reset", "opertion": "getUser"}, "unknown field 'opertion': did you mean 'operation'?"),
    "phase post": (
        {"effect": "reset", "phase": "post"},
        "it must be 'before' or 'after' for reset; did you mean 'after'?",
    ),
    "phase pre": (
        {"effect": "reset", "phase": "pre"},
        "it must be 'before' or 'after' for reset; did you mean 'before'?",
    ),
    "effect": ({"effect": "delay"}, "did you mean 'latency'?"),
    "effect timeout": ({"effect": "timeout"}, "did you mean 'hang'?"),
}


@pytest.mark.parametrize(("members", "problem"), MEANINGS.values(), ids=MEANINGS)
def test_object_with_unknown_word_is_rejected_with_a_suggestion(
    members: dict[str, Any], problem: str, fake: FakeCredits
) -> None:
    """This covers Python, JSON and TOML; the marker is tested with the plugin."""
    lines = "\n".join(f"{name} = {to_toml(value)}" for name, value in members.items())
    declarations: tuple[Callable[[], object], ...] = (
        lambda: fake.faults.add(members),
        lambda: FakeCredits(faults=[members]),
        lambda: parse_rules([members]),
        lambda: parse_scenario(tomllib.loads(f"[[rules]]\n{lines}")),
    )
    for declare in declarations:
        with pytest.raises(ValueError, match=re.escape(problem)):
            declare()


@pytest.mark.parametrize(("keyword", "meant"), [("when", "'phase'"), ("p", "'probability'"), ("n", "'nth' or 'times'")])
def test_unknown_keyword_of_a_rule_is_rejected_with_a_suggestion(fake: FakeCredits, keyword: str, meant: str) -> None:
    with pytest.raises(FaultError, match=rf"^unknown field '{keyword}': did you mean {meant}\?"):
        cast("Any", fake.faults).add(Reset(), **{keyword: 1})
    with pytest.raises(
        TypeError, match=rf"^Rule\(\) got an unexpected keyword argument '{keyword}': did you mean {meant}"
    ):
        cast("Any", Rule)(Reset(), **{keyword: 1})


ARGUMENTS: Mapping[str, tuple[Callable[..., object], dict[str, Any], str]] = {
    "Latency(ms=)": (
        Latency,
        {"ms": 50},
        "Latency() got an unexpected keyword argument 'ms': did you mean 'distribution', which can be a fixed number "
        "of milliseconds? (it takes: distribution)",
    ),
    "Latency(delay=)": (
        Latency,
        {"delay": 50},
        "did you mean 'distribution', which can be a fixed number of milliseconds?",
    ),
    "Status(status_code=)": (
        Status,
        {"status_code": 503},
        "Status() got an unexpected keyword argument 'status_code': did you mean 'status'? "
        "(it takes: status, code, retry_after_s, retry_after_form)",
    ),
    "Status(retry_after=)": (Status, {"status": 503, "retry_after": 5}, "did you mean 'retry_after_s'?"),
    "NotJson(code=)": (NotJson, {"code": 502}, "did you mean 'status'?"),
    "RateLimit(calls=)": (RateLimit, {"calls": 5, "window_s": 1}, "did you mean 'limit'?"),
    "Lognormal(median=)": (Lognormal, {"median": 5, "p99_ms": 9}, "did you mean 'median_ms'?"),
    "Reset(ms=)": (Reset, {"ms": 5}, "Reset() got an unexpected keyword argument 'ms' (it takes: no arguments)"),
    "Status()": (
        Status,
        {},
        "Status() is missing the argument 'status' (it takes: status, code, retry_after_s, retry_after_form)",
    ),
    "RateLimit(limit=)": (RateLimit, {"limit": 5}, "RateLimit() is missing the argument 'window_s'"),
}


@pytest.mark.parametrize(("create", "arguments", "message"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_wrong_argument_raises_type_error_naming_the_right_one(
    create: Callable[..., object], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError) as raised:
        create(**arguments)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    "value", [Status(503, retry_after_s=5), Unauthorized(clock_skew_s=5), Rule(LateWrite(5), nth=1)]
)
def test_faults_can_be_copied_and_pickled(value: Effect | Rule) -> None:
    assert copy.copy(value) == copy.deepcopy(value) == pickle.loads(pickle.dumps(value)) == value  # noqa: S301


def test_synonym_that_does_not_apply_is_not_suggested() -> None:
    assert suggest_name("ms", EFFECTS) == ""
    assert suggest_name("WHEN", ["where", "phase"]) == ": did you mean 'phase'?"
