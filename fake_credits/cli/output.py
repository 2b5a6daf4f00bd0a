"""The output of the commands: the exchange log, problems at exit, and progress."""

import contextlib
import json
import os
import queue
import select
import shutil
import threading
import traceback
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, Self, TextIO

import msgspec

from fake_credits.clock import from_ms, monotonic_s
from fake_credits.errors import InternalError
from fake_credits.journal import Journal, JournalEntry
from fake_credits.sandbox import Sandbox
from fake_credits.text import escape_control, pluralize

STDOUT, STDERR = 1, 2
"""File descriptors; `main` opens them on startup if they are closed."""

_MAX_QUEUED_LINES = 10_000
_FLUSH_TIMEOUT_S = 1.0


class LineWriter:
    """A writer that sends lines to a file descriptor from a separate thread.

    A reader that stops reading or exits neither stops nor delays the server: lines that don't fit in the queue are
    dropped and counted. The writer bypasses `sys.stderr`, because a blocked thread would hold that stream's lock and
    keep Python from exiting cleanly.
    """

    def __init__(self, descriptor: int, max_lines: int = _MAX_QUEUED_LINES) -> None:
        self._descriptor = descriptor
        self._lines: queue.Queue[str | None] = queue.Queue(max_lines)
        self._thread = threading.Thread(target=self._write_queued_lines, name="fake-credits-log", daemon=True)
        self.dropped_lines = 0
        self._thread.start()

    def put(self, line: str) -> None:
        """Queue a line for writing."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.dropped_lines += 1

    def close(self) -> None:
        """Wait at most two seconds for all lines to be written."""
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=_FLUSH_TIMEOUT_S)
        self._thread.join(_FLUSH_TIMEOUT_S)

    def _write_queued_lines(self) -> None:
        try:
            while (line := self._lines.get()) is not None:
                self._write(line.encode(errors="backslashreplace") + b"\n")
        except OSError:  # the reader has exited
            while self._lines.get() is not None:
                self.dropped_lines += 1

    def _write(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:  # a parent such as Node may have made the pipe non-blocking
                select.select([], [self._descriptor], [])


class _BugReporter:
    """A record of which internal errors of a sandbox have been reported, so that each is reported only once."""

    def __init__(self, bugs: Sequence[BaseException]) -> None:
        self._bugs = bugs
        self._last_reported: BaseException | None = None

    def take_unreported(self) -> list[BaseException]:
        unreported: list[BaseException] = []
        for bug in reversed(self._bugs):  # an index would not work, because the oldest bugs are dropped
            if bug is self._last_reported:
                break
            unreported.insert(0, bug)
        self._last_reported = unreported[-1] if unreported else self._last_reported
        return unreported


class ExchangeLog:
    """A log on stderr with one line per exchange, as text or JSON, and a summary at the end.

    Each internal error is logged once and in full, even with the format ``"off"``.
    """

    def __init__(self, log_format: str, seed: int) -> None:
        self._log_format = log_format
        self._seed = seed
        self._counts: Counter[tuple[str, int]] = Counter()
        self._reporters = weakref.WeakSet[_BugReporter]()
        self._writer = LineWriter(STDERR)

    def attach(self, journal: Journal, bugs: Sequence[BaseException]) -> None:
        """Start logging a sandbox's exchanges and internal errors."""
        reporter = _BugReporter(bugs)
        self._reporters.add(reporter)
        journal.on_write, journal.on_replace = lambda entry: self._write_entry(entry, reporter), self._write_amended

    def close(self) -> None:
        """Write the summary and close the writer."""
        for reporter in list(self._reporters):  # an exchange that never ended may have hit bugs too
            self._write_bugs(reporter)
        if self._log_format != "off":
            self._put(*self._summary())
        self._writer.close()

    def _write_entry(self, entry: JournalEntry, reporter: _BugReporter) -> None:
        self._counts[entry.operation, entry.status] += 1
        if self._log_format == "json":
            self._writer.put(json.dumps(msgspec.to_builtins(entry)))
        elif self._log_format == "text":
            self._writer.put(_format_entry(entry))
        if entry.code == InternalError.code:
            self._write_bugs(reporter)

    def _write_amended(self, entry: JournalEntry) -> None:
        """Log an exchange that took effect or ended after it was first logged, without counting it again."""
        if self._log_format != "off":
            text = f"{_format_entry(entry)} {'took effect' if entry.committed else 'ended'} late"
            self._put({"late": msgspec.to_builtins(entry)}, text)

    def _write_bugs(self, reporter: _BugReporter) -> None:
        for bug in reporter.take_unreported():
            trace = "".join(traceback.format_exception(bug))
            # Indent the traceback, because it may quote text from a client that looks like log lines.
            rows = ["  " + _escape_line(row) for row in trace.rstrip("\n").split("\n")]
            head = "fake-credits: internal error (500); please report it:"
            self._put({"bug": trace}, "\n".join([head, *rows]))

    def _summary(self) -> tuple[Mapping[str, object], str]:
        total, dropped = self._counts.total(), self._writer.dropped_lines
        failed = sum(count for (_, status), count in self._counts.items() if status >= 400)
        dropped_text = f"; {pluralize(dropped, 'log line')} dropped" if dropped else ""
        rows = [f"fake-credits: {pluralize(total, 'exchange')}, {failed} refused (seed {self._seed}){dropped_text}"]
        operations: dict[str, dict[str, int]] = {}
        for (operation, status), count in sorted(self._counts.items()):
            operations.setdefault(operation or "none", {})[str(status)] = count
            rows.append(f"  {operation or 'no operation'} {status}: {count}")
        numbers = {"exchanges": total, "refused": failed, "seed": self._seed, "dropped_lines": dropped}
        return {"summary": {**numbers, "operations": operations}}, "\n".join(rows)

    def _put(self, data: Mapping[str, object], text: str) -> None:
        self._writer.put(json.dumps(data) if self._log_format == "json" else text)


