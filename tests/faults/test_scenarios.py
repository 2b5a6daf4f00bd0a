"""Presets: every named bad day is there, explained, and can be declared at once."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_credits.faults import (
    FaultEngine,
    FaultError,
    Fixed,
    Latency,
    Lognormal,
    Reset,
    Rule,
    Status,
    rule_to_json,
)
from fake_credits.faults.scenarios import (
    FAULT_PRESETS,
    latency_rules,
    load_scenario,
    parse_rules,
    parse_scenario,
    preset_rules,
)
from tests.faults.conftest import START_MS, call, met, planned
from tests.faults.strategies import rules, toml


def test_every_preset_is_there() -> None:
    assert set(FAULT_PRESETS) == {
        "flaky",
        "slow",
        "brownout",
        "outage",
        "rate_limited",
        "lost_responses",
        "stale_replica",
        "bad_proxy",
        "version_ahead",
    }


@pytest.mark.parametrize("name", FAULT_PRESETS)
def test_a_preset_says_what_it_does_and_its_rules_stand_together(name: str) -> None:
    preset = FAULT_PRESETS[name]
    assert preset.description.endswith(".")
    plan = FaultEngine(0)
    plan.reset(preset.rules, START_MS, 0)
    assert len(plan) == len(preset.rules) > 0


@pytest.mark.parametrize("name", FAULT_PRESETS)
def test_a_preset_never_fails_a_test_by_staying_unused(name: str) -> None:
    assert planned(*FAULT_PRESETS[name].rules).unused_rules() == []


def test_presets_can_be_declared_together_and_twice() -> None:
    planned(*FAULT_PRESETS["flaky"].rules, *FAULT_PRESETS["brownout"].rules, *FAULT_PRESETS["flaky"].rules)


def test_no_preset_could_be_a_file() -> None:
    assert not any(name.endswith(".toml") for name in FAULT_PRESETS)


def test_an_unknown_preset_is_refused_with_those_there_are() -> None:
    for name in ("flakey", 5):
        with pytest.raises(
            FaultError, match=f"there is no preset {name!r}: choose flaky, slow, .*version_ahead, or a fi"
        ):
            preset_rules(name)


@pytest.mark.parametrize(
    ("name", "rate"),
    [("flaky", 0.05), ("brownout", 0.3), ("outage", 1), ("bad_proxy", 0.1)],
)
def test_a_preset_fails_as_many_calls_as_it_says(name: str, rate: float) -> None:
    words = met(planned(*FAULT_PRESETS[name].rules), [call()] * 4000)
    failed = sum(word not in ("", "latency") for word in words)
    assert abs(failed - 4000 * rate) <= 4 * (4000 * rate * (1 - rate)) ** 0.5


def test_lost_responses_lose_a_fifth_of_the_writes_after_they_took_effect() -> None:
    from fake_credits.contract import Operation

    plan = planned(*FAULT_PRESETS["lost_responses"].rules)
    assert set(met(plan, [call()] * 100)) == {""}
    shots = [shot for _ in range(4000) for shot in plan.match(call(operation=Operation.CREATE_TRANSACTION))]
    assert {shot.active_rule.rule.phase for shot in shots} == {"after"}
    assert abs(len(shots) - 800) <= 4 * 25.3


def test_a_version_ahead_differs_in_every_way_at_once() -> None:
    from fake_credits.contract import Operation

    plan = planned(*FAULT_PRESETS["version_ahead"].rules)
    assert met(plan, [call(operation=Operation.LIST_TRANSACTIONS)]) == [
        "schema_drift+schema_drift+schema_drift+schema_drift"
    ]


SCENARIOS = Path(__file__).resolve().parents[2] / "fixtures" / "scenarios"


# ------------------------------------------------------------ what a declaration may be


def test_a_declaration_is_a_rule_an_effect_an_object_a_preset_a_file_or_a_list(tmp_path: Path) -> None:
    file = tmp_path / "day.toml"
    file.write_text("[[rules]]\neffect = 'reset'\n")
    wanted = (Rule(effect=Reset()),)
    for told in (Rule(effect=Reset()), Reset(), {"effect": "reset"}, {"rules": [{"effect": "reset"}]}, file, str(file)):
        assert parse_rules(told) == wanted
        assert parse_rules([told]) == wanted
    assert parse_rules("flaky") == FAULT_PRESETS["flaky"].rules
    assert parse_rules([]) == parse_rules(()) == ()
    assert parse_rules([Reset(), "outage", {"script": ["ok"]}]) == (
        *wanted,
        *FAULT_PRESETS["outage"].rules,
        Rule(script=["ok"]),
    )


def test_a_preset_s_name_is_never_taken_for_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that ends in .toml is a file, and any other is a preset."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flaky").write_text("[[rules]]\neffect = 'reset'\n")
    (tmp_path / "other").write_text("")
    assert parse_rules("flaky") == FAULT_PRESETS["flaky"].rules
    assert parse_rules(Path("flaky")) == (Rule(effect=Reset()),)
    with pytest.raises(FaultError, match="there is no preset 'other': choose flaky, .*, or a file"):
        parse_rules("other")


REFUSED: Mapping[str, tuple[object, str]] = {
    "a number": (
        5,
        "5 is a int: give a rule, an effect, an object of JSON, a preset's name, a scenario file, or a list",
    ),
    "nothing": (None, "None is a NoneType: give a rule"),
    "a preset that is not there": ("flakey", "there is no preset 'flakey': choose flaky, slow"),
    "a file that is not there": ("no.toml", "^faults: no.toml: can't be read: No such file"),
    "an entry of a list": ([Reset(), 5], "^faults, entry 2: 5 is a int"),
    "a list in a list": ([[Reset()]], r"faults, entry 1: \[Reset\(\)\] is a list: give"),
    "an object in a list": ([{"effect": "drip", "chunks": 0}], "faults, entry 1: chunks is 0: it must be from 1"),
    "an empty object": ({}, "effect is missing: choose"),
    "two of a name": (
        [{"effect": "reset", "name": "a"}, {"effect": "close", "name": "a"}],
        "faults, entry 2: name is 'a', which another rule has",
    ),
    "two that leave no room": (
        [{"effect": "reset", "probability": 0.6}, {"effect": "close", "probability": 0.6}],
        "faults, entry 2: probability is 0.6: with the other random rules of .* makes 1.2",
    ),
    "too many": ([Reset()] * 1001, "faults, entry 1001: a sandbox has at most 1000 rules"),
    "a scenario with an effect": (
        {"effect": "reset", "rules": []},
        r"there is no 'effect' here \(there are: changes, latency",
    ),
}


@pytest.mark.parametrize(("told", "problem"), REFUSED.values(), ids=REFUSED)
def test_a_declaration_is_refused_naming_its_entry(told: object, problem: str) -> None:
    with pytest.raises(FaultError, match=problem):
        parse_rules(told)


# ------------------------------------------------------------ default latencies


def test_a_default_latency_is_for_all_operations_or_for_those_that_are_named() -> None:
    assert latency_rules(None) == ()
    assert latency_rules(50) == (Rule(effect=Latency(Fixed(50)), name="latency"),)
    assert latency_rules("lognormal(20, 200)") == latency_rules(Lognormal(20, 200))
    assert latency_rules({"*": 5, "reads": "fixed(1)", "getUser": Lognormal(20, 200)}) == (
        Rule(effect=Latency(5), name="latency"),
        Rule(effect=Latency(1), operation="reads", name="latency"),
        Rule(effect=Latency("lognormal(20, 200)"), operation="getUser", name="latency"),
    )


LATENCIES: Mapping[str, tuple[object, str]] = {
    "too long": (60_001, "latency is 60001: it must be from 0 to 60000"),
    "no distribution": ("slow", r"latency is 'slow', a str: give milliseconds, 'fixed\(50\)'"),
    "too long for one": ({"getUser": 60_001}, "latency of getUser is 60001"),
    "of an unknown operation": ({"getuser": 5}, r"operation is 'getuser': choose '\*', 'reads'"),
    "of a number": ({5: 5}, "operation is 5, a int: it must be a text"),
    "a list": ([5], "latency is .*, a list: give milliseconds"),
}


@pytest.mark.parametrize(("told", "problem"), LATENCIES.values(), ids=LATENCIES)
def test_a_default_latency_is_refused_naming_its_operation(told: object, problem: str) -> None:
    with pytest.raises(FaultError, match=problem):
        latency_rules(told)


# ------------------------------------------------------------ scenarios


def at(rules_: tuple[Rule, ...], *seconds: float) -> list[str]:
    """Return what a call meets so many seconds after the start."""
    return met(planned(*rules_), [call(now_ms=START_MS + round(s * 1000)) for s in seconds])


def test_rules_hold_always_and_a_change_until_the_next() -> None:
    scenario = parse_scenario(
        {
            "version": 1,
            "latency": 5,
            "rules": [{"effect": "latency", "distribution": 1}],
            "changes": [
                {"at_s": 60, "rules": [{"effect": "status", "status": 503}, {"effect": "reset"}]},
                {"at_s": 120.5, "preset": "outage"},
                {"at_s": 180},
            ],
        }
    )
    assert at(scenario, 0, 59.999, 60, 120.499, 120.5, 179.999, 180, 10**6) == [
        "latency+latency",
        "latency+latency",
        "latency+503",
        "latency+503",
        "latency+503",
        "latency+503",
        "latency+latency",
        "latency+latency",
    ]
    assert [rule.during for rule in scenario[1:4]] == [(60, 120.5), (60, 120.5), (120.5, 180)]


def test_the_last_change_holds_for_ever() -> None:
    scenario = parse_scenario({"changes": [{"at_s": 0, "rules": [{"effect": "reset"}]}]})
    assert at(scenario, 0, 10**6) == ["reset", "reset"]
    assert scenario[0].during == (0, None)


def test_counts_of_a_change_s_rules_begin_with_it() -> None:
    scenario = parse_scenario({"changes": [{"at_s": 60, "rules": [{"effect": "reset", "first": 1}]}]})
    assert at(scenario, 0, 1, 60, 61) == ["", "", "reset", ""]


def test_changes_may_each_have_random_rules_of_their_own() -> None:
    """They never meet in one call, so each has the whole draw."""
    change = {"rules": [{"effect": "reset", "probability": 0.9}]}
    assert len(parse_scenario({"changes": [{"at_s": at_s, **change} for at_s in range(10)]})) == 10


def test_a_scenario_may_be_a_preset_beside_rules() -> None:
    scenario = parse_scenario({"preset": "slow", "rules": [{"effect": "reset"}]})
    assert scenario == (*FAULT_PRESETS["slow"].rules, Rule(effect=Reset()))


def test_an_empty_scenario_has_no_rules() -> None:
    assert parse_scenario({}) == parse_scenario({"version": 1, "rules": [], "changes": []}) == ()


BAD: Mapping[str, tuple[dict[str, Any], str]] = {
    "an unknown key": ({"rule": []}, r"there is no 'rule' here: did you mean 'rules'\? \(there are: changes, latency"),
    "a later version": ({"version": 2}, "version is 2: it must be 1"),
    "true for a version": ({"version": True}, "version is True: it must be 1"),
    "an unknown preset": ({"preset": "x"}, "preset: there is no preset 'x': choose flaky"),
    "rules that are a table": ({"rules": {}}, "rules is {}, a dict: it must be a list of tables"),
    "a rule that is a text": ({"rules": ["flaky"]}, "rules, entry 1: 'flaky' is a str: it must be a table"),
    "a bad rule": (
        {"rules": [{"effect": "reset"}, {"effect": "reset", "operation": "x"}]},
        "rules, entry 2: operation is 'x': choose",
    ),
    "an unknown effect": ({"rules": [{"effect": "x"}]}, "rules, entry 1: effect is 'x': choose 'latency'"),
    "a bad latency": ({"latency": "x"}, "latency is 'x', a str: give milliseconds"),
    "changes that are none": ({"changes": 5}, "changes is 5, a int: it must be a list of tables"),
    "a change without its moment": ({"changes": [{}]}, "changes, entry 1: at_s is missing"),
    "a moment that is a text": (
        {"changes": [{"at_s": "60"}]},
        "changes, entry 1: at_s is '60', a str: it must be a num",
    ),
    "a moment before the start": ({"changes": [{"at_s": -1}]}, "changes, entry 1: at_s is -1: it must be from 0"),
    "changes out of order": (
        {"changes": [{"at_s": 60}, {"at_s": 60}]},
        "changes, entry 2: at_s is 60: it must be after the 60 of the change before",
    ),
    "a latency of a change": (
        {"changes": [{"at_s": 5, "latency": 5}]},
        r"changes, entry 1: there is no 'latency' here \(there are: at_s, preset, rules",
    ),
    "a bad rule of a change": (
        {"changes": [{"at_s": 1}, {"at_s": 5, "rules": [{"effect": "reset", "nth": 0}]}]},
        "changes, entry 2: rules, entry 1: nth is 0: it must be from 1",
    ),
    "a bad preset of a change": ({"changes": [{"at_s": 5, "preset": "x"}]}, "changes, entry 1: preset: there is no"),
    "a window of a change's rule": (
        {"changes": [{"at_s": 5, "rules": [{"effect": "reset", "during": [0, 5]}]}]},
        "changes, entry 1: rules, entry 1: during is .*, but a change says when its rules hold",
    ),
    "rules that leave no room": (
        {"preset": "brownout", "changes": [{"at_s": 5, "rules": [{"effect": "reset", "probability": 0.8}]}]},
        "changes, entry 1: rules, entry 1: probability is 0.8: with the other random rules of .* that makes 1.1",
    ),
}


@pytest.mark.parametrize(("document", "problem"), BAD.values(), ids=BAD)
def test_a_scenario_is_refused_naming_entry_and_field(document: dict[str, Any], problem: str) -> None:
    with pytest.raises(FaultError, match=problem):
        parse_scenario(document)


FILES: Mapping[str, tuple[bytes, str]] = {
    "no TOML": (b"rules = [", "is no TOML: "),
    "no UTF-8": (b"# \xff", "is no TOML: 'utf-8' codec"),
    "too large": (b"#" * (1024 * 1024 + 1), "is over 1048576 bytes"),
    "no scenario": (b"x = 1", "there is no 'x' here"),
    "a bad entry": (b"[[rules]]\neffect = 'reset'\nnth = 0", "rules, entry 1: nth is 0: it must be from 1"),
    "a number of thousands of digits": (b"version = " + b"1" * 5000, "is no TOML: "),
    "too deep": (b"x = " + b"[" * 100_000, "is no TOML"),
}


@pytest.mark.parametrize(("data", "problem"), FILES.values(), ids=FILES)
def test_a_file_is_refused_by_its_name(data: bytes, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "day.toml"
    path.write_bytes(data)
    with pytest.raises(FaultError, match=f"day.toml: {problem}"):
        load_scenario(path)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FaultError, match="can't be read: "):
        load_scenario(tmp_path)


@given(st.lists(rules(), max_size=4))
def test_every_scenario_goes_through_toml_and_json_and_back(tmp_path_factory: Any, made: list[Rule]) -> None:
    """Rules that can't stand together are none, so each is alone in its change."""
    told: dict[str, Any] = {"changes": []}
    wanted: list[tuple[object, ...]] = []
    for number, rule in enumerate(made):
        if rule.name == "latency":
            continue
        members = rule_to_json(rule)
        members.pop("during", None)
        members.pop("name", None) if rule.name else None
        told["changes"].append({"at_s": number, "rules": [members]})
        wanted.append((rule.effect, rule.script, rule.operation, rule.times, rule.probability))
    path = tmp_path_factory.getbasetemp() / "chance.toml"
    path.write_text(f"changes = {toml(told['changes'])}\n")
    read = load_scenario(path)
    assert [(each.effect, each.script, each.operation, each.times, each.probability) for each in read] == wanted
    assert parse_rules(json.loads(json.dumps(told))) == read
    assert parse_rules([rule_to_json(each) for each in read]) == read


# ------------------------------------------------------------ samples


def test_there_are_samples() -> None:
    assert {path.name for path in SCENARIOS.iterdir()} == {"double-charge.toml", "launch-day.toml", "mobile.toml"}


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.toml")), ids=lambda path: path.stem)
def test_a_sample_is_read_and_goes_through_json_and_back(path: Path) -> None:
    read = parse_rules(path)
    assert read
    assert parse_rules([rule_to_json(rule) for rule in read]) == read
    assert planned(*read)


def test_launch_day_is_slow_overloaded_down_and_well_again() -> None:
    read = load_scenario(SCENARIOS / "launch-day.toml")
    assert at(read, 0, 59.9) == ["latency", "latency"]
    assert at(read, *[60 + number / 10 for number in range(600)]).count("latency+latency") < 500
    assert set(at(read, *range(120, 180))) == {"503"}
    assert at(read, 180, 10**6) == ["latency", "latency"]


def test_a_status_in_a_sample_says_when_to_come_back() -> None:
    (outage,) = [rule for rule in load_scenario(SCENARIOS / "launch-day.toml") if rule.during == (120, 180)]
    assert outage.effect == Status(503, retry_after_s=60, retry_after_form="date")
