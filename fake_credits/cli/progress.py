"""Own how progress is shown: a bar on a terminal, plain lines elsewhere, JSON for programs; know no work."""

import contextlib
import json
import shutil
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple, Self, TextIO

from fake_credits.clock import monotonic_s

__all__ = ["FORMS", "Form", "Progress", "State"]

Form = Literal["bar", "lines", "json", "none"]

_BAR = 24


class State(NamedTuple):
    """Be how far something is: so many of so many units, after so many seconds."""

    doing: str
    unit: str
    total: int
    done: int = 0
    elapsed_s: float = 0.0

    @property
    def rate(self) -> float:
        """Return units a second so far."""
        return self.done / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Return the seconds that are left at this rate, None where it can't be said."""
        return (self.total - self.done) / self.rate if self.rate else None


def _bar(state: State) -> str:
    filled = "#" * (_BAR * state.done // max(state.total, 1))
    width = shutil.get_terminal_size().columns - 1
    return f"\r{f'{state.doing} [{filled:-<{_BAR}}] {_numbers(state)}'[:width]}\x1b[K"


def _line(state: State) -> str:
    return f"{state.doing}: {_numbers(state)}\n"


def _json(state: State) -> str:
    rate, left_s = round(state.rate, 1), None if state.left_s is None else round(state.left_s, 1)
    words = {"doing": state.doing, "unit": state.unit, "done": state.done, "total": state.total}
    return json.dumps({"progress": {**words, "rate_per_s": rate, "left_s": left_s}}) + "\n"


def _nothing(_state: State) -> str:
    return ""


def _numbers(state: State) -> str:
    percent = 100 * state.done // state.total if state.total else 100
    minutes, seconds = divmod(round(state.left_s or 0), 60)
    left = "" if state.left_s is None else f", {minutes}:{seconds:02} left"
    return f"{state.done:,}/{state.total:,} {state.unit} ({percent} %), {state.rate:,.0f}/s{left}"


class _Look(NamedTuple):
    every_s: float
    text: Callable[[State], str]


FORMS: Mapping[Form, _Look] = MappingProxyType(
    {
        "bar": _Look(0.1, _bar),
        "lines": _Look(5.0, _line),
        "json": _Look(1.0, _json),
        "none": _Look(1e9, _nothing),
    }
)
"""How often each form is written, in seconds, and how it looks."""


class Progress:
    """Show how far one thing is: call it with so many more units; the end of its block shows the last state."""

    def __init__(self, form: Form, stream: TextIO, start: State, *, clock_s: Callable[[], float] = monotonic_s) -> None:
        self._form: Form = form
        self._stream = stream
        self._state = start
        self._clock_s = clock_s
        self._begun_s = clock_s()
        self._next_s = self._begun_s + FORMS[form].every_s

    def __repr__(self) -> str:
        return f"<Progress: {self._state.done} of {self._state.total} {self._state.unit}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._show(self._clock_s())
        if self._form == "bar":
            self._write("\n")

    def __call__(self, more: int) -> None:
        """Count so many more units as done."""
        self._state = self._state._replace(done=self._state.done + more)
        now_s = self._clock_s()
        if now_s >= self._next_s:
            self._show(now_s)

    def _show(self, now_s: float) -> None:
        look = FORMS[self._form]
        self._next_s = now_s + look.every_s
        self._write(look.text(self._state._replace(elapsed_s=now_s - self._begun_s)))

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody reads it; the work goes on
            self._stream.write(text)
            self._stream.flush()
