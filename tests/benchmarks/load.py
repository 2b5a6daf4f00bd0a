"""Own the load on a server process and the account of its CPU; know nothing of what the server is.

CPU is the kernel's: utime and stime of the server's process over the requests that wrk saw answered.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.plan import ROOT, Plan, Skipped

_CONNECTIONS = 8
POST_LUA = 'wrk.method = "POST"\nwrk.body = \'{"delta":1,"reason":"grant"}\'\n'


@dataclass(frozen=True)
class Server:
    """Be a running server: its process id, where it is, and the credentials that it takes."""

    pid: int
    url: str
    key: str
    token: str


@dataclass(frozen=True)
class Shot:
    """Be what wrk sends: a path, headers, and a script in Lua where it is not a GET."""

    server: Server
    path: str
    headers: Mapping[str, str]
    script: str = ""


@contextmanager
def served(name: str, *words: str) -> Generator[Server, None, None]:
    """Run one of ``tests.benchmarks.servers`` for the length of a block."""
    command = [sys.executable, "-m", "tests.benchmarks.servers", name, *words]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server {name!r} did not start")
        yield Server(process.pid, **json.loads(line))
    finally:
        end(process)


def end(process: "subprocess.Popen[str]") -> None:
    """End a process of ours, and leave nothing of it."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def need_proc() -> None:
    """Skip where the kernel keeps no account that we can read."""
    if not Path("/proc/self/stat").exists():
        raise Skipped("there is no /proc here")


def need_wrk() -> None:
    """Skip where the load generator or the account is missing."""
    need_proc()
    if shutil.which("wrk") is None:
        raise Skipped("wrk is not installed")


def best_cpu_us(shots: Sequence[Shot], plan: Plan) -> list[float]:
    """Return the server's CPU per request in microseconds for each shot: the best of several interleaved rounds."""
    for shot in shots:
        fire(shot, 1)  # warms caches and connections, and is not counted
    best = [float("inf")] * len(shots)
    for _ in range(plan.rounds):
        for place, shot in enumerate(shots):
            before = cpu_s(shot.server.pid)
            requests = fire(shot, plan.wrk_s)
            best[place] = min(best[place], (cpu_s(shot.server.pid) - before) / requests * 1e6)
    return best


def fire(shot: Shot, seconds: int) -> int:
    """Load a server and return how many requests it answered; raise RuntimeError where any answer was not 2xx."""
    command = ["wrk", "-t1", f"-c{_CONNECTIONS}", f"-d{seconds}s"]
    for name, value in shot.headers.items():
        command += ["-H", f"{name}: {value}"]
    with tempfile.TemporaryDirectory() as folder:
        if shot.script:
            script = Path(folder) / "shot.lua"
            script.write_text(shot.script)
            command += ["-s", str(script)]
        done = subprocess.run([*command, shot.server.url + shot.path], capture_output=True, text=True, check=True)
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise RuntimeError(f"{shot.path} was not answered as it should be:\n{done.stdout}")
    found = re.search(r"(\d+) requests in", done.stdout)
    if found is None or found[1] == "0":
        raise RuntimeError(f"wrk counted no request:\n{done.stdout}")
    return int(found[1])


def cpu_s(pid: int) -> float:
    """Return the seconds of CPU that a process has had, in user and in kernel mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_bytes(pid: int | str = "self") -> int:
    """Return the resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
