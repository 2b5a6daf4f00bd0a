"""The section in a failing test's report, and the explanation of a failed comparison with a `Balance`.

This module imports the fake, so it must only be imported after a fixture has run. PYTEST_DONT_REWRITE
"""

import json
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby, pairwise
from operator import attrgetter
from typing import NamedTuple

import pytest
from msgspec import structs

from fake_credits.call_patterns import NO_REQUEST_HINT
from fake_credits.clock import from_ms
from fake_credits.contract import Operation
from fake_credits.contract.types import WRITE_OPERATIONS
from fake_credits.fake import FakeCredits
from fake_credits.journal import JournalEntry
from fake_credits.models import Balance
from fake_credits.text import align_columns, escape_control, pluralize, redact, truncate
from pytest_fake_credits.factory import TrackedSandbox
from pytest_fake_credits.terminal import MARKUP_ATTRIBUTE, SECTION_NAME, coloured_sections

_MAX_REPORTED_ROWS = 20
_MAX_REPEATED_WRITES = 5
_COLUMNS = ("#", "operation", "user", "status", "cause", "committed", "delivered", "time")
_TEXT_FIELDS = ("application", "message", "method", "target", "user")
_write_key = attrgetter("application", "user", "delta", "reason")
_TIME_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000))


class ReportLine(NamedTuple):
    """A line of the report, and its markup on a terminal, such as ``bold red``."""

    text: str
    markup: str = ""


class ExchangeTable:
    """A test's exchanges, oldest first, except the successful ones from its set-up.

    ``is_set_up`` says whether an exchange belongs to the set-up; ``redact`` removes secrets and escapes control
    characters.
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
        candidates = [
            entry
            for entry in self._entries
            if is_set_up(entry) and 200 <= entry.status < 300 and entry.delivered and not entry.rule
        ]
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
        """Return the title, with the number of exchanges and the time that the rows' times are relative to."""
        shown = "" if len(self._shown) == self._total else f" ({len(self._shown)} shown)"
        return f"{pluralize(self._total, 'exchange')} in this test{shown}, starting at {_format_time(self._start_ms)}"

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
        """Return the lines of the table, with consecutive identical rows merged."""
        rows = [
            (
                ", ".join(_ranges([entry.ordinal for entry in group])),
                *_cells(group[0]),
                _format_times(group, self._start_ms),
            )
            for group in self._groups
        ]
        header, *texts = align_columns([_COLUMNS, *rows])
        lines = [ReportLine(header, "bold")]
        for text, (entry, *_) in zip(texts, self._groups, strict=True):
            lines.append(ReportLine(text, "yellow" if entry.rule else "" if 200 <= entry.status < 400 else "red"))
        if self._left_out:
            numbers = ", ".join(_ranges([entry.ordinal for entry in self._left_out])[:_MAX_REPORTED_ROWS])
            lines.append(ReportLine(f"omitted successful calls made during set-up: {numbers}"))
        return lines

    def repeated_writes(self) -> list[str]:
        """Return a sentence for each write that was committed without its client's knowledge and then repeated."""
        sentences: list[str] = []
        for entry, again in self._repeated[:_MAX_REPEATED_WRITES]:
            key = " with the same idempotency key" if entry.idempotency_key == again.idempotency_key != "" else ""
            sentences.append(
                f"#{entry.ordinal} was committed, but {_fate(entry)}; #{again.ordinal} committed it again{key}"
            )
        return sentences


def _without(entries: Sequence[JournalEntry], excluded: Sequence[JournalEntry]) -> list[JournalEntry]:
    excluded_ids = {entry.request_id for entry in excluded}
    return [entry for entry in entries if entry.request_id not in excluded_ids]


def _repeated_writes(entries: Sequence[JournalEntry]) -> Iterator[tuple[JournalEntry, JournalEntry]]:
    """Yield each write that was committed without its client's knowledge, with the next write that repeats it."""
    committed = [entry for entry in entries if entry.committed and entry.delta is not None]
    for number, entry in enumerate(committed):
        same = (later for later in committed[number + 1 :] if _write_key(later) == _write_key(entry))
        again = next(same, None)
        if again is not None and _fate(entry):
            yield entry, again


def _fate(entry: JournalEntry) -> str:
    """Return why the client did not learn that its write was committed, or an empty string if it did."""
    if not entry.delivered or not entry.status:
        return "its response was lost"
    return "" if entry.status < 400 else f"its response was a {entry.status}"


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


