"""Own the processes that the command line's tests start: each is awaited by its files, and ended by its id."""

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

COMMAND = (sys.executable, "-m", "fake_credits")
LIMIT_S = 20.0


def until(condition: Callable[[], object], what: str) -> None:
    """Wait until a condition holds, and fail where it never does."""
    pause = threading.Event()
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen within {LIMIT_S} s"
        pause.wait(0.01)


def clean_environment(**variables: str) -> dict[str, str]:
    """Return this process's environment without proxies and settings of ours, and with some variables."""
    inherited = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    own = {name: value for name, value in inherited.items() if not name.startswith(("FAKE_CREDITS_", "CREDITS_"))}
    return {**own, **variables}


def is_alive(process_id: int) -> bool:
    """Tell whether a process runs; one that has ended and waits for its parent does not."""
    try:
        os.kill(process_id, 0)
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@dataclass
class Started:
    """Be a process that a test started, with its output in files."""

    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def out(self) -> str:
        return (self.folder / "out").read_text()

    @property
    def err(self) -> str:
        return (self.folder / "err").read_text()

    @property
    def variables(self) -> dict[str, str]:
        """Return what the ready file says, as a shell would read it."""
        lines = (self.folder / "ready").read_text().splitlines()
        return dict(shlex.split(line)[0].split("=", 1) for line in lines)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(LIMIT_S)


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Started]]:
    """Return a function that starts ``fake-credits`` with arguments, and with variables."""
    yield from _starting(tmp_path_factory)


@pytest.fixture(scope="module")
def start_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Started]]:
    """Return the same function for a process that a module's tests share."""
    yield from _starting(tmp_path_factory)


def _starting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Started]]:
    processes: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str, **variables: str) -> Started:
        folder = tmp_path_factory.mktemp("started")
        serves = bool(arguments) and arguments[0] == "serve"
        ready = ["--ready-file", str(folder / "ready"), "--port", "0"] if serves else []
        with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
            process = subprocess.Popen(
                [*COMMAND, *arguments[:1], *ready, *arguments[1:]],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=clean_environment(**variables),
            )
        processes.append(process)
        started = Started(process, folder)
        if serves:
            # The banner comes after the ready file, and ends with this line.
            until(lambda: "fake-credits token" in started.out or process.poll() is not None, "an answering server")
        return started

    yield start
    for process in processes:
        process.kill()
        process.wait()
