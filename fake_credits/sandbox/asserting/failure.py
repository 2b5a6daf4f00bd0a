"""Own what a failed assertion on calls says: what was asked, and the nearest calls with how they differ.

Pure text of what it is given, without secrets; it knows neither the journal nor who asserts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fake_credits.journal import Entry
from fake_credits.sandbox.asserting.call import Call, Criterion
from fake_credits.sandbox.asserting.showing import printable, short, without_secrets

__all__ = ["Seen", "counted", "shared_keys_text"]

_ROWS_MAX = 5
_NOTHING = (
    "no request reached this sandbox. Give the code under test a client of the fixture, fake_credits.transport(...), "
    "fake_credits.base_url or the fixture fake_credits_env"
)


@dataclass(frozen=True, slots=True)
class Seen:
    """Be what was in the journal when an assertion looked: the exchanges, and what is missing among them.

    ``dropped`` older ones are kept no more, ``under_way`` have not ended. ``api_key`` is what not to show.
    """

    entries: tuple[Entry, ...]
    dropped: int
    under_way: int
    api_key: str

    def __repr__(self) -> str:
        return f"<Seen: {len(self.entries)} exchanges>"

    def failure(self, head: str, call: Call, entries: Sequence[Entry] | None = None) -> str:
        """Return a failure's text: a head, what is missing, and the calls nearest to one, by default of all."""
        among = self.entries if entries is None else entries
        lines = [without_secrets(head, self.api_key), *self._notes()]
        if among:
            lines += [f"the nearest of {counted(len(among), 'exchange')}, != where they differ:"]
            lines += _table(call, among, self.api_key)
        return "\n".join(lines)

    def _notes(self) -> list[str]:
        notes = [] if self.entries else [_NOTHING]
        if self.under_way:
            notes.append(f"{counted(self.under_way, 'exchange')} still under way: wait_for waits for a call")
        if self.dropped:
            notes.append(f"the journal keeps {len(self.entries)} exchanges and has dropped {self.dropped} before them")
        return notes


def counted(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def shared_keys_text(shared: dict[str, tuple[Entry, ...]], api_key: str) -> str:
    """Return one line for each of the first keys that several committed writes share."""
    lines = [f"committed writes share {counted(len(shared), 'idempotency key')}, so a retry was charged again:"]
    for key, entries in list(shared.items())[:_ROWS_MAX]:
        calls = ", ".join(_brief(entry, api_key) for entry in entries[:_ROWS_MAX])
        more = f" and {len(entries) - _ROWS_MAX} more" if len(entries) > _ROWS_MAX else ""
        lines.append(f"{_cell(key, api_key)}: {calls}{more}")
    return "\n".join(lines)


def _brief(entry: Entry, api_key: str) -> str:
    order = "" if entry.delta is None else f" {entry.delta:+} {entry.reason}"
    return f"#{entry.ordinal} {entry.operation}{order} for {_cell(entry.user, api_key)}"


def _table(call: Call, entries: Sequence[Entry], api_key: str) -> list[str]:
    operation = () if any(each.name == "operation" for each in call.criteria) else ("operation",)
    names = ["", *operation, *(each.name for each in call.criteria), "answer"]
    wanted = ["wanted", *("" for _ in operation), *(_wanted(each, api_key) for each in call.criteria), ""]
    rows = [names, wanted]
    for entry in _nearest(call, entries):
        cells = [_compared(each, entry, api_key) for each in call.criteria]
        rows.append([f"#{entry.ordinal}", *(_asked(entry, api_key) for _ in operation), *cells, _answer(entry)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _nearest(call: Call, entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries that differ least; a foreign operation counts twice, and of two as near the later is first."""

    def distance(entry: Entry) -> tuple[int, int]:
        differing = [each.name for each in call.criteria if not each.holds(entry)]
        return len(differing) + ("operation" in differing), -entry.ordinal

    return sorted(entries, key=distance)[:_ROWS_MAX]


def _wanted(criterion: Criterion, api_key: str) -> str:
    return str(criterion.wanted) if criterion.name == "operation" else _cell(criterion.wanted, api_key)


def _compared(criterion: Criterion, entry: Entry, api_key: str) -> str:
    is_operation = criterion.name == "operation"
    shown = _asked(entry, api_key) if is_operation else _cell(criterion.read(entry), api_key)
    return shown if criterion.holds(entry) else f"!= {shown}"


def _asked(entry: Entry, api_key: str) -> str:
    """Return the operation or, for a request that is none, its first line."""
    line = entry.operation or f"{entry.method} {entry.target}"
    return short(printable(without_secrets(line, api_key)))


def _answer(entry: Entry) -> str:
    words = [f"{entry.status} {entry.code}".rstrip()]
    words += [] if entry.delivered else ["undelivered"]
    words += [f"fault {short(printable(entry.rule))}"] if entry.rule else []
    return ", ".join(words)


def _cell(value: object, api_key: str) -> str:
    return short(repr(without_secrets(str(value), api_key)) if isinstance(value, str) else repr(value))
