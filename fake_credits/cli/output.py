"""What the commands print: the exchange log, problems at exit, and progress."""

import contextlib
import json
import os
import queue
import select
import shutil
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Self, TextIO

import msgspec

from fake_credits.clock import from_ms, monotonic_s
from fake_credits.errors import InternalError
from fake_credits.journal import Journal, JournalEntry
from fake_credits.sandbox import Sandbox
from fake_credits.sandboxes import find_problems_except_bugs
from fake_credits.text import escape_control

__all__ = [
    "STYLES",
    "ExchangeLog",
    "LineWriter",
    "Progress",
    "ProgressState",
    "StyleName",
    "escape_to_one_word",
    "open_line_writer",
    "print_loading",
    "print_problems",
]

_MAX_QUEUED_LINES = 10_000
_FLUSH_TIMEOUT_S = 1.0


class LineWriter:
    """Write lines to a file descriptor from a thread of its own.

    So a reader who has stopped reading, or has gone, neither stops nor delays the server: lines over the limit are
    dropped and counted. It goes past `sys.stderr`, whose lock a thread that hangs would hold at exit.
    """

    def __init__(self, descriptor: int, max_lines: int = _MAX_QUEUED_LINES) -> None:
        self._descriptor = descriptor
        self._lines: queue.Queue[str | None] = queue.Queue(max_lines)
        self._thread = threading.Thread(target=self._write_queued_lines, name="fake-credits-log", daemon=True)
        self.dropped_lines = 0
        self._thread.start()

    def put(self, line: str) -> None:
        """Have a line written soon."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.dropped_lines += 1

    def close(self) -> None:
        """Wait until all lines are written, for two seconds at most."""
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=_FLUSH_TIMEOUT_S)
        self._thread.join(_FLUSH_TIMEOUT_S)

    def _write_queued_lines(self) -> None:
        try:
            while (line := self._lines.get()) is not None:
                self._write(line.encode(errors="backslashreplace") + b"\n")
        except OSError:  # nobody reads any more
            while self._lines.get() is not None:
                self.dropped_lines += 1

    def _write(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:  # a parent may have made the pipe non-blocking; Node does
                select.select([], [self._descriptor], [])


def open_line_writer(stream: TextIO | None) -> LineWriter | None:
    """Return a writer to stdout or stderr, or None where that is closed."""
    try:
        descriptor = -1 if stream is None else stream.fileno()
        os.fstat(descriptor)
    except (OSError, ValueError):
        return None
    return LineWriter(descriptor)


class _BugReporter:
    """Be a sandbox's bugs, each of which is told once."""

    def __init__(self, bugs: Sequence[BaseException]) -> None:
        self._bugs = bugs
        self._last_reported: BaseException | None = None

    def take_unreported(self) -> list[BaseException]:
        """Return those that came since the last time."""
        unreported: list[BaseException] = []
        for bug in reversed(self._bugs):  # from the newest: the oldest are dropped, so a count would not do
            if bug is self._last_reported:
                break
            unreported.insert(0, bug)
        self._last_reported = unreported[-1] if unreported else self._last_reported
        return unreported


