"""A server under a storm of faults, with every warning as an error, prints nothing but its banner."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fake_credits.faults import HoldAtGate
from fake_credits.faults.declarations import rule_to_json
from tests.behaviour.test_no_noise import LIMITED, RULES, run_in_threads, storms
from tests.cli.conftest import CliProcess

SLOW_STEP_MESSAGE = "Executing <"
"""The start of the event loop's debug message about a slow step; a busy machine may cause one."""


def write_storm_scenario(path: Path) -> Path:
    """Write the storm's rules to a file, except for gates, which would never be released."""
    rules = [rule_to_json(rule) for rule in (*RULES, LIMITED) if not isinstance(rule.effect, HoldAtGate)]
    tables = ("\n".join(f"{name} = {json.dumps(value)}" for name, value in rule.items()) for rule in rules)
    path.write_text("".join(f"[[rules]]\n{table}\n" for table in tables))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("count", [20, pytest.param(400, marks=pytest.mark.slow)])
def test_server_prints_nothing_during_a_storm_of_faults(
    start: Callable[..., CliProcess], tmp_path: Path, count: int
) -> None:
    cli_process = start(
        "serve",
        "--scenario",
        str(write_storm_scenario(tmp_path / "storm.toml")),
        "--balance",
        "1000000",
        "--log",
        "off",
        PYTHONDEVMODE="1",
        PYTHONWARNINGS="error",
    )
    variables, banner = cli_process.variables, cli_process.out
    base_url, key, token = (variables[f"CREDITS_{name}"] for name in ("BASE_URL", "API_KEY", "USER_TOKEN"))
    run_in_threads(storms(base_url, key, token, count))
    assert cli_process.popen.poll() is None
    assert cli_process.stop() == 0
    assert cli_process.out == banner
    assert [line for line in cli_process.err.splitlines() if SLOW_STEP_MESSAGE not in line] == []
