"""A client's text in the log is one word that can neither fake a line nor move a terminal's cursor."""

import os
import threading

import pytest
from msgspec import structs

from fake_credits.cli.lines import ExchangeLog, LineWriter, plain_text
from fake_credits.journal import Entry, Journal


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
    assert plain_text(text) == shown


def test_a_full_pipe_drops_lines_and_counts_them() -> None:
    pipe, end = os.pipe()
    writer = LineWriter(end, limit=10)
    for _ in range(200):
        writer.put("x" * 1000)
    assert writer.dropped > 0
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
        log.write(Entry(ordinal=number, request_id="r", at_ms=0, method="GET", target="/", code="internal_error"))
    log.close()
    told = capfd.readouterr().err
    assert [told.count(f"LookupError: number {number}") for number in range(5)] == [1] * 5


@pytest.mark.parametrize(
    ("form", "line"),
    [("text", "201 - fault:zombie#1 0.0ms r lands late"), ("json", '{"late": {"ordinal": 1, ')],
)
def test_what_lands_late_has_a_line_and_is_counted_once(
    form: str, line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    log = ExchangeLog(form, 0)
    journal = Journal(threading.RLock())
    log.listen(journal)
    entry = Entry(ordinal=1, request_id="r", at_ms=0, method="POST", target="/", status=201, rule="zombie#1")
    journal.write(entry)
    journal.amend(structs.replace(entry, committed=True))
    log.close()
    lines = capfd.readouterr().err.splitlines()
    assert line in lines[1]
    assert "1 exchanges" in lines[2] or '"exchanges": 1' in lines[2]