class ExchangeLog:
    """Tell of each exchange in a line, as text or JSON, and of all in a summary.

    Where ``form`` is off it tells only of ``bugs``, the fake's internal errors as they come: each once, in full.
    """

    def __init__(self, log_format: str, seed: int, bugs: Sequence[BaseException] = ()) -> None:
        self._log_format = log_format
        self._seed = seed
        self._counts: Counter[tuple[str, int]] = Counter()
        self._default_reporter = _BugReporter(bugs)
        self._writer = open_line_writer(sys.stderr)

    def write_entry(self, entry: JournalEntry) -> None:
        """Be a journal's listener."""
        self._count_and_write(entry, self._default_reporter)

    def write_amended(self, entry: JournalEntry) -> None:
        """Tell what an exchange did later than its client believed; it has been counted."""
        if self._writer is not None and self._log_format != "off":
            json_line = json.dumps({"late": msgspec.to_builtins(entry)}) if self._log_format == "json" else ""
            self._writer.put(json_line or f"{_format_entry(entry)} {'lands' if entry.committed else 'ends'} late")

    def attach_default(self, journal: Journal) -> None:
        """Tell of the exchanges of the sandbox whose bugs are ``bugs``."""
        journal.on_write, journal.on_replace = self.write_entry, self.write_amended

    def attach(self, journal: Journal, bugs: Sequence[BaseException]) -> None:
        """Listen to another sandbox's journal, and tell of its bugs as they come."""
        reporter = _BugReporter(bugs)
        journal.on_write, journal.on_replace = lambda entry: self._count_and_write(entry, reporter), self.write_amended

    def _count_and_write(self, entry: JournalEntry, reporter: "_BugReporter") -> None:
        self._counts[entry.operation, entry.status] += 1
        if self._writer is None:
            return
        if self._log_format != "off":
            line = _format_entry(entry) if self._log_format == "text" else json.dumps(msgspec.to_builtins(entry))
            self._writer.put(line)
        if entry.code == InternalError.code:
            self._write_bugs(self._writer, reporter)

    def close(self) -> None:
        """Write the summary and end."""
        if self._writer is None:
            return
        self._write_bugs(self._writer, self._default_reporter)  # also of one whose exchange did not end
        if self._log_format != "off":
            self._writer.put(self._summary_text() if self._log_format == "text" else json.dumps(self._summary_data()))
        self._writer.close()

    def _write_bugs(self, writer: LineWriter, reporter: "_BugReporter") -> None:
        for bug in reporter.take_unreported():
            trace = "".join(traceback.format_exception(bug))
            if self._log_format == "json":
                writer.put(json.dumps({"bug": trace}))
                continue
            # A traceback may quote a client; indented, none of its lines is taken for a line of the log.
            rows = ["  " + _escape_line(row) for row in trace.rstrip("\n").split("\n")]
            writer.put("\n".join(["fake-credits: a bug of fake-credits answered 500; please report it:", *rows]))

    def _summary_data(self) -> dict[str, object]:
        operations: dict[str, dict[str, int]] = {}
        for (operation, status), count in sorted(self._counts.items()):
            operations.setdefault(operation or "none", {})[str(status)] = count
        total, failed = self._counts.total(), sum(n for (_, status), n in self._counts.items() if status >= 400)
        numbers: dict[str, object] = {"exchanges": total, "refused": failed, "seed": self._seed}
        return {"summary": {**numbers, "dropped_lines": self._dropped_lines, "operations": operations}}

    def _summary_text(self) -> str:
        failed = sum(count for (_, status), count in self._counts.items() if status >= 400)
        dropped = f"; {self._dropped_lines} lines dropped: nobody read them" if self._dropped_lines else ""
        rows = [
            f"  {operation or 'no operation'} {status}: {count}"
            for (operation, status), count in sorted(self._counts.items())
        ]
        head = f"fake-credits: {self._counts.total()} exchanges, {failed} refused (seed {self._seed}){dropped}"
        return "\n".join([head, *rows])

    @property
    def _dropped_lines(self) -> int:
        return 0 if self._writer is None else self._writer.dropped_lines


def escape_to_one_word(text: str) -> str:
    """Return a client's text as one word that can't move a terminal's cursor or fake a line."""
    return _escape_line(text).replace(" ", r"\x20") or "-"


def _escape_line(text: str) -> str:
    return escape_control(text.replace("\\", r"\\"))


def _format_entry(entry: JournalEntry) -> str:
    timestamp = from_ms(entry.at_ms).strftime("%H:%M:%S.") + f"{entry.at_ms % 1000:03}"
    columns = (
        entry.method,
        entry.target,
        entry.operation,
        entry.user,
        str(entry.status),
        entry.code,
        entry.causes,
    )
    duration = f"{entry.duration_us / 1000:.1f}ms"
    suffix = "" if entry.delivered else " undelivered"
    text = " ".join(map(escape_to_one_word, columns))
    return f"{timestamp} {text} {duration} {escape_to_one_word(entry.request_id)}{suffix}"


def print_loading(world: str, log_format: str) -> None:
    """Write on stderr that a world is loaded, which may take half a minute, for a person or where there is a log."""
    if log_format != "off" or (sys.stderr is not None and sys.stderr.isatty()):  # pyright: ignore[reportUnnecessaryComparison] - None where it is closed
        _print_lines([json.dumps({"loading": world}) if log_format == "json" else f"Loading the world {world} ..."])


