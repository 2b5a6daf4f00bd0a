"""Test the samples in fixtures/ci: their shell commands work, and their settings are consistent."""

import shlex
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import httpx2
import pytest
import yaml

from fake_credits.cli.flags import ServeFlags
from fake_credits.cli.main import cli
from tests.cli.conftest import LIMIT_S, until
from tests.documentation import TEXT

ROOT = Path(__file__).resolve().parent.parent.parent
SAMPLES = ROOT / "fixtures" / "ci"
COMPOSE: dict[str, Any] = yaml.safe_load((SAMPLES / "compose.yml").read_text())["services"]
JOBS: dict[str, Any] = yaml.safe_load((SAMPLES / "github-actions.yml").read_text())["jobs"]
PORT = ServeFlags().port
VARIABLES = {option.envvar for option in cli.commands["serve"].params if isinstance(option, click.Option)}


def fake_credits_commands() -> list[list[str]]:
    """Return the arguments of each ``fake-credits`` command in the samples."""
    texts = [step["run"] for job in JOBS.values() for step in job["steps"] if "run" in step]
    texts += [shlex.join(COMPOSE["credits"]["healthcheck"]["test"]), COMPOSE["credits"]["command"][-1]]
    url: str = JOBS["service"]["env"]["CREDITS_BASE_URL"]
    commands = [shlex.split(part.replace("$CREDITS_BASE_URL", url)) for text in texts for part in text.split("&&")]
    return [
        arguments[arguments.index("fake-credits") + 1 :]
        for arguments in commands
        if "fake-credits" in arguments[1:] and "pip" not in arguments
    ]


def test_docs_contain_every_sample() -> None:
    files = ["Dockerfile", *(f"fixtures/ci/{path.name}" for path in SAMPLES.iterdir())]
    assert [file for file in files if f"<!-- file: {file} -->" not in TEXT] == []


@pytest.mark.parametrize("arguments", fake_credits_commands(), ids=shlex.join)
def test_sample_commands_use_existing_flags(arguments: list[str]) -> None:
    name, *command_arguments = arguments
    cli.commands[name].make_context(name, command_arguments)


def test_samples_use_run_wait_and_serve() -> None:
    assert {arguments[0] for arguments in fake_credits_commands()} == {"run", "wait", "serve"}


@pytest.mark.parametrize(
    ("server", "tests"),
    [
        (COMPOSE["credits"]["environment"], COMPOSE["tests"]["environment"]),
        (JOBS["service"]["services"]["credits"]["env"], JOBS["service"]["env"]),
    ],
    ids=["compose", "service container"],
)
def test_client_environment_matches_server_environment(server: dict[str, str], tests: dict[str, str]) -> None:
    assert set(server) <= VARIABLES
    assert tests["CREDITS_API_KEY"] == server["FAKE_CREDITS_API_KEY"]
    assert urlsplit(tests["CREDITS_BASE_URL"]).port == PORT


def test_urls_match_service_names_and_ports() -> None:
    url: str = COMPOSE["tests"]["environment"]["CREDITS_BASE_URL"]
    assert urlsplit(url).hostname in COMPOSE
    assert list(COMPOSE["tests"]["depends_on"]) == ["credits"]
    assert JOBS["service"]["services"]["credits"]["ports"] == [f"{PORT}:{PORT}"]


@pytest.mark.slow
def test_container_command_serves_other_container(
    programs_environment: dict[str, str], port: int, tmp_path: Path
) -> None:
    """Instead of a container engine, the test provides an installed package and a free port."""
    service, key = COMPOSE["credits"], COMPOSE["tests"]["environment"]["CREDITS_API_KEY"]
    environment = {**programs_environment, **service["environment"], "FAKE_CREDITS_PORT": str(port)}
    health = [word.replace(str(PORT), str(port)) for word in service["healthcheck"]["test"][1:]]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(service["command"], env=environment, stdout=log, stderr=log)
    try:

        def is_healthy() -> bool:
            return subprocess.run(health, env=environment, check=False, capture_output=True).returncode == 0

        until(lambda: is_healthy() or process.poll() is not None, "a healthy server")
        path = "/v1/applications/app-id/users/user-id/balance"
        with httpx2.Client(trust_env=False, verify=False, headers={"Host": "credits:8402", "X-API-Key": key}) as client:
            assert client.get(f"http://127.0.0.1:{port}{path}").json() == {"balance": 100}
    finally:
        process.terminate()
        assert process.wait(LIMIT_S) == 0


def test_run_step_passes_api_url_to_command(programs_environment: dict[str, str], tmp_path: Path) -> None:
    (line,) = (step["run"] for step in JOBS["run"]["steps"] if "fake-credits" in step.get("run", ""))
    for name, body in (("pipx", 'shift; exec "$@"'), ("npm", 'printf "%s %s" "$1" "$CREDITS_BASE_URL"; exit 3')):
        (tmp_path / "programs" / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / "programs" / name).chmod(0o755)
    result = subprocess.run(
        ["/bin/sh", "-c", line], env=programs_environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 3, result.stderr
    assert result.stdout.startswith("test http://127.0.0.1:")
