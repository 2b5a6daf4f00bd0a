"""Own the bodies: how models become bytes and bytes become a transaction; know nothing of Starlette or of storage.

What is the same for every request of a contract (templates, decoders, names) is made once, in the codec.
"""

from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import NamedTuple, Protocol, cast

import msgspec

from fake_credits.contract import MAX_AMOUNT, Contract, created_at_to_json
from fake_credits.errors import Problem, ValidationError
from fake_credits.ledger import Account, Row
from fake_credits.models import Reason
from fake_credits.web.strict import read_json, shown

__all__ = ["Codec", "Order"]


_REMEMBERED = 256
_REASONS = {reason.value: reason for reason in Reason}  # a call of the enumeration costs half of reading the body


class Order(NamedTuple):
    """Be what createTransaction asks for, checked for types but not yet for rules."""

    delta: int
    reason: Reason


class _FastOrder(Protocol):
    delta: float  # 10.0 is an integer too, but a double can't tell 10.0 from 10.00000000000000001: the slow way can
    reason: str


class Codec:
    """Encode and decode the bodies of one contract."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        name = contract.name_of
        self._delta, self._reason = name("delta"), name("reason")
        self._balance = f"{{{_slot(name('balance'))}:%d}}".encode()
        self._transaction = ",".join(f"{_slot(name(key))}:%s" for key in ("delta", "reason", "createdAt"))
        self._user = "{" + ",".join(f"{_slot(name(key))}:%s" for key in ("applicationId", "userId", "createdAt")) + "}"
        self._reasons = {reason: _text(reason.value) for reason in Reason}
        self._decode_fast = self._fast_decoder()
        self._second = lru_cache(_REMEMBERED)(_iso_second)

    def __repr__(self) -> str:
        return f"<Codec, createdAt as {self._contract.created_at}>"

    def _fast_decoder(self) -> Callable[[bytes], _FastOrder]:
        order = msgspec.defstruct(
            "Order",
            [("delta", int | float), ("reason", str)],
            rename={"delta": self._delta, "reason": self._reason}.get,
            forbid_unknown_fields=True,
        )
        return cast("Callable[[bytes], _FastOrder]", msgspec.json.Decoder(order).decode)

    # ------------------------------------------------------------ out

    def balance(self, balance: int) -> bytes:
        """Return the body of getBalance."""
        return self._balance % balance

    def user(self, account: Account) -> bytes:
        """Return the body of getUser and createUser."""
        return self._user_text(account).encode()

    def users(self, accounts: Iterable[Account], next_cursor: str | None) -> bytes:
        """Return the body of listUsers."""
        return self._list("users", map(self._user_text, accounts), next_cursor)

    def transaction(self, row: Row, position: int) -> bytes:
        """Return the body of createTransaction (row 11)."""
        form = self._contract.created_transaction
        if form == "empty":
            return b""
        text = self._transaction_text(row)
        if form == "wrapped":
            text = f"{{{_text(self._contract.name_of('transaction'))}:{text}}}"
        elif form == "id":
            text = f'{text[:-1]},{_text(self._contract.name_of("id"))}:"txn_{position + 1}"}}'
        elif form == "balance":
            text = f"{text[:-1]},{_text(self._contract.name_of('balance'))}:{row.balance}}}"
        return text.encode()

    def transactions(self, rows: Iterable[Row], next_cursor: str | None) -> bytes:
        """Return the body of listTransactions."""
        return self._list("transactions", map(self._transaction_text, rows), next_cursor)

    def _user_text(self, account: Account) -> str:
        return self._user % (
            _text(account.application_id),
            _text(account.user_id),
            self._time(account.created_at_ms),
        )

    def _transaction_text(self, row: Row) -> str:
        return "{" + self._transaction % (row.delta, self._reasons[row.reason], self._time(row.at_ms)) + "}"

    def _time(self, ms: int) -> str:
        second, rest = divmod(ms, 1000)
        if self._contract.created_at == "iso_ms":
            return f'"{self._second(second)}.{rest:03d}Z"'
        value = created_at_to_json(self._contract.created_at, ms)
        return f'"{value}"' if isinstance(value, str) else str(value)

    def _list(self, member: str, items: Iterable[str], next_cursor: str | None) -> bytes:
        trailer = ""
        if next_cursor is not None or self._contract.end_of_list != "absent":
            last = "null" if self._contract.end_of_list == "null" else '""'
            cursor = last if next_cursor is None else f'"{next_cursor}"'
            trailer = f",{_text(self._contract.name_of('nextCursor'))}:{cursor}"
        return f"{{{_text(self._contract.name_of(member))}:[{','.join(items)}]{trailer}}}".encode()

    # ------------------------------------------------------------ in

    def order(self, body: bytes) -> Order:
        """Return the transaction that a body asks for.

        Raises MalformedJson for what is no JSON, and ValidationError with every problem of type or name at once.
        """
        # Six quotation marks and no escape are two names and one text: then no member can stand there twice.
        if body.count(b'"') == 6 and b"\\" not in body:
            try:
                fast = self._decode_fast(body)
            except (msgspec.MsgspecError, ValueError):
                pass  # the slow way says what is wrong
            else:
                reason = _REASONS.get(fast.reason)
                if reason is not None and isinstance(fast.delta, int):
                    return Order(fast.delta, reason)
        return self._slow_order(_json_object(body))

    def no_body(self, body: bytes) -> None:
        """Refuse a body with members, for an operation that takes none; empty and ``{}`` pass."""
        if body:
            _refuse(_unknown_members(_json_object(body), ()))

    def _slow_order(self, members: dict[str, object]) -> Order:
        delta, delta_problem = _delta(members, self._delta)
        reason, reason_problem = _reason(members, self._reason)
        problems = [problem for problem in (delta_problem, reason_problem) if problem is not None]
        _refuse([*problems, *_unknown_members(members, (self._delta, self._reason))])
        return Order(delta, reason)


def _iso_second(second: int) -> str:
    """Return a second since 1970 as ISO 8601, without its zone: what most transactions of a page share."""
    return str(created_at_to_json("iso_s", second * 1000)).removesuffix("Z")


def _text(text: str) -> str:
    return msgspec.json.encode(text).decode()


def _slot(name: str) -> str:
    """Return a member's name as a template has it."""
    return _text(name).replace("%", "%%")


