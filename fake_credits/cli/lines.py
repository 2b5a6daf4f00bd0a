"""Own the lines on stderr, one an exchange, bugs, and the summary at exit; know nothing of how exchanges come about."""

import contextlib
import json
import os
import queue
import select
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Sequence
from typing import TextIO

import msgspec

from fake_credits.clock import from_ms
from fake_credits.errors import InternalError
from fake_credits.journal import Entry, Journal

__all__ = ["ExchangeLog", "LineWriter", "plain_text", "writer_to"]

_WAITING_LIMIT = 10_000
_LAST_LINES_S = 1.0


class LineWriter:
    """Write lines to a file descriptor from a thread of its own.

    So a reader who has stopped reading, or has gone, neither stops nor delays the server: lines over the limit are
    dropped and counted. It goes past `sys.stderr`, whose lock a thread that hangs would hold at exit.
    """

    def __init__(self, descriptor: int, limit: int = _WAITING_LIMIT) -> None:
        self._descriptor = descriptor
        self._lines: queue.Queue[str | None] = queue.Queue(limit)
        self._thread = threading.Thread(target=self._write_all, name="fake-credits-log", daemon=True)
        self.dropped = 0
        self._thread.start()

    def put(self, line: str) -> None:
        """Have a line written soon."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Wait until all lines are written, for two seconds at most."""
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=_LAST_LINES_S)
        self._thread.join(_LAST_LINES_S)

    def _write_all(self) -> None:
        try:
            while (line := self._lines.get()) is not None:
                self._write(line.encode(errors="backslashreplace") + b"\n")
        except OSError:  # nobody reads any more
            while self._lines.get() is not None:
                self.dropped += 1

    def _write(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:  # a parent may have made the pipe non-blocking; Node does
                select.select([], [self._descriptor], [])


def writer_to(stream: TextIO | None) -> LineWriter | None:
    """Return a writer to stdout or stderr, or None where that is closed."""
    try:
        descriptor = -1 if stream is None else stream.fileno()
        os.fstat(descriptor)
    except (OSError, ValueError):
        return None
    return LineWriter(descriptor)


class _Bugs:
    """Be a sandbox's bugs, each of which is told once."""

    def __init__(self, bugs: Sequence[BaseException]) -> None:
        self._bugs = bugs
        self._last: BaseException | None = None

    def new(self) -> list[BaseException]:
        """Return those that came since the last time."""
        new: list[BaseException] = []
        for bug in reversed(self._bugs):  # from the newest: the oldest are dropped, so a count would not do
            if bug is self._last:
                break
            new.insert(0, bug)
        self._last = new[-1] if new else self._last
        return new


class ExchangeLog:
    """Tell of each exchange in a line, as text or JSON, and of all in a summary.

    Where ``form`` is off it tells only of ``bugs``, the fake's internal errors as they come: each once, in full.
    """

    def __init__(self, form: str, seed: int, bugs: Sequence[BaseException] = ()) -> None:
        self._form = form
        self._seed = seed
        self._counts: Counter[tuple[str, int]] = Counter()
        self._first = _Bugs(bugs)
        self._writer = writer_to(sys.stderr)

    def write(self, entry: Entry) -> None:
        """Be a journal's listener."""
        self._write(entry, self._first)

    def write_late(self, entry: Entry) -> None:
        """Tell what an exchange did later than its client believed; it has been counted."""
        if self._writer is not None and self._form != "off":
            json_line = json.dumps({"late": msgspec.to_builtins(entry)}) if self._form == "json" else ""
            self._writer.put(json_line or f"{_text(entry)} {'lands' if entry.committed else 'ends'} late")

    def listen(self, journal: Journal) -> None:
        """Tell of the exchanges of the sandbox whose bugs are ``bugs``."""
        journal.listener, journal.late_listener = self.write, self.write_late

    def follow(self, journal: Journal, bugs: Sequence[BaseException]) -> None:
        """Listen to another sandbox's journal, and tell of its bugs as they come."""
        own = _Bugs(bugs)
        journal.listener, journal.late_listener = lambda entry: self._write(entry, own), self.write_late

    def _write(self, entry: Entry, bugs: "_Bugs") -> None:
        self._counts[entry.operation, entry.status] += 1
        if self._writer is None:
            return
        if self._form != "off":
            line = _text(entry) if self._form == "text" else json.dumps(msgspec.to_builtins(entry))
            self._writer.put(line)
        if entry.code == InternalError.code:
            self._tell_bugs(self._writer, bugs)

    def close(self) -> None:
        """Write the summary and end."""
        if self._writer is None:
            return
        self._tell_bugs(self._writer, self._first)  # also of one whose exchange did not end
        if self._form != "off":
            self._writer.put(self._summary_text() if self._form == "text" else json.dumps(self._summary()))
        self._writer.close()

    def _tell_bugs(self, writer: LineWriter, bugs: "_Bugs") -> None:
        for bug in bugs.new():
            trace = "".join(traceback.format_exception(bug))
            writer.put(json.dumps({"bug": trace}) if self._form == "json" else _bug_text(trace))

    def _summary(self) -> dict[str, object]:
        operations: dict[str, dict[str, int]] = {}
        for (operation, status), count in sorted(self._counts.items()):
            operations.setdefault(operation or "none", {})[str(status)] = count
        total, refused = self._counts.total(), sum(n for (_, status), n in self._counts.items() if status >= 400)
        numbers: dict[str, object] = {"exchanges": total, "refused": refused, "seed": self._seed}
        return {"summary": {**numbers, "dropped_lines": self._dropped, "operations": operations}}

    def _summary_text(self) -> str:
        refused = sum(count for (_, status), count in self._counts.items() if status >= 400)
        dropped = f"; {self._dropped} lines dropped: nobody read them" if self._dropped else ""
        rows = [
            f"  {operation or 'no operation'} {status}: {count}"
            for (operation, status), count in sorted(self._counts.items())
        ]
        head = f"fake-credits: {self._counts.total()} exchanges, {refused} refused (seed {self._seed}){dropped}"
        return "\n".join([head, *rows])

    @property
    def _dropped(self) -> int:
        return 0 if self._writer is None else self._writer.dropped


def plain_text(text: str) -> str:
    """Return a client's text as one word that can't move a terminal's cursor or fake a line."""
    return _printable(text).replace(" ", r"\x20") or "-"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode() for c in text)


def _bug_text(trace: str) -> str:
    """Return a traceback, which may quote a client, indented: so none of its lines is taken for one of the log."""
    rows = (f"  {_printable(row)}" for row in trace.rstrip("\n").split("\n"))
    return "\n".join(["fake-credits: a bug of fake-credits answered 500; please report it:", *rows])


def _text(entry: Entry) -> str:
    at = from_ms(entry.at_ms).strftime("%H:%M:%S.") + f"{entry.at_ms % 1000:03}"
    words = (entry.method, entry.target, entry.operation, entry.user, str(entry.status), entry.code, entry.causes)
    took = f"{entry.duration_us / 1000:.1f}ms"
    ending = "" if entry.delivered else " undelivered"
    return f"{at} {' '.join(plain_text(word) for word in words)} {took} {plain_text(entry.request_id)}{ending}"
