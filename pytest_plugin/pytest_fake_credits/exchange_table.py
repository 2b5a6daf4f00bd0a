"""The table of a test's exchanges in the report of its failure.

This module imports the fake, so import it only after a fixture has run. PYTEST_DONT_REWRITE
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

from msgspec import structs

from fake_credits.call_patterns import pluralize
from fake_credits.clock import from_ms
from fake_credits.contract.types import WRITE_OPERATIONS
from fake_credits.journal import JournalEntry
from fake_credits.text import align_columns, truncate

_MAX_REPORTED_ROWS = 20
_MAX_REPEATED_WRITES = 5
_COLUMNS = ("#", "operation", "user", "status", "cause", "committed", "delivered", "time")
_TEXT_FIELDS = ("application", "message", "method", "target", "user")
_TIME_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000))


class ReportLine(NamedTuple):
    """A line of the report, and how a terminal shows it: the names of pytest's markup."""

    text: str
    markup: str = ""


class ExchangeTable:
    """The exchanges of a test, oldest first, without the successful ones of its set-up.

    ``is_set_up`` says which exchanges the test made itself, ``redact`` removes secrets and control characters.
    """

    def __init__(
        self,
        entries: Sequence[JournalEntry],
        is_set_up: Callable[[JournalEntry], bool],
        redact: Callable[[str], str],
    ) -> None:
        self._total = len(entries)
        self._entries = [redacted_entry(entry, redact) for entry in entries]
        self._repeated = [*_repeated_writes(self._entries)]
        repeated = [entry for pair in self._repeated for entry in pair]
        candidates = [entry for entry in self._entries if is_set_up(entry) and _is_uneventful(entry)]
        self._left_out = _without(candidates, repeated)
        if len(self._left_out) == len(entries):
            self._left_out = []
        shown = _without(self._entries, self._left_out)
        self._start_ms = shown[0].at_ms
        groups = [[*group] for _, group in groupby(shown, _cells)]
        self._groups = groups[-_MAX_REPORTED_ROWS:]
        self._shown = [entry for group in self._groups for entry in group]

    def __repr__(self) -> str:
        return f"<ExchangeTable: {self.title}>"

    @property
    def title(self) -> str:
        """Return what the table shows."""
        shown = "" if len(self._shown) == self._total else f" ({len(self._shown)} shown)"
        return f"{pluralize(self._total, 'exchange')} of this test{shown}, from {_format_time(self._start_ms)}"

    @property
    def errors(self) -> list[JournalEntry]:
        """Return the displayed exchanges that have an error."""
        return [entry for entry in self._shown if entry.message]

    @property
    def request_ids(self) -> set[str]:
        """Return the request ids of the exchanges that are shown."""
        return {entry.request_id for entry in self._shown}

    @property
    def lines(self) -> list[ReportLine]:
        """Return the lines of the table, with equal rows in one."""
        rows = [
            (_numbers(group), *_cells(group[0]), _times([entry.at_ms - self._start_ms for entry in group]))
            for group in self._groups
        ]
        header, *texts = align_columns([_COLUMNS, *rows])
        lines = [ReportLine(header, "bold")]
        lines += [ReportLine(text, _markup(group[0])) for text, group in zip(texts, self._groups, strict=True)]
        if self._left_out:
            numbers = ", ".join(_ranges([entry.ordinal for entry in self._left_out])[:_MAX_REPORTED_ROWS])
            lines.append(ReportLine(f"left out, as the test's own and successful: {numbers}"))
        return lines

    def repeated_writes(self) -> list[str]:
        """Return a sentence for each write whose response was lost and that was committed again: a double charge."""
        sentences: list[str] = []
        for entry, again in self._repeated[:_MAX_REPEATED_WRITES]:
            key = " with the same idempotency key" if entry.idempotency_key == again.idempotency_key != "" else ""
            sentences.append(
                f"#{entry.ordinal} was committed and {_fate(entry)}; #{again.ordinal} committed it again{key}"
            )
        return sentences


