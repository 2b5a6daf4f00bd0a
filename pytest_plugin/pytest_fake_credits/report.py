"""Own what a person reads: the section of a failing test's report, and a comparison with a `Balance`.

Imports the fake, so only what runs after a fixture imports this; it knows nothing of pytest. PYTEST_DONT_REWRITE
"""

import json
import shlex
from collections.abc import Iterable, Sequence

from msgspec import structs

from fake_credits.clock import from_ms
from fake_credits.contract import Operation
from fake_credits.fake import FakeCredits
from fake_credits.journal import Entry
from fake_credits.models import Balance
from fake_credits.sandbox.asserting.showing import printable, short, without_secrets
from pytest_fake_credits.factory import Watched

__all__ = ["explain_balance", "section"]

_SANDBOXES_MAX = 3
_ROWS_MAX = 20
_USERS_MAX = 10
_RULES_MAX = 20
_COLUMNS = ("#", "operation", "user", "status", "cause", "committed", "delivered", "time")


def section(watched: Iterable[Watched]) -> str:
    """Return the text of the report's section, without secrets; empty where there is nothing to tell."""
    texts = [text for text in map(_sandbox, watched) if text]
    left_out = len(texts) - _SANDBOXES_MAX
    head = [f"{left_out} more sandboxes before these"] if left_out > 0 else []
    return "\n\n".join(head + texts[-_SANDBOXES_MAX:])


def _sandbox(watched: Watched) -> str:
    fake, raw = watched.fake, watched.entries()
    head = f"sandbox {fake.sandbox.name}, seed {fake.sandbox.seed}, clock {fake.clock.mode}"
    more = [*_rules(fake), *_parked(fake)]
    if not raw:
        return "\n".join([f"{head}: {_nothing(fake)}", *more]) if watched.is_new or fake.journal.under_way else ""
    entries = [_clean(entry, fake.api_key) for entry in raw[-_ROWS_MAX:]]
    lines = [f"{head}; exchanges of this test, the last {len(entries)} of {len(raw)}:", *_table(entries)]
    lines += [f"refusal of #{entry.ordinal}: {entry.message}" for entry in entries if entry.message][-1:]
    lines += [f"balances: {_balances(fake, raw)}", f"the last call again: {_curl(fake, entries[-1])}"]
    return "\n".join(lines + more)


def _rules(fake: FakeCredits) -> list[str]:
    rules = [f"{active.name} {active.fired} of {active.matched}" for active in fake.faults]
    more = [f"{len(rules) - _RULES_MAX} more"] if len(rules) > _RULES_MAX else []
    return (
        [f"rules, how often each fired of the calls that matched: {', '.join(rules[:_RULES_MAX] + more)}"]
        if rules
        else []
    )


def _parked(fake: FakeCredits) -> list[str]:
    parked = [f"{_shown(due.label, fake.api_key)} at {_time(due.at_ms)}" for due in fake.clock.parked()]
    held = [f"gate {gate.name!r} holds {gate.waiters()}" for gate in fake.sandbox.gates.values() if len(gate)]
    return [f"still to happen: {', '.join((held + parked)[:_RULES_MAX])}"] if held + parked else []


def _nothing(fake: FakeCredits) -> str:
    if count := fake.journal.under_way:
        return f"no request has ended, {count} {'is' if count == 1 else 'are'} under way"
    if fake.intercepted:
        urls = ", ".join(_shown(url, fake.api_key) for url in fake.intercepted[:_RULES_MAX])
        return f"no request reached it, nor was one made by this process to the base URLs that it intercepts: {urls}"
    return _NO_EXCHANGE


_NO_EXCHANGE = (
    "no request reached it. Give the code under test a client of the fixture, fake_credits.transport(...), "
    "fake_credits.intercept(...), fake_credits.base_url or the fixture fake_credits_env"
)


_NO_ORDER = "<a body that asks for no transaction: it is not kept>"


def _table(entries: Sequence[Entry]) -> list[str]:
    rows = [_COLUMNS, *map(_row, entries)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _row(entry: Entry) -> tuple[str, ...]:
    told = entry.code and entry.causes not in ("", entry.code)
    cause = f"{entry.code} ({entry.causes})" if told else entry.code or entry.causes
    order = "" if entry.delta is None else f" {entry.delta:+} {entry.reason}"
    operation = entry.operation + order if entry.operation else f"{entry.method} {entry.target}"
    cells = (str(entry.ordinal), operation, entry.user, str(entry.status), cause)
    return (*map(short, cells), _yes(entry.committed), _yes(entry.delivered), _time(entry.at_ms))


def _time(at_ms: int) -> str:
    return from_ms(at_ms).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _yes(fact: object) -> str:
    return "yes" if fact else "no"


def _clean(entry: Entry, api_key: str) -> Entry:
    """Return an entry without secrets, before anything is cut, and with nothing that moves a terminal's cursor."""
    texts = {name: getattr(entry, name) for name in ("application", "message", "method", "target", "user")}
    return structs.replace(entry, **{name: _shown(text, api_key) for name, text in texts.items()})


def _shown(text: str, api_key: str) -> str:
    return printable(without_secrets(text, api_key))


def _balances(fake: FakeCredits, entries: Iterable[Entry]) -> str:
    touched = list(dict.fromkeys((entry.application, entry.user) for entry in entries if entry.user))
    with fake.sandbox.lock:
        found = [(*who, fake.sandbox.ledger.find(*who)) for who in touched[-_USERS_MAX:]]
    texts = [
        short(_shown(user if application == fake.application_id else f"{application}/{user}", fake.api_key))
        + (" does not exist" if account is None else f" {account.balance}")
        for application, user, account in found
    ]
    more = [f"{len(touched) - len(texts)} more users"] if len(touched) > len(texts) else []
    return ", ".join(texts + more) or "no user was touched"


def _curl(fake: FakeCredits, entry: Entry) -> str:
    contract = fake.sandbox.contract
    forms = {
        "server": f"{contract.api_key.header}: {contract.api_key.value('$CREDITS_API_KEY')}",
        "user": f"{contract.user_token.header}: {contract.user_token.value('$CREDITS_USER_TOKEN')}",
    }
    words = ["curl", *(() if entry.method == "GET" else ("-X", shlex.quote(entry.method)))]
    words.append('"$CREDITS_BASE_URL"' + shlex.quote(entry.target))
    if entry.client in forms:
        words += ["-H", f'"{forms[entry.client]}"']
    if entry.operation == Operation.CREATE_TRANSACTION.value:
        body = {contract.name_of("delta"): entry.delta, contract.name_of("reason"): entry.reason}
        text = _NO_ORDER if entry.delta is None else json.dumps(body)
        words += ["-H", "'Content-Type: application/json'", "-d", shlex.quote(text)]
    return " ".join(words)


def explain_balance(left: object, right: object) -> list[str] | None:
    """Return the lines that explain a failed ``left == right`` where one of them is a `Balance`, else None."""
    balances = [side for side in (left, right) if isinstance(side, Balance)]
    if not balances:
        return None
    lines = [f"{left!r} == {right!r}"]
    if len(balances) == 1:
        lines.append("a Balance is equal to a Balance only: compare its .balance")
    a, b = (side.balance if isinstance(side, Balance) else side for side in (left, right))
    if isinstance(a, int | float) and isinstance(b, int | float) and a != b:
        lines.append(f"{a} is {abs(a - b)} {'more' if a > b else 'less'} than {b}")
    return lines
