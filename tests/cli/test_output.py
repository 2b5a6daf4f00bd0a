"""Terminal output: escaping of client text, the exchange log, and progress."""

import io
import json
import os
import threading

import pytest
from msgspec import structs

from fake_credits.cli.output import (
    ExchangeLog,
    LineWriter,
    Progress,
    ProgressStyle,
    escape_to_one_word,
)
from fake_credits.journal import Journal, JournalEntry


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ada", "ada"),
        ("é✓", "é✓"),
        ("", "-"),
        ("a b", r"a\x20b"),
        ("a\r\nb", r"a\r\nb"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\x85\u2028", r"\x85\u2028"),
        ("\u202eada", r"\u202eada"),
        ("\ud800", r"\ud800"),
        ("\\n", r"\\n"),
    ],
)
def test_unprintable_characters_are_escaped(text: str, expected: str) -> None:
    assert escape_to_one_word(text) == expected


def test_full_pipe_drops_lines_and_counts_them() -> None:
    read_end, write_end = os.pipe()
    writer = LineWriter(write_end, max_lines=10)
    for _ in range(200):
        writer.put("x" * 1000)
    assert writer.dropped_lines > 0
    reader = threading.Thread(target=lambda: [None for _ in iter(lambda: os.read(read_end, 65536), b"")])
    reader.start()
    writer.close()
    os.close(write_end)
    reader.join()
    os.close(read_end)


def test_closed_pipe_does_not_block_the_writer() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    writer = LineWriter(write_end)
    writer.put("one")
    writer.put("two")
    writer.close()
    os.close(write_end)


def test_each_internal_error_is_logged_once(capfd: pytest.CaptureFixture[str]) -> None:
    bugs: list[BaseException] = []
    log = ExchangeLog("off", 0)
    journal = Journal(threading.RLock())
    log.attach(journal, bugs)
    for number in range(5):
        bugs.append(LookupError(f"number {number}"))
        del bugs[:-2]
        journal.write(
            JournalEntry(ordinal=number, request_id="r", at_ms=0, method="GET", target="/", code="internal_error")
        )
    log.close()
    stderr = capfd.readouterr().err
    assert [stderr.count(f"LookupError: number {number}") for number in range(5)] == [1] * 5


@pytest.mark.parametrize(
    ("log_format", "line"),
    [("text", "201 - fault:late_write#1 0.0ms r took effect late"), ("json", '{"late": {"ordinal": 1, ')],
)
def test_late_write_is_logged_and_counted_once(log_format: str, line: str, capfd: pytest.CaptureFixture[str]) -> None:
    log = ExchangeLog(log_format, 0)
    journal = Journal(threading.RLock())
    log.attach(journal, [])
    entry = JournalEntry(ordinal=1, request_id="r", at_ms=0, method="POST", target="/", status=201, rule="late_write#1")
    journal.write(entry)
    journal.replace(structs.replace(entry, committed=True))
    log.close()
    lines = capfd.readouterr().err.splitlines()
    assert line in lines[1]
    assert "1 exchange," in lines[2] or '"exchanges": 1' in lines[2]


class SteppingClock:
    """A clock that advances by a fixed step with each reading."""

    def __init__(self, step_s: float) -> None:
        self.now_s = -step_s
        self._step_s = step_s

    def __call__(self) -> float:
        self.now_s += self._step_s
        return self.now_s


def render_progress(style: ProgressStyle, *, step_s: float = 1.0, total: int = 10, steps: int = 4) -> str:
    """Return the progress output of ``steps`` steps of ``step_s`` seconds each."""
    stream = io.StringIO()
    with Progress(style, stream, "writing", "transactions", total, clock_s=SteppingClock(step_s)) as progress:
        for _ in range(steps):
            progress(1)
    return stream.getvalue()


def test_bar_shows_rate_and_remaining_time_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    text = render_progress("bar", steps=5)
    assert text.startswith("\rwriting [##----------------------] 1/10 transactions (10%), 1/s, 0:09 left\x1b[K")
    assert text.endswith("\rwriting [############------------] 5/10 transactions (50%), 1/s, 0:06 left\x1b[K\n")
    assert text.count("\n") == 1


def test_bar_fits_the_terminal_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    assert {len(line) for line in render_progress("bar").rstrip("\n").replace("\x1b[K", "").split("\r")} == {0, 19}


def test_lines_style_prints_every_five_seconds_and_at_the_end() -> None:
    assert render_progress("lines", step_s=2, steps=6).splitlines() == [
        "writing: 3/10 transactions (30%), 0/s, 0:14 left",
        "writing: 6/10 transactions (60%), 0/s, 0:08 left",
        "writing: 6/10 transactions (60%), 0/s, 0:09 left",
    ]


def test_json_style_prints_one_object_per_line() -> None:
    first, *_, last = map(json.loads, render_progress("json", step_s=0.5).splitlines())
    assert first == {
        "progress": {
            "doing": "writing",
            "unit": "transactions",
            "done": 2,
            "total": 10,
            "rate_per_s": 2.0,
            "left_s": 4.0,
        }
    }
    assert last["progress"]["done"] == 4


@pytest.mark.parametrize("style", ["bar", "lines"])
def test_no_style_divides_by_zero(style: ProgressStyle) -> None:
    assert "0/0 transactions (100%), 0/s" in render_progress(style, step_s=0, total=0, steps=0)


def test_remaining_hours_are_shown_in_minutes() -> None:
    assert "833:15 left" in render_progress("lines", total=10_000, step_s=5.0, steps=1)


def test_closed_stream_does_not_stop_progress() -> None:
    stream = io.StringIO()
    with Progress("lines", stream, "writing", "users", 2, clock_s=SteppingClock(9)) as progress:
        stream.close()
        progress(1)
    assert "1 of 2 users" in repr(progress)
