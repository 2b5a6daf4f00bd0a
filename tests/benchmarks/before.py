"""Benchmarks that compare the live server's CPU time per request with that of an earlier commit."""

# ruff: noqa: RUF001 - ratios have multiplication signs

import os
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from tests.benchmarks.load import cpu_s, require_proc, stop_process
from tests.benchmarks.plan import ROOT, BenchmarkSkipped, Measurement, Plan
from tests.benchmarks.raw import USER

COMMIT = "0b62936"
"""The last commit in which the live server passed each request through uvicorn's ASGI cycle."""

_KEY = "benchmark-key"
_SPEND = b'{"delta":-1,"reason":"consume"}'
_SERVE = ("serve", "--port", "0", "--api-key", _KEY, "--balance", "1000000000", "--log", "off")
_START_LIMIT_S = 30


class _RunningServer(NamedTuple):
    pid: int
    address: tuple[str, int]
    token: str


def get_with_key(plan: Plan) -> Measurement:
    """Measure GET balance with the API key."""
    return _compare(plan, f"GET {USER}/balance", "X-API-Key: {key}")


def get_with_token(plan: Plan) -> Measurement:
    """Measure GET balance with a user's RS256 token."""
    return _compare(plan, f"GET {USER}/balance", "Authorization: Bearer {token}")


def post(plan: Plan) -> Measurement:
    """Measure POST transaction with the API key."""
    headers = f"X-API-Key: {{key}}\r\nContent-Type: application/json\r\nContent-Length: {len(_SPEND)}"
    return _compare(plan, f"POST {USER}/transactions", headers, _SPEND)


def _compare(plan: Plan, request_line: str, headers: str, body: bytes = b"") -> Measurement:
    """Return the CPU time per request now and at the earlier commit, as medians of alternating rounds."""
    require_proc()
    requests, rounds = plan.gets // 10, plan.rounds * 2 - 1
    with ExitStack() as stack:
        root_before = stack.enter_context(_worktree())
        now = stack.enter_context(_serve(ROOT, "--auth-provider"))
        before = stack.enter_context(_serve(root_before, "--jwt"))
        pairs: list[tuple[float, float]] = []
        for _ in range(1 + rounds):  # the first round warms caches, and is not counted
            costs = [_cpu_us(server, requests, request_line, headers, body) for server in (now, before)]
            pairs.append((costs[0], costs[1]))
    now_us, before_us = (statistics.median(costs) for costs in zip(*pairs[1:], strict=True))
    ratio = statistics.median(ours / theirs for ours, theirs in pairs[1:])
    return Measurement(
        "{ratio:.2f}× ({now_us:.1f} : {before_us:.1f} µs, medians of {pairs} pairs)",
        ratio=ratio,
        now_us=now_us,
        before_us=before_us,
        pairs=rounds,
    )


def _cpu_us(server: _RunningServer, requests: int, request_line: str, headers: str, body: bytes) -> float:
    """Return the server's CPU time per request, for sequential requests on one connection."""
    filled = headers.format(key=_KEY, token=server.token)
    request = f"{request_line} HTTP/1.1\r\nHost: {server.address[0]}\r\nAccept: */*\r\n{filled}\r\n\r\n".encode() + body
    with socket.create_connection(server.address) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        started_s = cpu_s(server.pid)
        for _ in range(requests):
            connection.sendall(request)
            response = connection.recv(65536)
            if not response.startswith(b"HTTP/1.1 2"):
                raise RuntimeError(f"{request_line} was answered with {response!r:.200}")
        return (cpu_s(server.pid) - started_s) / requests * 1e6


@contextmanager
def _worktree() -> Generator[Path]:
    """Check out the commit for the duration of a block."""
    git = ("git", "-C", str(ROOT))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / COMMIT
        try:
            command = [*git, "worktree", "add", "--detach", str(root), COMMIT]
            subprocess.run(command, capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            raise BenchmarkSkipped(f"there is no git history with {COMMIT} here") from None
        try:
            yield root
        finally:
            subprocess.run([*git, "worktree", "remove", "--force", str(root)], capture_output=True, check=False)


@contextmanager
def _serve(root: Path, provider_flag: str) -> Generator[_RunningServer]:
    """Run `serve` from a source tree for the duration of a block."""
    with tempfile.TemporaryDirectory() as folder:
        ready_file = Path(folder) / "ready"
        command = [sys.executable, "-m", "fake_credits", *_SERVE, provider_flag, "auth0"]
        command += ["--ready-file", str(ready_file)]
        environment = {**os.environ, "PYTHONPATH": str(root)}
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(command, cwd=root, env=environment, stdout=quiet, stderr=quiet, text=True)
        try:
            variables = _wait_until_ready(ready_file, process)
            url = urlsplit(variables["CREDITS_BASE_URL"])
            yield _RunningServer(process.pid, (url.hostname or "", url.port or 0), variables["CREDITS_USER_TOKEN"])
        finally:
            stop_process(process)


def _wait_until_ready(ready_file: Path, process: "subprocess.Popen[str]") -> Mapping[str, str]:
    deadline_s = time.monotonic() + _START_LIMIT_S
    while time.monotonic() < deadline_s and process.poll() is None:
        if ready_file.exists() and (text := ready_file.read_text()):
            lines = (line.partition("=") for line in text.splitlines())
            return {name: "".join(shlex.split(value)) for name, _, value in lines}
        time.sleep(0.01)
    raise RuntimeError(f"a server was not ready within {_START_LIMIT_S} s, or ended before")