def _ranges(numbers: Sequence[int]) -> list[str]:
    """Format ascending numbers as ranges, such as ``1-3``, and single numbers, such as ``5``."""
    starts = [numbers[0], *(later for earlier, later in pairwise(numbers) if later != earlier + 1)]
    ends = [*(earlier for earlier, later in pairwise(numbers) if later != earlier + 1), numbers[-1]]
    return [str(start) if start == end else f"{start}-{end}" for start, end in zip(starts, ends, strict=True)]


def _format_times(group: Sequence[JournalEntry], start_ms: int) -> str:
    offsets_ms = (group[0].at_ms - start_ms, group[-1].at_ms - start_ms)
    first, last = (f"{'-' if offset_ms < 0 else '+'}{format_duration(abs(offset_ms))}" for offset_ms in offsets_ms)
    return first if first == last else f"{first} to {last}"


def format_duration(duration_ms: int) -> str:
    """Format milliseconds as a duration such as ``3 s`` or ``1 d 2 h``."""
    parts: list[str] = []
    for unit, unit_ms in _TIME_UNITS:
        count, duration_ms = divmod(duration_ms, unit_ms)
        parts += [f"{count} {unit}"] if count else []
    if duration_ms or not parts:
        parts.append(f"{duration_ms} ms" if 0 < duration_ms < 1000 else f"{duration_ms / 1000:g} s")
    return " ".join(parts)


def _format_time(at_ms: int) -> str:
    """Format a time in UTC, with milliseconds."""
    return from_ms(at_ms).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _yes_no(value: object) -> str:
    return "yes" if value else "no"


def redacted_entry(entry: JournalEntry, redact: Callable[[str], str]) -> JournalEntry:
    """Return a copy of an entry without secrets or control characters; call this before `truncate`."""
    return structs.replace(entry, **{name: redact(getattr(entry, name)) for name in _TEXT_FIELDS})


_MAX_REPORTED_SANDBOXES = 3
_MAX_REPORTED_USERS = 10
_MAX_REPORTED_RULES = 20


def add_section(
    report: pytest.TestReport,
    sandboxes: Iterable[TrackedSandbox],
    excinfo: "pytest.ExceptionInfo[BaseException] | None",
) -> None:
    """Add the section to the report as plain text, and store the markup of its lines in a separate attribute."""
    lines = render_section(sandboxes, failure="" if excinfo is None else str(excinfo.value))
    if lines:
        report.sections.append((SECTION_NAME, "\n".join(line.text for line in lines)))
        setattr(report, MARKUP_ATTRIBUTE, [line.markup for line in lines])


def write_before_prompt(
    terminal: pytest.TerminalReporter, report: pytest.TestReport, sandboxes: Iterable[TrackedSandbox]
) -> None:
    """Write the section, and a curl command for each sandbox on a live server, before a debugger prompt opens."""
    with coloured_sections(terminal, [report]):
        for name, text in report.sections:
            if name == SECTION_NAME:
                terminal.write_sep("-", name)
                terminal.write_line(text)
    for tracked in sandboxes:
        fake, entries = tracked.fake, tracked.entries()
        if fake.is_served and entries:
            last = redacted_entry(entries[-1], partial(_redact_text, api_key=fake.api_key))
            terminal.write_line(f"repeat the last call: {_curl_command(fake, last)}")


def render_section(sandboxes: Iterable[TrackedSandbox], *, failure: str) -> Sequence[ReportLine]:
    """Return the lines of the report's section, without secrets, or no lines if there is nothing to report.

    Hints that the failure's message already contains are left out.
    """
    sections = [lines for tracked in sandboxes if (lines := _render_sandbox(tracked, failure))]
    left_out = len(sections) - _MAX_REPORTED_SANDBOXES
    if left_out > 0:
        noun = "sandbox" if left_out == 1 else "sandboxes"
        sections = [[ReportLine(f"{left_out} earlier {noun} omitted")], *sections[-_MAX_REPORTED_SANDBOXES:]]
    blank = [ReportLine("")]
    return [line for number, lines in enumerate(sections) for line in (blank + lines if number else lines)]


def _render_sandbox(tracked: TrackedSandbox, failure: str) -> list[ReportLine]:
    fake, unredacted = tracked.fake, tracked.entries()
    head = f"sandbox {fake.sandbox.name}, seed {fake.sandbox.seed}, clock {fake.clock.mode}"
    missed = [_redact_text(line, fake.api_key) for line in tracked.missed_lines()]
    new = [line for line in missed if line not in failure]
    more = [ReportLine(text) for text in (*new, *_rule_lines(fake), *_pending_lines(fake))]
    if not unredacted:
        message = f"{head}: {_no_exchange_message(tracked, failure)}"
        is_relevant = tracked.is_from_this_test or fake.journal.in_flight or missed
        return [ReportLine(message, "bold"), *more] if is_relevant else []
    table = ExchangeTable(unredacted, tracked.set_up_filter(), partial(_redact_text, api_key=fake.api_key))
    lines = [ReportLine(f"{head}; {table.title}:", "bold"), *table.lines]
    lines += [ReportLine(f"error in #{entry.ordinal}: {entry.message}", "red") for entry in table.errors[-1:]]
    lines += [ReportLine(text, "bold red") for text in table.repeated_writes()]
    involved = [entry for entry in unredacted if entry.request_id in table.request_ids]
    lines.append(ReportLine(f"balances: {_format_balances(fake, involved)}"))
    return lines + more


