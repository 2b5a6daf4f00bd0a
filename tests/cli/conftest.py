"""Fixtures that start ``fake-credits`` as a process and end it after the test."""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fake_credits.cli.signals import STOP_SIGNALS

COMMAND = (sys.executable, "-m", "fake_credits")
LIMIT_S = 20.0


@pytest.fixture(autouse=True)
def _signal_handlers() -> Iterator[None]:
    """Restore the test process's signal handlers; otherwise, children forked by later tests would survive SIGTERM."""
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def until(condition: Callable[[], object], description: str) -> None:
    """Wait until a condition holds; fail after ``LIMIT_S``."""
    pause = threading.Event()
    deadline_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline_s, f"{description} did not happen within {LIMIT_S} s"
        pause.wait(0.01)


def clean_environment(**variables: str) -> dict[str, str]:
    """Return this process's environment without its proxy and fake-credits variables, plus ``variables``."""
    inherited = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    cleaned = {name: value for name, value in inherited.items() if not name.startswith(("FAKE_CREDITS_", "CREDITS_"))}
    return {**cleaned, **variables}


def is_alive(process_id: int) -> bool:
    """Return whether a process is running; a zombie process is not."""
    try:
        os.kill(process_id, 0)
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@dataclass
class CliProcess:
    """A ``fake-credits`` process with its output in files."""

    popen: subprocess.Popen[bytes]
    directory: Path

    @property
    def out(self) -> str:
        return (self.directory / "out").read_text()

    @property
    def err(self) -> str:
        return (self.directory / "err").read_text()

    @property
    def variables(self) -> dict[str, str]:
        """Return the variables in the ready file, parsed as a shell would parse them."""
        lines = (self.directory / "ready").read_text().splitlines()
        return dict(shlex.split(line)[0].split("=", 1) for line in lines)

    def stop(self, signal_number: int = signal.SIGTERM) -> int:
        """Send a signal, and return the exit code."""
        self.popen.send_signal(signal_number)
        return self.popen.wait(LIMIT_S)


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., CliProcess]]:
    """Return a function that starts ``fake-credits`` with arguments and environment variables."""
    yield from _process_starter(tmp_path_factory)


@pytest.fixture(scope="module")
def start_for_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., CliProcess]]:
    """Return the same function as `start`, for a process shared by a module's tests."""
    yield from _process_starter(tmp_path_factory)


def _process_starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., CliProcess]]:
    processes: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str, **variables: str) -> CliProcess:
        directory = tmp_path_factory.mktemp("started")
        serves = bool(arguments) and arguments[0] == "serve"
        ready = ["--ready-file", str(directory / "ready"), "--port", "0"] if serves else []
        with (directory / "out").open("wb") as out, (directory / "err").open("wb") as err:
            process = subprocess.Popen(
                [*COMMAND, *arguments[:1], *ready, *arguments[1:]],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=clean_environment(**variables),
            )
        processes.append(process)
        cli_process = CliProcess(process, directory)
        if serves:
            # The banner is printed after the ready file is written, and ends with this line.
            until(lambda: "fake-credits token" in cli_process.out or process.poll() is not None, "an answering server")
        return cli_process

    yield start
    for process in processes:
        process.kill()
        process.wait()
