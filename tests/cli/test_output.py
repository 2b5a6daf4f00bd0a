"""A client's text in the log is one word that can neither fake a line nor move a terminal's cursor."""

import io
import json
import os
import threading

import pytest
from msgspec import structs

from fake_credits.cli.output import (
    STYLES,
    ExchangeLog,
    LineWriter,
    Progress,
    ProgressState,
    StyleName,
    escape_to_one_word,
)
from fake_credits.journal import Journal, JournalEntry


@pytest.mark.parametrize(
    ("text", "shown"),
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
def test_what_is_not_printable_is_escaped(text: str, shown: str) -> None:
    assert escape_to_one_word(text) == shown


def test_a_full_pipe_drops_lines_and_counts_them() -> None:
    pipe, end = os.pipe()
    writer = LineWriter(end, max_lines=10)
    for _ in range(200):
        writer.put("x" * 1000)
    assert writer.dropped_lines > 0
    reader = threading.Thread(target=lambda: [None for _ in iter(lambda: os.read(pipe, 65536), b"")])
    reader.start()
    writer.close()
    os.close(end)
    reader.join()
    os.close(pipe)


def test_a_pipe_that_nobody_reads_blocks_nobody() -> None:
    pipe, end = os.pipe()
    os.close(pipe)
    writer = LineWriter(end)
    writer.put("one")
    writer.put("two")
    writer.close()
    os.close(end)


def test_each_bug_is_told_once_though_the_oldest_are_dropped(capfd: pytest.CaptureFixture[str]) -> None:
    bugs: list[BaseException] = []
    log = ExchangeLog("off", 0, bugs)
    for number in range(5):
        bugs.append(LookupError(f"number {number}"))
        del bugs[:-2]
        log.write_entry(
            JournalEntry(ordinal=number, request_id="r", at_ms=0, method="GET", target="/", code="internal_error")
        )
    log.close()
    told = capfd.readouterr().err
    assert [told.count(f"LookupError: number {number}") for number in range(5)] == [1] * 5


@pytest.mark.parametrize(
    ("form", "line"),
    [("text", "201 - fault:late_write#1 0.0ms r lands late"), ("json", '{"late": {"ordinal": 1, ')],
)
def test_what_lands_late_has_a_line_and_is_counted_once(
    form: str, line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    log = ExchangeLog(form, 0)
    journal = Journal(threading.RLock())
    log.attach_default(journal)
    entry = JournalEntry(ordinal=1, request_id="r", at_ms=0, method="POST", target="/", status=201, rule="late_write#1")
    journal.write(entry)
    journal.replace(structs.replace(entry, committed=True))
    log.close()
    lines = capfd.readouterr().err.splitlines()
    assert line in lines[1]
    assert "1 exchanges" in lines[2] or '"exchanges": 1' in lines[2]


class Clock:
    """Be a clock that goes as far with each look as it is told."""

    def __init__(self, step_s: float) -> None:
        self.now_s = -step_s
        self._step_s = step_s

    def __call__(self) -> float:
        self.now_s += self._step_s
        return self.now_s


def shown(form: StyleName, *, step_s: float = 1.0, total: int = 10, steps: int = 4) -> str:
    """Return what is written of so many steps, each of which takes so long."""
    stream = io.StringIO()
    with Progress(form, stream, ProgressState("writing", "transactions", total), clock_s=Clock(step_s)) as progress:
        for _ in range(steps):
            progress(1)
    return stream.getvalue()


def test_a_terminal_gets_a_bar_in_one_line_with_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    text = shown("bar", steps=5)
    assert text.startswith("\rwriting [##----------------------] 1/10 transactions (10 %), 1/s, 0:09 left\x1b[K")
    assert text.endswith("\rwriting [############------------] 5/10 transactions (50 %), 1/s, 0:06 left\x1b[K\n")
    assert text.count("\n") == 1


def test_a_bar_is_no_wider_than_its_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    assert {len(line) for line in shown("bar").rstrip("\n").replace("\x1b[K", "").split("\r")} == {0, 19}


def test_elsewhere_a_line_comes_every_five_seconds_and_at_the_end() -> None:
    assert shown("lines", step_s=2, steps=6).splitlines() == [
        "writing: 3/10 transactions (30 %), 0/s, 0:14 left",
        "writing: 6/10 transactions (60 %), 0/s, 0:08 left",
        "writing: 6/10 transactions (60 %), 0/s, 0:09 left",
    ]


def test_a_program_gets_an_object_a_line() -> None:
    first, *_, last = map(json.loads, shown("json", step_s=0.5).splitlines())
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


def test_nothing_is_written_where_nothing_is_wanted() -> None:
    assert shown("none") == ""


def test_no_form_divides_by_nothing() -> None:
    for form in STYLES:
        text = shown(form, step_s=0, total=0, steps=0)
        assert form in ("none", "json") or "0/0 transactions (100 %), 0/s" in text


def test_an_hour_is_shown_in_minutes() -> None:
    assert ProgressState("writing", "users", 10_000, 1, 1.0).remaining_s == 9999
    assert "166:39 left" in STYLES["lines"].render(ProgressState("writing", "users", 10_000, 1, 1.0))


def test_a_reader_who_has_gone_stops_nothing() -> None:
    stream = io.StringIO()
    with Progress("lines", stream, ProgressState("writing", "users", 2), clock_s=Clock(9)) as progress:
        stream.close()
        progress(1)
    assert "1 of 2 users" in repr(progress)
