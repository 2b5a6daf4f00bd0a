"""The samples in fixtures/ci: their shell lines work, and their parts agree with each other."""

import shlex
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
import yaml

from fake_credits.cli.flags import ServeFlags, list_flags
from fake_credits.cli.main import cli
from tests.cli.conftest import LIMIT_S, until

ROOT = Path(__file__).resolve().parent.parent.parent
SAMPLES = ROOT / "fixtures" / "ci"
README = (ROOT / "README.md").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((SAMPLES / "compose.yml").read_text())["services"]
JOBS: dict[str, Any] = yaml.safe_load((SAMPLES / "github-actions.yml").read_text())["jobs"]
PORT = ServeFlags().port
VARIABLES = {flag.variable for flag in list_flags(cli) if flag.command == "serve"}


def our_lines() -> list[list[str]]:
    """Return the arguments of each ``fake-credits`` that the samples run."""
    texts = [step["run"] for job in JOBS.values() for step in job["steps"] if "run" in step]
    texts += [shlex.join(COMPOSE["credits"]["healthcheck"]["test"]), COMPOSE["credits"]["command"][-1]]
    url: str = JOBS["service"]["env"]["CREDITS_BASE_URL"]
    parts = [shlex.split(part.replace("$CREDITS_BASE_URL", url)) for text in texts for part in text.split("&&")]
    return [
        words[words.index("fake-credits") + 1 :]
        for words in parts
        if "fake-credits" in words[1:] and "pip" not in words
    ]


def test_every_sample_stands_in_the_readme() -> None:
    files = ["Dockerfile", *(f"fixtures/ci/{path.name}" for path in SAMPLES.iterdir())]
    assert [file for file in files if f"<!-- file: {file} -->" not in README] == []


@pytest.mark.parametrize("words", our_lines(), ids=shlex.join)
def test_every_line_of_ours_has_flags_that_exist(words: list[str]) -> None:
    name, *arguments = words
    cli.commands[name].make_context(name, arguments)


def test_there_are_lines_of_run_wait_and_serve() -> None:
    assert {words[0] for words in our_lines()} == {"run", "wait", "serve"}


@pytest.mark.parametrize(
    ("server", "tests"),
    [
        (COMPOSE["credits"]["environment"], COMPOSE["tests"]["environment"]),
        (JOBS["service"]["services"]["credits"]["env"], JOBS["service"]["env"]),
    ],
    ids=["compose", "service container"],
)
def test_what_the_tests_are_told_is_what_the_server_was_told(server: dict[str, str], tests: dict[str, str]) -> None:
    assert set(server) <= VARIABLES
    assert tests["CREDITS_API_KEY"] == server["FAKE_CREDITS_API_KEY"]
    assert urlsplit(tests["CREDITS_BASE_URL"]).port == PORT


def test_the_names_and_ports_of_the_services_are_those_of_the_urls() -> None:
    url: str = COMPOSE["tests"]["environment"]["CREDITS_BASE_URL"]
    assert urlsplit(url).hostname in COMPOSE
    assert list(COMPOSE["tests"]["depends_on"]) == ["credits"]
    assert JOBS["service"]["services"]["credits"]["ports"] == [f"{PORT}:{PORT}"]


@pytest.mark.slow
def test_the_containers_line_serves_another_container(programs: dict[str, str], port: int, tmp_path: Path) -> None:
    """What can't be had without an engine is done here: pip has installed us, and the port is a free one."""
    service, key = COMPOSE["credits"], COMPOSE["tests"]["environment"]["CREDITS_API_KEY"]
    environment = {**programs, **service["environment"], "FAKE_CREDITS_PORT": str(port)}
    health = [word.replace(str(PORT), str(port)) for word in service["healthcheck"]["test"][1:]]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(service["command"], env=environment, stdout=log, stderr=log)
    try:

        def healthy() -> bool:
            return subprocess.run(health, env=environment, check=False, capture_output=True).returncode == 0

        until(lambda: healthy() or process.poll() is not None, "a healthy server")
        path = "/v1/applications/app-id/users/user-id/balance"
        with httpx2.Client(trust_env=False, headers={"Host": "credits:8402", "X-API-Key": key}) as client:
            assert client.get(f"http://127.0.0.1:{port}{path}").json() == {"balance": 100}
    finally:
        process.terminate()
        assert process.wait(LIMIT_S) == 0


def test_the_step_runs_its_command_with_the_api_beside_it(programs: dict[str, str], tmp_path: Path) -> None:
    (line,) = (step["run"] for step in JOBS["beside"]["steps"] if "fake-credits" in step.get("run", ""))
    for name, body in (("pipx", 'shift; exec "$@"'), ("npm", 'printf "%s %s" "$1" "$CREDITS_BASE_URL"; exit 3')):
        (tmp_path / "programs" / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / "programs" / name).chmod(0o755)
    done = subprocess.run(["/bin/sh", "-c", line], env=programs, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert done.stdout.startswith("test http://127.0.0.1:")
