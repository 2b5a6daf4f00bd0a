"""Fault presets, rule declarations, default latencies and scenario files."""

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
from tests.faults.conftest import START_MS, call, effect_names, engine_with_rules
from tests.faults.strategies import rules, to_toml


def test_every_preset_exists() -> None:
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
def test_preset_has_description_and_compatible_rules(name: str) -> None:
    preset = FAULT_PRESETS[name]
    assert preset.description.endswith(".")
    engine = FaultEngine(0)
    engine.reset(preset.rules, START_MS)
    assert len(engine) == len(preset.rules) > 0


@pytest.mark.parametrize("name", FAULT_PRESETS)
def test_preset_rules_are_never_reported_as_unused(name: str) -> None:
    assert engine_with_rules(*FAULT_PRESETS[name].rules).unused_rules() == []


def test_presets_can_be_combined_and_repeated() -> None:
    engine_with_rules(*FAULT_PRESETS["flaky"].rules, *FAULT_PRESETS["brownout"].rules, *FAULT_PRESETS["flaky"].rules)


def test_no_preset_name_looks_like_a_file() -> None:
    assert not any(name.endswith(".toml") for name in FAULT_PRESETS)


def test_unknown_preset_is_rejected_listing_known_presets() -> None:
    for name in ("flakey", 5):
        with pytest.raises(
            FaultError, match=f"unknown preset {name!r}: use flaky, slow, .*version_ahead or a ..toml file"
        ):
            preset_rules(name)


@pytest.mark.parametrize(
    ("name", "rate"),
    [("flaky", 0.05), ("brownout", 0.3), ("outage", 1), ("bad_proxy", 0.1)],
)
def test_preset_fails_calls_at_its_documented_rate(name: str, rate: float) -> None:
    names = effect_names(engine_with_rules(*FAULT_PRESETS[name].rules), [call()] * 4000)
    failure_count = sum(name not in ("", "latency") for name in names)
    assert abs(failure_count - 4000 * rate) <= 4 * (4000 * rate * (1 - rate)) ** 0.5


def test_lost_responses_preset_affects_a_fifth_of_writes_after_commit() -> None:
    from fake_credits.contract import Operation

    engine = engine_with_rules(*FAULT_PRESETS["lost_responses"].rules)
    assert set(effect_names(engine, [call()] * 100)) == {""}
    firings = [firing for _ in range(4000) for firing in engine.match(call(operation=Operation.CREATE_TRANSACTION))]
    assert {firing.active_rule.rule.phase for firing in firings} == {"after"}
    assert abs(len(firings) - 800) <= 4 * 25.3


def test_version_ahead_preset_combines_all_schema_drifts() -> None:
    from fake_credits.contract import Operation

    engine = engine_with_rules(*FAULT_PRESETS["version_ahead"].rules)
    assert effect_names(engine, [call(operation=Operation.LIST_TRANSACTIONS)]) == [
        "schema_drift+schema_drift+schema_drift+schema_drift"
    ]


SCENARIOS = Path(__file__).resolve().parents[2] / "fixtures" / "scenarios"


# ------------------------------------------------------------ declarations


def test_parse_rules_accepts_every_kind_of_declaration(tmp_path: Path) -> None:
    path = tmp_path / "day.toml"
    path.write_text("[[rules]]\neffect = 'reset'\n")
    expected = (Rule(effect=Reset()),)
    condition = (Rule(effect=Reset(), optional=True),)
    for declaration in (
        Rule(effect=Reset()),
        Reset(),
        {"effect": "reset"},
    ):
        assert parse_rules(declaration) == expected
    for scenario in ({"rules": [{"effect": "reset"}]}, path, str(path)):
        assert parse_rules(scenario) == condition
        assert parse_rules([declaration]) == expected
    assert parse_rules("flaky") == FAULT_PRESETS["flaky"].rules
    assert parse_rules([]) == parse_rules(()) == ()
    assert parse_rules([Reset(), "outage", {"script": ["ok"]}]) == (
        *expected,
        *FAULT_PRESETS["outage"].rules,
        Rule(script=["ok"]),
    )


