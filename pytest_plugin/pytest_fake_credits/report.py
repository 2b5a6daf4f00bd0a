"""The section in a failing test's report, and the explanation of a comparison with a `Balance`.

This module imports the fake, so import it only after a fixture has run. PYTEST_DONT_REWRITE
"""

import json
import shlex
from collections.abc import Iterable, Sequence
from functools import partial

import pytest

from fake_credits.call_patterns import NO_REQUEST_HINT
from fake_credits.contract import Operation
from fake_credits.fake import FakeCredits
from fake_credits.journal import JournalEntry
from fake_credits.models import Balance
from fake_credits.text import escape_control, redact, truncate
from pytest_fake_credits.exchange_table import ExchangeTable, ReportLine, format_duration, redacted_entry
from pytest_fake_credits.factory import TrackedSandbox
from pytest_fake_credits.section_markup import MARKUP_ATTRIBUTE, SECTION_NAME, colored_sections

_MAX_REPORTED_SANDBOXES = 3
_MAX_REPORTED_USERS = 10
_MAX_REPORTED_RULES = 20


def add_section(
    report: pytest.TestReport,
    sandboxes: Iterable[TrackedSandbox],
    excinfo: "pytest.ExceptionInfo[BaseException] | None",
) -> None:
    """Add the section to the report, as plain text, and how a terminal shows its lines as another attribute."""
    has_hint = excinfo is not None and NO_REQUEST_HINT in str(excinfo.value)
    lines = render_section(sandboxes, has_hint=has_hint)
    if lines:
        report.sections.append((SECTION_NAME, "\n".join(line.text for line in lines)))
        setattr(report, MARKUP_ATTRIBUTE, [line.markup for line in lines])


def write_before_prompt(
    terminal: pytest.TerminalReporter, report: pytest.TestReport, sandboxes: Iterable[TrackedSandbox]
) -> None:
    """Write the section, and a curl command for each sandbox that a live server answers, before a debugger's prompt."""
    with colored_sections(terminal, [report]):
        for name, text in report.sections:
            if name == SECTION_NAME:
                terminal.write_sep("-", name)
                terminal.write_line(text)
    for tracked in sandboxes:
        fake, entries = tracked.fake, tracked.entries()
        if fake.is_served and entries:
            last = redacted_entry(entries[-1], partial(_redact_text, api_key=fake.api_key))
            terminal.write_line(f"repeat the last call: {_curl_command(fake, last)}")


def render_section(sandboxes: Iterable[TrackedSandbox], *, has_hint: bool) -> Sequence[ReportLine]:
    """Return the lines of the report's section, without secrets; none if there is nothing to report."""
    sections = [lines for tracked in sandboxes if (lines := _render_sandbox(tracked, has_hint=has_hint))]
    left_out = len(sections) - _MAX_REPORTED_SANDBOXES
    if left_out > 0:
        sections = [[ReportLine(f"{left_out} earlier sandboxes omitted")], *sections[-_MAX_REPORTED_SANDBOXES:]]
    blank = [ReportLine("")]
    return [line for number, lines in enumerate(sections) for line in (blank + lines if number else lines)]


def _render_sandbox(tracked: TrackedSandbox, *, has_hint: bool) -> list[ReportLine]:
    fake, unredacted = tracked.fake, tracked.entries()
    head = f"sandbox {fake.sandbox.name}, seed {fake.sandbox.seed}, clock {fake.clock.mode}"
    missed = [_redact_text(line, fake.api_key) for line in tracked.missed_lines()]
    more = [ReportLine(text) for text in (*missed, *_rule_lines(fake), *_pending_lines(fake))]
    if not unredacted:
        message = f"{head}: {_no_exchange_message(tracked, has_hint=has_hint)}"
        is_relevant = tracked.is_from_this_test or fake.journal.in_flight or missed
        return [ReportLine(message, "bold"), *more] if is_relevant else []
    table = ExchangeTable(unredacted, tracked.set_up_filter(), partial(_redact_text, api_key=fake.api_key))
    lines = [ReportLine(f"{head}; {table.title}:", "bold"), *table.lines]
    lines += [ReportLine(f"error of #{entry.ordinal}: {entry.message}", "red") for entry in table.errors[-1:]]
    lines += [ReportLine(text, "bold red") for text in table.repeated_writes()]
    involved = [entry for entry in unredacted if entry.request_id in table.request_ids]
    lines.append(ReportLine(f"balances: {_format_balances(fake, involved)}"))
    return lines + more


def _rule_lines(fake: FakeCredits) -> list[str]:
    rules = [f"{active.name} {active.fired} of {active.matched}" for active in fake.faults]
    more = [f"{len(rules) - _MAX_REPORTED_RULES} more"] if len(rules) > _MAX_REPORTED_RULES else []
    return [f"rules (fired of matched calls): {', '.join(rules[:_MAX_REPORTED_RULES] + more)}"] if rules else []


def _pending_lines(fake: FakeCredits) -> list[str]:
    now_ms = fake.clock.now_ms()
    scheduled = [
        f"{_redact_text(due.label, fake.api_key)}, due in {format_duration(max(0, due.at_ms - now_ms))}"
        for due in fake.clock.pending()
    ]
    held = [f"gate {gate.name!r} holds {gate.waiters()}" for gate in fake.sandbox.gates.values() if len(gate)]
    return [f"pending: {', '.join((held + scheduled)[:_MAX_REPORTED_RULES])}"] if held + scheduled else []


def _no_exchange_message(tracked: TrackedSandbox, *, has_hint: bool) -> str:
    fake = tracked.fake
    if count := fake.journal.in_flight:
        return f"no request has ended yet, {count} in flight"
    hint = _redact_text(tracked.interception_hint(), fake.api_key) or ("" if has_hint else NO_REQUEST_HINT)
    return f"no request reached it. {hint}" if hint else "no request reached it"


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
    more = [f"{len(users) - len(texts)} more users"] if len(users) > len(texts) else []
    return ", ".join(texts + more) or "no user involved"


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
    """Return the explanation of a failed ``left == right`` if one of them is a `Balance`, else None."""
    balances = [side for side in (left, right) if isinstance(side, Balance)]
    if not balances:
        return None
    lines = [f"{left!r} == {right!r}"]
    if len(balances) == 1:
        lines.append("a Balance is only equal to another Balance; compare its .balance")
    a, b = (side.balance if isinstance(side, Balance) else side for side in (left, right))
    if isinstance(a, int | float) and isinstance(b, int | float) and a != b:
        lines.append(f"{a} is {abs(a - b)} {'more' if a > b else 'less'} than {b}")
    return lines
