"""Command that compares fake-credits with its alternatives, the peers, on the same work in one run.

    python -m tests.benchmarks.peers [--quick] [--json] [--write]

It installs the peers into a temporary folder: Python packages with pip, the others with npm. If a peer cannot be
installed, its row says so. The command makes no assertions about times.
"""

# ruff: noqa: RUF001 - the table contains dashes

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tests.benchmarks.load import Server, WrkLoad, best_cpu_us, require_wrk, rss_bytes, run_wrk_until
from tests.benchmarks.peers.chart import Panel, draw_chart, format_value
from tests.benchmarks.peers.in_process import IN_PROCESS_PEERS, InProcessPeer, added_test_ms, call_us
from tests.benchmarks.peers.servers import (
    SERVER_PEERS,
    Call,
    Installation,
    NotInstalledError,
    ServerPeer,
    run_peer,
)
from tests.benchmarks.plan import FULL, QUICK, ROOT, Plan, describe_run

PAGE = ROOT / "docs" / "explanation" / "costs.md"
CHART = ROOT / "docs" / "images" / "peers.svg"
START, END = "<!-- peers -->", "<!-- end -->"
COMMAND = "python -m tests.benchmarks.peers"
SERVER_MEASURES = ("live GET, µs of CPU", "live POST, µs of CPU", "memory after 50,000 requests, MB", "start, ms")
IN_PROCESS_MEASURES = ("one call, µs", "what a test with one call adds, ms")


@dataclass
class Row:
    """The figures of one peer, in the order of the measures; a figure that was not measured is None."""

    name: str
    work: str
    version: str = ""
    figures: Sequence[float | None] = ()
    problem: str = ""


def main() -> int:
    """Measure all peers and print tables or JSON; with --write, also update the tables and the chart in docs/."""
    parser = argparse.ArgumentParser(prog=COMMAND)
    parser.add_argument("--quick", action="store_true", help="a smoke run, whose numbers mean little")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--write", action="store_true", help="write the table and the chart into docs/")
    arguments = parser.parse_args()
    require_wrk()
    plan = QUICK if arguments.quick else FULL
    with tempfile.TemporaryDirectory() as folder:
        servers = [_measure_server(peer, Path(folder), plan) for peer in SERVER_PEERS]
    in_process = [_measure_in_process(peer, plan) for peer in IN_PROCESS_PEERS]
    tables = [*_table(servers, SERVER_MEASURES), "", *_table(in_process, IN_PROCESS_MEASURES)]
    text = "\n".join([*tables, "", describe_run(COMMAND + " --quick" * arguments.quick, plan)])
    if arguments.write:
        panels = [*_panels(servers, SERVER_MEASURES), *_panels(in_process, IN_PROCESS_MEASURES)]
        CHART.write_text(draw_chart(panels), encoding="utf-8")
        page = PAGE.read_text(encoding="utf-8")
        start, end = page.index(START) + len(START), page.index(END, page.index(START))
        PAGE.write_text(f"{page[:start]}\n{text}\n{page[end:]}", encoding="utf-8")
    sys.stdout.write(_to_json(servers, in_process) if arguments.json else text + "\n")
    return 0


def _measure_server(peer: ServerPeer, root: Path, plan: Plan) -> Row:
    row = Row(peer.name, peer.work)
    try:
        installation = _install(peer, root)
        row.version = _version(peer, installation)
        with run_peer(peer, installation) as (process, url, start_ms):
            get, post = (_load(process.pid, url, call) for call in peer.calls(url, installation))
            get_us, post_us = best_cpu_us([get, post], plan)
            run_wrk_until(get, plan.gets // 2)
            row.figures = (get_us, post_us, rss_bytes(process.pid) / 2**20, start_ms)
    except (NotInstalledError, OSError, RuntimeError, subprocess.SubprocessError) as error:
        row.problem = f"{type(error).__name__}: {error}".splitlines()[0]
        sys.stderr.write(f"{peer.name}: {error}\n")
    return row


def _load(pid: int, url: str, call: Call) -> WrkLoad:
    script = f"wrk.method = 'POST'\nwrk.body = {json.dumps(call.body)}\n" if call.body else ""
    return WrkLoad(Server(pid, url, "", ""), call.path, call.headers, script)


def _install(peer: ServerPeer, root: Path) -> Installation:
    """Install a peer's package; raise NotInstalledError if that fails."""
    folder = root / re.sub(r"\W+", "-", peer.name)
    scratch = folder / "scratch"
    scratch.mkdir(parents=True)
    python = str(folder / "env" / "bin" / "python")
    commands = {
        "": [],
        "pip": [
            [sys.executable, "-m", "venv", str(folder / "env")],
            [python, "-m", "pip", "install", "--quiet", peer.package],
        ],
        "npm": [["npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(folder), peer.package]],
    }
    for command in commands[peer.manager]:
        try:
            subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=600)
        except (OSError, subprocess.SubprocessError) as error:
            raise NotInstalledError(f"{peer.package} could not be installed: {error}") from error
    return Installation(folder, python, scratch)


def _version(peer: ServerPeer, installation: Installation) -> str:
    """Return the version of a peer's package: the one just installed, or else the one in this environment."""
    package = re.sub(r"\[.*|(?<=.)@.*", "", peer.package)
    if peer.manager == "npm":
        manifest = installation.folder / "node_modules" / package / "package.json"
        return str(json.loads(manifest.read_text())["version"])
    if peer.manager == "pip":
        command = [installation.python, "-c", f"from importlib.metadata import version; print(version({package!r}))"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return _own_version(peer.name)


def _own_version(name: str) -> str:
    """Return the version of a package in this environment, or an empty string if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _measure_in_process(peer: InProcessPeer, plan: Plan) -> Row:
    return Row(
        peer.name,
        peer.client,
        _own_version(peer.name),
        (call_us(peer, plan), added_test_ms(peer, plan) if peer.test else None),
    )


def _table(rows: Sequence[Row], measures: Sequence[str]) -> list[str]:
    cells = [
        [f"{row.name} {row.version}".strip(), row.work, *([row.problem] if row.problem else map(_cell, row.figures))]
        for row in rows
    ]
    header = ["what", "the work, or the client", *measures]
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *cells)]


def _cell(figure: float | None) -> str:
    return "–" if figure is None else format_value(figure)


def _panels(rows: Sequence[Row], measures: Sequence[str]) -> list[Panel]:
    measured = [row for row in rows if row.figures]
    return [
        Panel(measure, [(row.name, figure) for row in measured if (figure := row.figures[index]) is not None])
        for index, measure in enumerate(measures)
    ]


def _to_json(servers: Sequence[Row], in_process: Sequence[Row]) -> str:
    tables = ((SERVER_MEASURES, servers), (IN_PROCESS_MEASURES, in_process))
    rows = [
        {**asdict(row), "figures": dict(zip(measures, row.figures, strict=False))}
        for measures, rows in tables
        for row in rows
    ]
    return json.dumps(rows, indent=2) + "\n"


if __name__ == "__main__":
    sys.exit(main())