def _rule_lines(fake: FakeCredits) -> list[str]:
    rules = [f"{active.name} {active.fired} of {active.matched}" for active in fake.faults]
    more = [f"{len(rules) - _MAX_REPORTED_RULES} more"] if len(rules) > _MAX_REPORTED_RULES else []
    listed = ", ".join(rules[:_MAX_REPORTED_RULES] + more)
    return [f"rules (matched calls on which they fired): {listed}"] if rules else []


def _pending_lines(fake: FakeCredits) -> list[str]:
    now_ms = fake.clock.now_ms()
    scheduled = [
        f"{_redact_text(due.label, fake.api_key)}, due in {format_duration(max(0, due.at_ms - now_ms))}"
        for due in fake.clock.pending()
    ]
    held = [f"gate {gate.name!r} holds {gate.waiters()}" for gate in fake.sandbox.gates.values() if len(gate)]
    return [f"pending: {', '.join((held + scheduled)[:_MAX_REPORTED_RULES])}"] if held + scheduled else []


def _no_exchange_message(tracked: TrackedSandbox, failure: str) -> str:
    fake = tracked.fake
    if count := fake.journal.in_flight:
        return f"no request has completed yet ({count} in flight)"
    hint = _redact_text(tracked.interception_hint(), fake.api_key) or NO_REQUEST_HINT
    return "no request reached it" if hint in failure else f"no request reached it. {hint}"


_BODY_PLACEHOLDER = "<invalid body, not recorded>"


def _redact_text(text: str, api_key: str) -> str:
    return escape_control(redact(text, api_key))


def _format_balances(fake: FakeCredits, entries: Iterable[JournalEntry]) -> str:
    users = list(dict.fromkeys((entry.application, entry.user) for entry in entries if entry.user))
    with fake.sandbox.lock:
        accounts = [
            (*user_key, fake.sandbox.ledger.find_account(*user_key)) for user_key in users[-_MAX_REPORTED_USERS:]
        ]
    texts = [
        truncate(_redact_text(user if application == fake.application_id else f"{application}/{user}", fake.api_key))
        + (" does not exist" if account is None else f" {account.balance}")
        for application, user, account in accounts
    ]
    more = [pluralize(len(users) - len(texts), "more user")] if len(users) > len(texts) else []
    return ", ".join(texts + more) or "no users involved"


def _curl_command(fake: FakeCredits, entry: JournalEntry) -> str:
    contract = fake.sandbox.contract
    headers = {
        "server": f"{contract.api_key.header}: {contract.api_key.value_for('$CREDITS_API_KEY')}",
        "user": f"{contract.user_token.header}: {contract.user_token.value_for('$CREDITS_USER_TOKEN')}",
    }
    arguments = ["curl", *(() if entry.method == "GET" else ("-X", shlex.quote(entry.method)))]
    arguments.append(shlex.quote(fake.base_url + entry.target))
    if entry.client in headers:
        arguments += ["-H", f'"{headers[entry.client]}"']
    if entry.operation == Operation.CREATE_TRANSACTION.value:
        body = {contract.name_of("delta"): entry.delta, contract.name_of("reason"): entry.reason}
        text = _BODY_PLACEHOLDER if entry.delta is None else json.dumps(body)
        arguments += ["-H", "'Content-Type: application/json'", "-d", shlex.quote(text)]
    return " ".join(arguments)


def explain_balance(left: object, right: object) -> list[str] | None:
    """Explain a failed ``left == right`` if one of them is a `Balance`; otherwise return None."""
    balances = [side for side in (left, right) if isinstance(side, Balance)]
    if not balances:
        return None
    lines = [f"{left!r} == {right!r}"]
    if len(balances) == 1:
        lines.append("a Balance is equal only to another Balance; compare its .balance")
    a, b = (side.balance if isinstance(side, Balance) else side for side in (left, right))
    if isinstance(a, int | float) and isinstance(b, int | float) and a != b:
        lines.append(f"{a} is {abs(a - b)} {'more' if a > b else 'less'} than {b}")
    return lines