def _without(entries: Sequence[JournalEntry], excluded: Sequence[JournalEntry]) -> list[JournalEntry]:
    excluded_ids = {entry.request_id for entry in excluded}
    return [entry for entry in entries if entry.request_id not in excluded_ids]


def _is_uneventful(entry: JournalEntry) -> bool:
    return 200 <= entry.status < 300 and entry.delivered and not entry.rule


def _repeated_writes(entries: Sequence[JournalEntry]) -> Iterator[tuple[JournalEntry, JournalEntry]]:
    """Yield each committed write whose client did not learn of it, with the next write that repeats it."""
    committed = [entry for entry in entries if entry.committed and entry.delta is not None]
    for number, entry in enumerate(committed):
        again = next((later for later in committed[number + 1 :] if _is_repeated(entry, later)), None)
        if again is not None and _fate(entry):
            yield entry, again


def _is_repeated(entry: JournalEntry, later: JournalEntry) -> bool:
    return all(getattr(entry, name) == getattr(later, name) for name in ("application", "user", "delta", "reason"))


def _fate(entry: JournalEntry) -> str:
    """Return what kept a committed write's client from learning of it; empty if nothing did."""
    if not entry.delivered or not entry.status:
        return "its response lost"
    return "" if entry.status < 400 else f"answered with {entry.status}"


def _cells(entry: JournalEntry) -> tuple[str, ...]:
    """Return the cells of a row, without its number and its time."""
    has_other_cause = entry.code and entry.causes not in ("", entry.code)
    cause = f"{entry.code} ({entry.causes})" if has_other_cause else entry.code or entry.causes
    transaction = "" if entry.delta is None else f" {entry.delta:+} {entry.reason}"
    operation = entry.operation + transaction if entry.operation else f"{entry.method} {entry.target}"
    committed = _yes_no(entry.committed) if entry.operation in WRITE_OPERATIONS else ""
    return (
        *map(truncate, (operation, entry.user, str(entry.status or "none"), cause)),
        committed,
        _yes_no(entry.delivered),
    )


def _markup(entry: JournalEntry) -> str:
    if entry.rule:
        return "yellow"
    return "" if 200 <= entry.status < 400 else "red"


def _numbers(group: Sequence[JournalEntry]) -> str:
    return ", ".join(_ranges([entry.ordinal for entry in group]))


def _ranges(numbers: Sequence[int]) -> list[str]:
    """Return ascending numbers as texts, such as ``1-3`` and ``5``."""
    starts = [numbers[0], *(later for earlier, later in pairwise(numbers) if later != earlier + 1)]
    ends = [*(earlier for earlier, later in pairwise(numbers) if later != earlier + 1), numbers[-1]]
    return [str(start) if start == end else f"{start}-{end}" for start, end in zip(starts, ends, strict=True)]


def _times(offsets_ms: Sequence[int]) -> str:
    first, last = _format_offset(offsets_ms[0]), _format_offset(offsets_ms[-1])
    return first if first == last else f"{first} to {last}"


def _format_offset(offset_ms: int) -> str:
    return f"{'-' if offset_ms < 0 else '+'}{format_duration(abs(offset_ms))}"


def format_duration(duration_ms: int) -> str:
    """Return milliseconds as a text such as ``3 s`` or ``1 d 2 h``."""
    parts: list[str] = []
    for unit, unit_ms in _TIME_UNITS:
        count, duration_ms = divmod(duration_ms, unit_ms)
        parts += [f"{count} {unit}"] if count else []
    if duration_ms or not parts:
        parts.append(f"{duration_ms} ms" if 0 < duration_ms < 1000 else f"{duration_ms / 1000:g} s")
    return " ".join(parts)


def _format_time(at_ms: int) -> str:
    """Return a time in UTC, with milliseconds."""
    return from_ms(at_ms).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _yes_no(value: object) -> str:
    return "yes" if value else "no"


def redacted_entry(entry: JournalEntry, redact: Callable[[str], str]) -> JournalEntry:
    """Return an entry without secrets and control characters; this must precede any shortening."""
    return structs.replace(entry, **{name: redact(getattr(entry, name)) for name in _TEXT_FIELDS})