def test_preset_name_is_never_read_as_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A string ending in .toml names a file; any other string names a preset."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flaky").write_text("[[rules]]\neffect = 'reset'\n")
    (tmp_path / "other").write_text("")
    assert parse_rules("flaky") == FAULT_PRESETS["flaky"].rules
    assert parse_rules(Path("flaky")) == (Rule(effect=Reset(), optional=True),)
    with pytest.raises(FaultError, match="unknown preset 'other': use flaky, .* or a .*file"):
        parse_rules("other")


INVALID_DECLARATIONS: Mapping[str, tuple[object, str]] = {
    "number": (
        5,
        "the fault is 5: it must be an effect, a rule, a JSON object, the name of a preset, a scenario file or a list",
    ),
    "none": (None, "the fault has no value: it must be an effect"),
    "unknown preset": ("flakey", "unknown preset 'flakey': use flaky, slow, .*; did you mean 'flaky'"),
    "name of an effect": (
        "reset",
        r"unknown preset 'reset': .*; write the effect as Reset\(...\) or {'effect': 'reset'}$",
    ),
    "missing file": ("no.toml", "^faults: no.toml: the file can't be read: No such file"),
    "entry of a list": ([Reset(), 5], "^faults, entry 2: the fault is 5: it must be"),
    "list in a list": ([[Reset()]], r"faults, entry 1: the fault is \[Reset\(\)\]: it must be"),
    "object in a list": ([{"effect": "drip", "chunks": 0}], "faults, entry 1: chunks is 0: it must be from 1"),
    "empty object": ({}, "effect is missing: add one of"),
    "duplicate name": (
        [{"effect": "reset", "name": "a"}, {"effect": "close", "name": "a"}],
        "faults, entry 2: name is 'a', which is already taken by another rule",
    ),
    "probabilities over 1": (
        [{"effect": "reset", "probability": 0.6}, {"effect": "close", "probability": 0.6}],
        "faults, entry 2: probability is 0.6: together with the other random rules for .*, it adds up to 1.2",
    ),
    "too many rules": ([Reset()] * 1001, "faults, entry 1001: a sandbox can have at most 1000 rules"),
    "scenario with an effect": (
        {"effect": "reset", "rules": []},
        r"unknown key 'effect' \(known: changes, latency",
    ),
}


@pytest.mark.parametrize(("declaration", "problem"), INVALID_DECLARATIONS.values(), ids=INVALID_DECLARATIONS)
def test_invalid_declaration_is_rejected_naming_its_entry(declaration: object, problem: str) -> None:
    with pytest.raises(FaultError, match=problem):
        parse_rules(declaration)


# ------------------------------------------------------------ default latencies


def test_default_latency_applies_to_all_or_named_operations() -> None:
    assert latency_rules(None) == ()
    assert latency_rules(50) == (Rule(effect=Latency(Fixed(50)), name="latency"),)
    assert latency_rules("lognormal(20, 200)") == latency_rules(Lognormal(20, 200))
    assert latency_rules({"*": 5, "reads": "fixed(1)", "getUser": Lognormal(20, 200)}) == (
        Rule(effect=Latency(5), name="latency"),
        Rule(effect=Latency(1), operation="reads", name="latency"),
        Rule(effect=Latency("lognormal(20, 200)"), operation="getUser", name="latency"),
    )


INVALID_LATENCIES: Mapping[str, tuple[object, str]] = {
    "too long": (60_001, "latency is 60001: it must be from 0 to 60000"),
    "not a distribution": ("slow", r"latency is 'slow': it must be a number of milliseconds, 'fixed\(50\)'"),
    "too long for an operation": ({"getUser": 60_001}, "latency of getUser is 60001"),
    "misspelt operation": ({"getBalanc": 5}, "^latency: operation is 'getBalanc': .*did you mean 'getBalance'"),
    "unknown operation": ({"getuser": 5}, r"operation is 'getuser': it must be '\*', 'reads'"),
    "number as operation": ({5: 5}, "operation is 5: it must be"),
    "list": ([5], "latency is .*: it must be a number of milliseconds"),
}


@pytest.mark.parametrize(("declaration", "problem"), INVALID_LATENCIES.values(), ids=INVALID_LATENCIES)
def test_invalid_default_latency_is_rejected_naming_its_operation(declaration: object, problem: str) -> None:
    with pytest.raises(FaultError, match=problem):
        latency_rules(declaration)


