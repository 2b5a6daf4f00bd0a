"""Own what `serve` and `run` tell beside the log: a long start, and what would have failed a test at the end."""

import json
import sys
from collections.abc import Iterable, Sequence

from fake_credits.cli.lines import writer_to
from fake_credits.sandbox import Sandbox
from fake_credits.sandbox.ending import problems_beside_bugs

__all__ = ["tell_loading", "tell_problems"]


def tell_loading(world: str, form: str) -> None:
    """Write on stderr that a world is loaded, which may take half a minute, for a person or where there is a log."""
    if form != "off" or (sys.stderr is not None and sys.stderr.isatty()):  # pyright: ignore[reportUnnecessaryComparison] - None where it is closed
        _tell([json.dumps({"loading": world}) if form == "json" else f"Loading the world {world} ..."])


def tell_problems(sandboxes: Iterable[Sandbox], form: str) -> None:
    """Write a line on stderr for each problem of the sandboxes, also where the log's ``form`` is off.

    Such as a scripted rule that stayed unused. Bugs are left out: the log tells them as they come.
    """
    found = [(each.name, problem) for each in sandboxes for problem in problems_beside_bugs(each)]
    if form == "json":
        _tell([json.dumps({"problem": problem, "sandbox": name}) for name, problem in found])
    else:
        _tell([f"Warning: sandbox {name}: {problem}" for name, problem in found])


def _tell(lines: Sequence[str]) -> None:
    """Write lines by a writer that waits for no reader."""
    writer = writer_to(sys.stderr) if lines else None
    if writer is not None:
        for line in lines:
            writer.put(line)
        writer.close()