def print_problems(sandboxes: Iterable[Sandbox], log_format: str) -> None:
    """Write a line on stderr for each problem of the sandboxes, also where the log's ``form`` is off.

    Such as a scripted rule that stayed unused. Bugs are left out: the log tells them as they come.
    """
    problems = [(sandbox.name, problem) for sandbox in sandboxes for problem in find_problems_except_bugs(sandbox)]
    if log_format == "json":
        _print_lines([json.dumps({"problem": problem, "sandbox": name}) for name, problem in problems])
    else:
        _print_lines([f"Warning: sandbox {name}: {problem}" for name, problem in problems])


def _print_lines(lines: Sequence[str]) -> None:
    """Write lines by a writer that waits for no reader."""
    writer = open_line_writer(sys.stderr) if lines else None
    if writer is not None:
        for line in lines:
            writer.put(line)
        writer.close()


StyleName = Literal["bar", "lines", "json", "none"]

_BAR_WIDTH = 24


class ProgressState(NamedTuple):
    """Be how far something is: so many of so many units, after so many seconds."""

    label: str
    unit: str
    total: int
    done: int = 0
    elapsed_s: float = 0.0

    @property
    def rate_per_s(self) -> float:
        """Return units a second so far."""
        return self.done / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def remaining_s(self) -> float | None:
        """Return the seconds that are left at this rate, None where it can't be said."""
        return (self.total - self.done) / self.rate_per_s if self.rate_per_s else None


def _render_bar(state: ProgressState) -> str:
    filled = "#" * (_BAR_WIDTH * state.done // max(state.total, 1))
    width = shutil.get_terminal_size().columns - 1
    return f"\r{f'{state.label} [{filled:-<{_BAR_WIDTH}}] {_format_counts(state)}'[:width]}\x1b[K"


def _render_json(state: ProgressState) -> str:
    rate, remaining_s = round(state.rate_per_s, 1), None if state.remaining_s is None else round(state.remaining_s, 1)
    fields = {"doing": state.label, "unit": state.unit, "done": state.done, "total": state.total}
    return json.dumps({"progress": {**fields, "rate_per_s": rate, "left_s": remaining_s}}) + "\n"


def _format_counts(state: ProgressState) -> str:
    percent = 100 * state.done // state.total if state.total else 100
    minutes, seconds = divmod(round(state.remaining_s or 0), 60)
    remaining = "" if state.remaining_s is None else f", {minutes}:{seconds:02} left"
    return f"{state.done:,}/{state.total:,} {state.unit} ({percent} %), {state.rate_per_s:,.0f}/s{remaining}"


@dataclass(frozen=True, slots=True)
class _Style:
    interval_s: float
    render: Callable[[ProgressState], str]


STYLES: Mapping[StyleName, _Style] = {
    "bar": _Style(0.1, _render_bar),
    "lines": _Style(5.0, lambda state: f"{state.label}: {_format_counts(state)}\n"),
    "json": _Style(1.0, _render_json),
    "none": _Style(1e9, lambda _: ""),
}
"""How often each form is written, in seconds, and how it looks."""


class Progress:
    """Show how far one thing is: call it with so many more units; the end of its block shows the last state."""

    def __init__(
        self,
        style_name: StyleName,
        stream: TextIO,
        initial: ProgressState,
        *,
        clock_s: Callable[[], float] = monotonic_s,
    ) -> None:
        self._style_name: StyleName = style_name
        self._stream = stream
        self._state = initial
        self._clock_s = clock_s
        self._started_s = clock_s()
        self._next_s = self._started_s + STYLES[style_name].interval_s

    def __repr__(self) -> str:
        return f"<Progress: {self._state.done} of {self._state.total} {self._state.unit}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._render(self._clock_s())
        if self._style_name == "bar":
            self._write("\n")

    def __call__(self, count: int) -> None:
        """Count so many more units as done."""
        self._state = self._state._replace(done=self._state.done + count)
        now_s = self._clock_s()
        if now_s >= self._next_s:
            self._render(now_s)

    def _render(self, now_s: float) -> None:
        style = STYLES[self._style_name]
        self._next_s = now_s + style.interval_s
        self._write(style.render(self._state._replace(elapsed_s=now_s - self._started_s)))

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody reads it; the work goes on
            self._stream.write(text)
            self._stream.flush()
