"""Progress: a bar with rate and time left on a terminal, plain lines elsewhere, objects for programs, or nothing."""

import io
import json

import pytest

from fake_credits.cli.progress import FORMS, Form, Progress, State


class Clock:
    """Be a clock that goes as far with each look as it is told."""

    def __init__(self, step_s: float) -> None:
        self.now_s = -step_s
        self._step_s = step_s

    def __call__(self) -> float:
        self.now_s += self._step_s
        return self.now_s


def shown(form: Form, *, step_s: float = 1.0, total: int = 10, steps: int = 4) -> str:
    """Return what is written of so many steps, each of which takes so long."""
    stream = io.StringIO()
    with Progress(form, stream, State("writing", "transactions", total), clock_s=Clock(step_s)) as progress:
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
    for form in FORMS:
        text = shown(form, step_s=0, total=0, steps=0)
        assert form in ("none", "json") or "0/0 transactions (100 %), 0/s" in text


def test_an_hour_is_shown_in_minutes() -> None:
    assert State("writing", "users", 10_000, 1, 1.0).left_s == 9999
    assert "166:39 left" in FORMS["lines"].text(State("writing", "users", 10_000, 1, 1.0))


def test_a_reader_who_has_gone_stops_nothing() -> None:
    stream = io.StringIO()
    with Progress("lines", stream, State("writing", "users", 2), clock_s=Clock(9)) as progress:
        stream.close()
        progress(1)
    assert "1 of 2 users" in repr(progress)