# ------------------------------------------------------------ scenarios


def effects_at(rules_: tuple[Rule, ...], *seconds: float) -> list[str]:
    """Return the effects on a call at each of the given times, in seconds after the start."""
    return effect_names(engine_with_rules(*rules_), [call(now_ms=START_MS + round(s * 1000)) for s in seconds])


def test_change_holds_until_the_next_change() -> None:
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
    assert effects_at(scenario, 0, 59.999, 60, 120.499, 120.5, 179.999, 180, 10**6) == [
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


def test_last_change_holds_forever() -> None:
    scenario = parse_scenario({"changes": [{"at_s": 0, "rules": [{"effect": "reset"}]}]})
    assert effects_at(scenario, 0, 10**6) == ["reset", "reset"]
    assert scenario[0].during == (0, None)


def test_calls_are_counted_from_start_of_change() -> None:
    scenario = parse_scenario({"changes": [{"at_s": 60, "rules": [{"effect": "reset", "first": 1}]}]})
    assert effects_at(scenario, 0, 1, 60, 61) == ["", "", "reset", ""]


def test_each_change_has_its_own_probability_budget() -> None:
    """Rules from different changes never match the same call."""
    change = {"rules": [{"effect": "reset", "probability": 0.9}]}
    assert len(parse_scenario({"changes": [{"at_s": at_s, **change} for at_s in range(10)]})) == 10


def test_scenario_combines_preset_and_rules() -> None:
    scenario = parse_scenario({"preset": "slow", "rules": [{"effect": "reset"}]})
    assert scenario == (*FAULT_PRESETS["slow"].rules, Rule(effect=Reset(), optional=True))


def test_empty_scenario_has_no_rules() -> None:
    assert parse_scenario({}) == parse_scenario({"version": 1, "rules": [], "changes": []}) == ()


INVALID_SCENARIOS: Mapping[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"rule": []}, r"unknown key 'rule': did you mean 'rules'\? \(known: changes, latency"),
    "later version": ({"version": 2}, "version is 2: it must be 1"),
    "true for version": ({"version": True}, "version is true: it must be 1"),
    "unknown preset": ({"preset": "x"}, "preset: unknown preset 'x': use flaky"),
    "rules as table": ({"rules": {}}, "rules is {}: it must be a list"),
    "rule as string": ({"rules": ["flaky"]}, "rules, entry 1 is 'flaky': it must be a table or an object"),
    "invalid rule": (
        {"rules": [{"effect": "reset"}, {"effect": "reset", "operation": "x"}]},
        "rules, entry 2: operation is 'x': it must be",
    ),
    "unknown effect": ({"rules": [{"effect": "x"}]}, "rules, entry 1: effect is 'x': it must be 'latency'"),
    "invalid latency": ({"latency": "x"}, "latency is 'x': it must be a number of milliseconds"),
    "changes as number": ({"changes": 5}, "changes is 5: it must be a list"),
    "change without at_s": ({"changes": [{}]}, "changes, entry 1: at_s is missing"),
    "at_s as string": (
        {"changes": [{"at_s": "60"}]},
        "changes, entry 1: at_s is '60': it must be a num",
    ),
    "negative at_s": ({"changes": [{"at_s": -1}]}, "changes, entry 1: at_s is -1: it must be from 0"),
    "changes out of order": (
        {"changes": [{"at_s": 60}, {"at_s": 60}]},
        r"changes, entry 2: at_s is 60: it must be greater than the previous change's at_s \(60\)",
    ),
    "latency in change": (
        {"changes": [{"at_s": 5, "latency": 5}]},
        r"changes, entry 1: unknown key 'latency' \(known: at_s, preset, rules",
    ),
    "invalid rule in change": (
        {"changes": [{"at_s": 1}, {"at_s": 5, "rules": [{"effect": "reset", "nth": 0}]}]},
        "changes, entry 2: rules, entry 1: nth is 0: it must be from 1",
    ),
    "unknown preset in change": ({"changes": [{"at_s": 5, "preset": "x"}]}, "changes, entry 1: preset: unknown preset"),
    "during in change": (
        {"changes": [{"at_s": 5, "rules": [{"effect": "reset", "during": [0, 5]}]}]},
        "changes, entry 1: rules, entry 1: during can't be used in a change",
    ),
    "probabilities over 1": (
        {"preset": "brownout", "changes": [{"at_s": 5, "rules": [{"effect": "reset", "probability": 0.8}]}]},
        "changes, entry 1: rules, entry 1: probability is 0.8: together with .*, it adds up to 1.1",
    ),
}


