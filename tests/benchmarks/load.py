"""Load generation with wrk, and the CPU time and memory of a server process.

CPU time is the process's utime and stime, as reported by the kernel, divided by the requests that wrk counted.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.plan import ROOT, BenchmarkSkipped, Plan
from tests.benchmarks.raw import USER

_CONNECTIONS = 8
_START_LIMIT_S = 60
_PROBE = f"GET {USER}/balance HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
POST_LUA = 'wrk.method = "POST"\nwrk.body = \'{"delta":1,"reason":"grant"}\'\n'


@dataclass(frozen=True)
class Server:
    """A running server: its process id, URL and credentials."""

    pid: int
    url: str
    key: str
    token: str


@dataclass(frozen=True)
class WrkLoad:
    """The requests that wrk sends: path, headers, and a Lua script for methods other than GET."""

    server: Server
    path: str
    headers: Mapping[str, str]
    script: str = ""


@contextmanager
def run_server(name: str, *arguments: str) -> Generator[Server, None, None]:
    """Run one of ``tests.benchmarks.servers`` for the duration of a block."""
    command = [sys.executable, "-m", "tests.benchmarks.servers", name, *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server {name!r} did not start")
        yield Server(process.pid, **json.loads(line))
    finally:
        stop_process(process)


def stop_process(process: "subprocess.Popen[str]") -> None:
    """Terminate a process, kill it if necessary, and close its output."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def require_proc() -> None:
    """Skip the benchmark if there is no /proc."""
    if not Path("/proc/self/stat").exists():
        raise BenchmarkSkipped("there is no /proc here")


def require_wrk() -> None:
    """Skip the benchmark if wrk or /proc is missing."""
    require_proc()
    if shutil.which("wrk") is None:
        raise BenchmarkSkipped("wrk is not installed")


def best_cpu_us(loads: Sequence[WrkLoad], plan: Plan) -> list[float]:
    """Return the microseconds of CPU time per request for each load, the best of several interleaved rounds."""
    for load in loads:
        run_wrk(load, 1)  # warm up caches and connections; this run is not counted
    best = [float("inf")] * len(loads)
    for _ in range(plan.rounds):
        for index, load in enumerate(loads):
            before = cpu_s(load.server.pid)
            requests = run_wrk(load, plan.wrk_s)
            best[index] = min(best[index], (cpu_s(load.server.pid) - before) / requests * 1e6)
    return best


def run_wrk(load: WrkLoad, seconds: int) -> int:
    """Run wrk against a server and return the request count; raise RuntimeError for any response other than 2xx."""
    command = ["wrk", "-t1", f"-c{_CONNECTIONS}", f"-d{seconds}s"]
    for name, value in load.headers.items():
        command += ["-H", f"{name}: {value}"]
    with tempfile.TemporaryDirectory() as folder:
        if load.script:
            script = Path(folder) / "shot.lua"
            script.write_text(load.script)
            command += ["-s", str(script)]
        result = subprocess.run([*command, load.server.url + load.path], capture_output=True, text=True, check=True)
    if "Non-2xx" in result.stdout or "Socket errors" in result.stdout:
        raise RuntimeError(f"{load.path} was not answered as it should be:\n{result.stdout}")
    match = re.search(r"(\d+) requests in", result.stdout)
    if match is None or match[1] == "0":
        raise RuntimeError(f"wrk counted no request:\n{result.stdout}")
    return int(match[1])


def run_wrk_until(load: WrkLoad, requests: int) -> int:
    """Run wrk against a server until it has served at least ``requests`` requests, and return how many it served."""
    count = 0
    while count < requests:
        count += run_wrk(load, 1)
    return count


@contextmanager
def start_server(
    command: Sequence[str], port: int, folder: Path, environment: Mapping[str, str]
) -> "Generator[tuple[subprocess.Popen[str], float]]":
    """Run a server for the duration of a block; yield its process and the milliseconds until its first response.

    Raises RuntimeError if the server exits, or does not respond within a minute.
    """
    quiet = subprocess.DEVNULL
    started_s = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env=environment, stdin=quiet, stdout=quiet, stderr=quiet, text=True)
    try:
        while not _is_answering(port):
            if process.poll() is not None or time.perf_counter() - started_s > _START_LIMIT_S:
                raise RuntimeError(f"{command[0]} ended or did not answer: {process.poll()}")
            time.sleep(0.002)
        yield process, (time.perf_counter() - started_s) * 1000
    finally:
        stop_process(process)


def free_port() -> int:
    """Return a port that the kernel has just assigned."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _is_answering(port: int) -> bool:
    """Return whether a server answers a request with any status."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(_PROBE)
            return connection.recv(5) == b"HTTP/"
    except OSError:
        return False


def cpu_s(pid: int) -> float:
    """Return a process's user and system CPU time in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_bytes(pid: int | str = "self") -> int:
    """Return the resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
