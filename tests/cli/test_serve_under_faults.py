"""Test that a server under a storm of faults, with every warning an error, prints nothing but its banner."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fake_credits.faults.effects import HoldAtGate
from fake_credits.faults.serialization import rule_to_json
from tests.behaviour.test_no_noise import LIMITED, RULES, at_once, storms
from tests.cli.conftest import Started

_SLOW = "Executing <"
"""How an event loop in debug mode begins to tell of a step that took long, as all do on a busy machine."""


def scenario(path: Path) -> Path:
    """Write the rules of the storm as a file; a gate needs somebody who opens it."""
    rules = [rule_to_json(rule) for rule in (*RULES, LIMITED) if not isinstance(rule.effect, HoldAtGate)]
    tables = ("\n".join(f"{name} = {json.dumps(value)}" for name, value in rule.items()) for rule in rules)
    path.write_text("".join(f"[[rules]]\n{table}\n" for table in tables))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("count", [20, pytest.param(400, marks=pytest.mark.slow)])
def test_a_storm_of_faults_prints_nothing(start: Callable[..., Started], tmp_path: Path, count: int) -> None:
    started = start(
        "serve",
        "--scenario",
        str(scenario(tmp_path / "storm.toml")),
        "--balance",
        "1000000",
        "--log",
        "off",
        PYTHONDEVMODE="1",
        PYTHONWARNINGS="error",
    )
    variables, banner = started.variables, started.out
    base_url, key, token = (variables[f"CREDITS_{name}"] for name in ("BASE_URL", "API_KEY", "USER_TOKEN"))
    at_once(storms(base_url, key, token, count))
    assert started.process.poll() is None
    assert started.end() == 0
    assert started.out == banner
    assert [line for line in started.err.splitlines() if _SLOW not in line] == []
