"""Test the Dockerfile: its steps work in plain folders, and its entrypoint starts a healthy server."""

import subprocess
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.ci.dockerfile import DockerfileBuild, Instruction, Stage, parse_dockerfile
from tests.cli.conftest import LIMIT_S, until

ROOT = Path(__file__).resolve().parent.parent.parent
STEPS = parse_dockerfile((ROOT / "Dockerfile").read_text())


def is_healthy(stage: Stage, environment: Mapping[str, str]) -> bool:
    """Return whether the health check passes when run as a container engine would run it."""
    return subprocess.run(["/bin/sh", "-c", stage.health], env=environment, check=False).returncode == 0


def check_server(stage: Stage, environment: Mapping[str, str], folder: Path) -> None:
    """Start the entrypoint, wait until it is healthy, send a request, and terminate it."""
    port = environment["FAKE_CREDITS_PORT"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(stage.entrypoint, env=environment, cwd=folder, stdout=log, stderr=log)
    try:
        until(lambda: is_healthy(stage, environment) or process.poll() is not None, "a healthy server")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_fake/livez") as response:
            assert response.status == 200
        process.terminate()
        assert process.wait(LIMIT_S) == 0, (folder / "log").read_text()
    finally:
        process.kill()
        process.wait()


def test_parser_reads_flags_and_continued_lines() -> None:
    parsed = parse_dockerfile(
        "# x\nFROM a AS b\nCOPY --from=b /x --y z\nHEALTHCHECK --a=1 \\\n  --b=2 \\\n  CMD c --d\n"
    )
    assert parsed == [
        Instruction("FROM", {}, "a AS b"),
        Instruction("COPY", {"from": "b"}, "/x --y z"),
        Instruction("HEALTHCHECK", {"a": "1", "b": "2"}, "CMD c --d"),
    ]


def test_stages_use_slim_python_and_non_root_user() -> None:
    assert {step.rest.partition(" AS ")[0] for step in STEPS if step.name == "FROM"} == {"python:3.13-slim"}
    (user,) = (step.rest for step in STEPS if step.name == "USER")
    assert int(user) > 0
    assert [step.name for step in STEPS][-1] == "ENTRYPOINT"


def test_exposed_port_is_default_port_of_serve() -> None:
    from fake_credits.cli.flags import ServeFlags

    (exposed,) = (step.rest for step in STEPS if step.name == "EXPOSE")
    (health,) = (step.rest for step in STEPS if step.name == "HEALTHCHECK")
    assert int(exposed) == ServeFlags().port
    assert f"${{FAKE_CREDITS_PORT:-{exposed}}}" in health


def test_entrypoint_becomes_healthy_and_terminates(
    programs_environment: dict[str, str], port: int, tmp_path: Path
) -> None:
    instructions = {step.name: step for step in STEPS}
    check_server(
        Stage(tmp_path, instructions=instructions), {**programs_environment, "FAKE_CREDITS_PORT": str(port)}, tmp_path
    )


@pytest.mark.slow
def test_steps_build_and_install_wheel(port: int, tmp_path: Path) -> None:
    """Like an image build, this needs PyPI for the build backend and the dependencies."""
    stage = DockerfileBuild(ROOT, tmp_path).run(STEPS)
    environment = {**stage.environment, "FAKE_CREDITS_PORT": str(port)}
    command = ["python", "-c", "import fake_credits; print(fake_credits.__file__)"]
    result = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert Path(result.stdout.strip()).is_relative_to(stage.root)
    check_server(stage, environment, tmp_path)