def _json_object(body: bytes) -> dict[str, object]:
    value = read_json(body, integer=_integer, fraction=_fraction)
    if not isinstance(value, dict):
        raise ValidationError(
            f"the body must be a JSON object, not {_kind(value)}",
            details=(Problem("", f"must be a JSON object, not {_kind(value)}"),),
        )
    return cast("dict[str, object]", value)


def _integer(digits: str) -> int | Decimal:
    # int() refuses thousands of digits with advice about the interpreter; nobody here needs that many.
    return int(digits) if len(digits) < 100 else Decimal(digits)


def _fraction(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent of twenty digits: what is that large or small is no amount either way
        return Decimal("1e-999999" if "e-" in text.lower() else "1e999999")


def _delta(members: dict[str, object], name: str) -> tuple[int, Problem | None]:
    if name not in members:
        return 0, Problem(name, "is missing: an integer is required")
    value = members[name]
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return 0, Problem(name, f"must be an integer, not {_kind(value)}")
    if not -MAX_AMOUNT <= value <= MAX_AMOUNT:
        return 0, Problem(name, f"must be at most {MAX_AMOUNT} in size (2^53 - 1), not {shown(value)}")
    if value != int(value):
        return 0, Problem(name, f"must be an integer, not {shown(value)}")
    return int(value), None


def _reason(members: dict[str, object], name: str) -> tuple[Reason, Problem | None]:
    known = ", ".join(f"{reason.value!r}" for reason in Reason)
    if name not in members:
        return Reason.GRANT, Problem(name, f"is missing: one of {known} is required")
    value = members[name]
    if not isinstance(value, str):
        return Reason.GRANT, Problem(name, f"must be one of {known}, not {_kind(value)}")
    if value not in Reason.__members__.values():
        return Reason.GRANT, Problem(name, f"must be one of {known}, not {shown(value)}")
    return Reason(value), None


def _unknown_members(members: dict[str, object], known: tuple[str, ...]) -> list[Problem]:
    rule = f"is no member of this body (known: {', '.join(known)})" if known else "is not allowed: the body is empty"
    return [Problem(shown(name).strip("'"), rule) for name in members if name not in known]


def _refuse(problems: list[Problem]) -> None:
    if problems:
        first = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ValidationError(f"{first.field} {first.problem}{more}", details=tuple(problems[:20]))


_KINDS: dict[type, str] = {
    str: "a string",
    int: "a number",
    Decimal: "a number",
    list: "an array",
    dict: "an object",
}


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return f"a boolean ({str(value).lower()})"
    return "null" if value is None else _KINDS[type(value)]
