"""The section in a failing test's report, and the explanation of a comparison with a `Balance`.

This module imports the fake, so import it only after a fixture has run. PYTEST_DONT_REWRITE
"""

import json
import shlex
from collections.abc import Iterable

from msgspec import structs

from fake_credits.call_patterns import NO_REQUEST_HINT
from fake_credits.clock import from_ms
from fake_credits.contract import Operation
from fake_credits.fake import FakeCredits
from fake_credits.journal import JournalEntry
from fake_credits.models import Balance
from fake_credits.text import align_columns, escape_control, redact, truncate
from pytest_fake_credits.factory import TrackedSandbox

__all__ = ["explain_balance", "render_section"]

_MAX_REPORTED_SANDBOXES = 3
_MAX_REPORTED_EXCHANGES = 20
_MAX_REPORTED_USERS = 10
_MAX_REPORTED_RULES = 20
_REPORT_COLUMNS = ("#", "operation", "user", "status", "cause", "committed", "delivered", "time")


def render_section(sandboxes: Iterable[TrackedSandbox]) -> str:
    """Return the text of the report's section, without secrets; empty if there is nothing to report."""
    texts = [text for text in map(_render_sandbox, sandboxes) if text]
    left_out = len(texts) - _MAX_REPORTED_SANDBOXES
    head = [f"{left_out} earlier sandboxes omitted"] if left_out > 0 else []
    return "\n\n".join(head + texts[-_MAX_REPORTED_SANDBOXES:])


def _render_sandbox(tracked: TrackedSandbox) -> str:
    fake, unredacted = tracked.fake, tracked.entries()
    head = f"sandbox {fake.sandbox.name}, seed {fake.sandbox.seed}, clock {fake.clock.mode}"
    missed = [_redact_text(line, fake.api_key) for line in tracked.missed_lines()]
    more = [*missed, *_rule_lines(fake), *_pending_lines(fake)]
    if not unredacted:
        return (
            "\n".join([f"{head}: {_no_exchange_message(tracked)}", *more])
            if tracked.is_from_this_test or fake.journal.in_flight or missed
            else ""
        )
    entries = [_redacted(entry, fake.api_key) for entry in unredacted[-_MAX_REPORTED_EXCHANGES:]]
    table = align_columns([_REPORT_COLUMNS, *map(_table_row, entries)])
    lines = [f"{head}; exchanges of this test, last {len(entries)} of {len(unredacted)}:", *table]
    lines += [f"error of #{entry.ordinal}: {entry.message}" for entry in entries if entry.message][-1:]
    lines += [
        f"balances: {_format_balances(fake, unredacted)}",
        f"repeat the last call: {_curl_command(fake, entries[-1])}",
    ]
    return "\n".join(lines + more)


def _rule_lines(fake: FakeCredits) -> list[str]:
    rules = [f"{active.name} {active.fired} of {active.matched}" for active in fake.faults]
    more = [f"{len(rules) - _MAX_REPORTED_RULES} more"] if len(rules) > _MAX_REPORTED_RULES else []
    return [f"rules (fired of matched calls): {', '.join(rules[:_MAX_REPORTED_RULES] + more)}"] if rules else []


def _pending_lines(fake: FakeCredits) -> list[str]:
    scheduled = [
        f"{_redact_text(due.label, fake.api_key)} at {_format_time(due.at_ms)}" for due in fake.clock.pending()
    ]
    held = [f"gate {gate.name!r} holds {gate.waiters()}" for gate in fake.sandbox.gates.values() if len(gate)]
    return [f"pending: {', '.join((held + scheduled)[:_MAX_REPORTED_RULES])}"] if held + scheduled else []


def _no_exchange_message(tracked: TrackedSandbox) -> str:
    fake = tracked.fake
    if count := fake.journal.in_flight:
        return f"no request has ended yet, {count} in flight"
    return f"no request reached it. {_redact_text(tracked.interception_hint(), fake.api_key) or NO_REQUEST_HINT}"


_BODY_PLACEHOLDER = "<invalid body, not recorded>"


def _table_row(entry: JournalEntry) -> tuple[str, ...]:
    has_other_cause = entry.code and entry.causes not in ("", entry.code)
    cause = f"{entry.code} ({entry.causes})" if has_other_cause else entry.code or entry.causes
    transaction = "" if entry.delta is None else f" {entry.delta:+} {entry.reason}"
    operation = entry.operation + transaction if entry.operation else f"{entry.method} {entry.target}"
    cells = (str(entry.ordinal), operation, entry.user, str(entry.status), cause)
    return (*map(truncate, cells), _yes_no(entry.committed), _yes_no(entry.delivered), _format_time(entry.at_ms))


def _format_time(at_ms: int) -> str:
    return from_ms(at_ms).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _yes_no(value: object) -> str:
    return "yes" if value else "no"


def _redacted(entry: JournalEntry, api_key: str) -> JournalEntry:
    """Return an entry without secrets and control characters; do this before any shortening."""
    texts = {name: getattr(entry, name) for name in ("application", "message", "method", "target", "user")}
    return structs.replace(entry, **{name: _redact_text(text, api_key) for name, text in texts.items()})


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
    arguments.append('"$CREDITS_BASE_URL"' + shlex.quote(entry.target))
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
