"""The Dockerfile: each of its steps works in a plain folder, and what it starts is healthy and answers."""

import subprocess
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.ci.dockerfile import Build, Instruction, Stage, instructions
from tests.cli.conftest import LIMIT_S, until

ROOT = Path(__file__).resolve().parent.parent.parent
STEPS = instructions((ROOT / "Dockerfile").read_text())


def healthy(stage: Stage, environment: Mapping[str, str]) -> bool:
    """Ask as the container engine would."""
    return subprocess.run(["/bin/sh", "-c", stage.health], env=environment, check=False).returncode == 0


def serve_and_ask(stage: Stage, environment: Mapping[str, str], folder: Path) -> None:
    """Start what the image starts, wait until it is healthy, ask it, and stop it as an engine would."""
    port = environment["FAKE_CREDITS_PORT"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(stage.entrypoint, env=environment, cwd=folder, stdout=log, stderr=log)
    try:
        until(lambda: healthy(stage, environment) or process.poll() is not None, "a healthy server")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_fake/livez") as answer:
            assert answer.status == 200
        process.terminate()
        assert process.wait(LIMIT_S) == 0, (folder / "log").read_text()
    finally:
        process.kill()
        process.wait()


def test_every_step_is_read() -> None:
    read = instructions("# x\nFROM a AS b\nCOPY --from=b /x --y z\nHEALTHCHECK --a=1 \\\n  --b=2 \\\n  CMD c --d\n")
    assert read == [
        Instruction("FROM", {}, "a AS b"),
        Instruction("COPY", {"from": "b"}, "/x --y z"),
        Instruction("HEALTHCHECK", {"a": "1", "b": "2"}, "CMD c --d"),
    ]


def test_its_stages_are_of_one_slim_python_and_it_does_not_run_as_root() -> None:
    assert {step.rest.partition(" AS ")[0] for step in STEPS if step.name == "FROM"} == {"python:3.13-slim"}
    (user,) = (step.rest for step in STEPS if step.name == "USER")
    assert int(user) > 0
    assert [step.name for step in STEPS][-1] == "ENTRYPOINT"


def test_the_port_that_it_exposes_is_the_one_that_serve_listens_at() -> None:
    from fake_credits.cli.flags import ServeFlags

    (exposed,) = (step.rest for step in STEPS if step.name == "EXPOSE")
    (health,) = (step.rest for step in STEPS if step.name == "HEALTHCHECK")
    assert int(exposed) == ServeFlags().port
    assert f"${{FAKE_CREDITS_PORT:-{exposed}}}" in health


def test_what_it_starts_gets_healthy_and_ends_when_told(programs: dict[str, str], port: int, tmp_path: Path) -> None:
    said = {step.name: step for step in STEPS}
    serve_and_ask(Stage(tmp_path, said=said), {**programs, "FAKE_CREDITS_PORT": str(port)}, tmp_path)


@pytest.mark.slow
def test_its_steps_build_the_wheel_and_install_it_where_nothing_is(port: int, tmp_path: Path) -> None:
    """Needs PyPI, as the image does: for what builds the wheel, and for its dependencies."""
    stage = Build(ROOT, tmp_path).run(STEPS)
    environment = {**stage.environment, "FAKE_CREDITS_PORT": str(port)}
    where = ["python", "-c", "import fake_credits; print(fake_credits.__file__)"]
    found = subprocess.run(where, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()).is_relative_to(stage.root)
    serve_and_ask(stage, environment, tmp_path)