def escape_to_one_word(text: str) -> str:
    """Return a client's text as one word, escaped so that it can neither move the cursor nor imitate a log line."""
    return _escape_line(text).replace(" ", r"\x20") or "-"


def _escape_line(text: str) -> str:
    return escape_control(text.replace("\\", r"\\"))


def _format_entry(entry: JournalEntry) -> str:
    timestamp = from_ms(entry.at_ms).strftime("%H:%M:%S.") + f"{entry.at_ms % 1000:03}"
    columns = (entry.method, entry.target, entry.operation, entry.user, str(entry.status), entry.code, entry.causes)
    duration = f"{entry.duration_us / 1000:.1f}ms"
    suffix = "" if entry.delivered else " undelivered"
    text = " ".join(map(escape_to_one_word, columns))
    return f"{timestamp} {text} {duration} {escape_to_one_word(entry.request_id)}{suffix}"


def print_loading(world: str, log_format: str) -> None:
    """Print to stderr that a world is being loaded, which may take half a minute."""
    if log_format != "off" or os.isatty(STDERR):
        print_lines(
            STDERR, json.dumps({"loading": world}) if log_format == "json" else f"Loading the world {world!r} ..."
        )


def print_problems(sandboxes: Iterable[Sandbox], log_format: str) -> None:
    """Print a line to stderr for each problem found in the sandboxes, such as an unused rule, whatever the log format.

    Internal errors are omitted, because they are already in the log.
    """
    problems = [
        (sandbox.name, problem.text)
        for sandbox in sandboxes
        for problem in sandbox.find_problems()
        if problem.kind != "internal_errors"
    ]
    if log_format == "json":
        print_lines(STDERR, *(json.dumps({"problem": problem, "sandbox": name}) for name, problem in problems))
    else:
        print_lines(STDERR, *(f"Warning: sandbox {name}: {problem}" for name, problem in problems))


def print_lines(descriptor: int, *lines: str) -> None:
    """Write lines, waiting at most two seconds for a reader that has stopped reading."""
    writer = LineWriter(descriptor)
    for line in lines:
        writer.put(line)
    writer.close()


ProgressStyle = Literal["bar", "lines", "json"]

_INTERVALS_S: Mapping[ProgressStyle, float] = {"bar": 0.1, "lines": 5.0, "json": 1.0}
_BAR_WIDTH = 24


class Progress:
    """The progress of one step, written at intervals and at the end of the ``with`` block.

    Call the object with the number of units done since the previous call.
    """

    def __init__(
        self,
        style: ProgressStyle,
        stream: TextIO,
        label: str,
        unit: str,
        total: int,
        *,
        clock_s: Callable[[], float] = monotonic_s,
    ) -> None:
        self._style: ProgressStyle = style
        self._stream = stream
        self._label, self._unit, self._total = label, unit, total
        self._clock_s = clock_s
        self._done = 0
        self._started_s = clock_s()
        self._next_s = self._started_s + _INTERVALS_S[style]

    def __repr__(self) -> str:
        return f"<Progress: {self._done} of {self._total} {self._unit}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._write(self._clock_s(), end="\n")

    def __call__(self, count: int) -> None:
        """Add ``count`` to the number of units done."""
        self._done += count
        now_s = self._clock_s()
        if now_s >= self._next_s:
            self._next_s = now_s + _INTERVALS_S[self._style]
            self._write(now_s, end="" if self._style == "bar" else "\n")

    def _write(self, now_s: float, end: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # the reader has exited, but the work continues
            self._stream.write(self._render(now_s - self._started_s) + end)
            self._stream.flush()

    def _render(self, elapsed_s: float) -> str:
        done, total = self._done, self._total
        rate = done / elapsed_s if elapsed_s > 0 else 0.0
        remaining_s = (total - done) / rate if rate else None
        if self._style == "json":
            counts = {"doing": self._label, "unit": self._unit, "done": done, "total": total}
            left_s = None if remaining_s is None else round(remaining_s, 1)
            return json.dumps({"progress": {**counts, "rate_per_s": round(rate, 1), "left_s": left_s}})
        minutes, seconds = divmod(round(remaining_s or 0), 60)
        remaining = "" if remaining_s is None else f", {minutes}:{seconds:02} left"
        percent = 100 * done // total if total else 100
        text = f"{done:,}/{total:,} {self._unit} ({percent}%), {rate:,.0f}/s{remaining}"
        if self._style == "lines":
            return f"{self._label}: {text}"
        filled = "#" * (_BAR_WIDTH * done // max(total, 1))
        width = shutil.get_terminal_size().columns - 1
        return f"\r{f'{self._label} [{filled:-<{_BAR_WIDTH}}] {text}'[:width]}\x1b[K"