@pytest.mark.parametrize(("document", "problem"), INVALID_SCENARIOS.values(), ids=INVALID_SCENARIOS)
def test_invalid_scenario_is_rejected_naming_entry_and_field(document: dict[str, Any], problem: str) -> None:
    with pytest.raises(FaultError, match=problem):
        parse_scenario(document)


INVALID_FILES: Mapping[str, tuple[bytes, str]] = {
    "invalid TOML": (b"rules = [", "not valid TOML: "),
    "invalid UTF-8": (b"# \xff", "not valid TOML: 'utf-8' codec"),
    "too large": (b"#" * (1024 * 1024 + 1), "the file is larger than 1048576 bytes"),
    "unknown key": (b"x = 1", "unknown key 'x'"),
    "invalid entry": (b"[[rules]]\neffect = 'reset'\nnth = 0", "rules, entry 1: nth is 0: it must be from 1"),
    "huge integer": (b"version = " + b"1" * 5000, "not valid TOML: "),
    "deep nesting": (b"x = " + b"[" * 100_000, "not valid TOML"),
}


@pytest.mark.parametrize(("data", "problem"), INVALID_FILES.values(), ids=INVALID_FILES)
def test_invalid_file_is_rejected_naming_the_file(data: bytes, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "day.toml"
    path.write_bytes(data)
    with pytest.raises(FaultError, match=f"day.toml: {problem}"):
        load_scenario(path)


def test_directory_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(FaultError, match="can't be read: "):
        load_scenario(tmp_path)


@given(st.lists(rules(), max_size=4))
def test_scenario_round_trips_through_toml_and_json(tmp_path_factory: Any, drawn_rules: list[Rule]) -> None:
    """Each rule gets its own change, because random rules may be incompatible."""
    declaration: dict[str, Any] = {"changes": []}
    expected: list[tuple[object, ...]] = []
    for number, rule in enumerate(drawn_rules):
        if rule.name == "latency":
            continue
        members = rule_to_json(rule)
        members.pop("during", None)
        members.pop("name", None) if rule.name else None
        declaration["changes"].append({"at_s": number, "rules": [members]})
        expected.append((rule.effect, rule.script, rule.operation, rule.times, rule.probability))
    path = tmp_path_factory.getbasetemp() / "chance.toml"
    path.write_text(f"changes = {to_toml(declaration['changes'])}\n")
    loaded = load_scenario(path)
    assert [(rule.effect, rule.script, rule.operation, rule.times, rule.probability) for rule in loaded] == expected
    assert parse_rules(json.loads(json.dumps(declaration))) == loaded
    assert parse_rules([rule_to_json(rule) for rule in loaded]) == loaded


# ------------------------------------------------------------ samples


def test_sample_scenarios_exist() -> None:
    assert {path.name for path in SCENARIOS.iterdir()} == {"double-charge.toml", "launch-day.toml", "mobile.toml"}


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.toml")), ids=lambda path: path.stem)
def test_sample_scenario_round_trips_through_json(path: Path) -> None:
    loaded = parse_rules(path)
    assert loaded
    assert parse_rules([rule_to_json(rule) for rule in loaded]) == loaded
    assert engine_with_rules(*loaded)


def test_launch_day_sample_changes_from_slow_to_overload_to_outage() -> None:
    loaded = load_scenario(SCENARIOS / "launch-day.toml")
    assert effects_at(loaded, 0, 59.9) == ["latency", "latency"]
    assert effects_at(loaded, *[60 + number / 10 for number in range(600)]).count("latency+latency") < 500
    assert set(effects_at(loaded, *range(120, 180))) == {"503"}
    assert effects_at(loaded, 180, 10**6) == ["latency", "latency"]


def test_sample_outage_has_retry_after_date() -> None:
    (outage,) = [rule for rule in load_scenario(SCENARIOS / "launch-day.toml") if rule.during == (120, 180)]
    assert outage.effect == Status(503, retry_after_s=60, retry_after_form="date")
