"""The control plane's request and response bodies and query parameters."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar, cast, get_args, get_type_hints
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta

from fake_credits.clock import Clock, from_ms
from fake_credits.contract import MAX_AMOUNT
from fake_credits.errors import ControlError, MalformedJson, Problem
from fake_credits.faults.active_rule import ActiveRule
from fake_credits.faults.gates import Gate
from fake_credits.faults.serialization import rule_to_json
from fake_credits.ledger import Account
from fake_credits.sandbox import Sandbox
from fake_credits.sandbox_options import OptionError
from fake_credits.strict_json import parse_json

__all__ = [
    "AdvanceClockBody",
    "EmptySchema",
    "FreezeClockBody",
    "JournalQuery",
    "JsonMembers",
    "JsonObject",
    "MakeSandboxBody",
    "MintTokenBody",
    "ReleaseGateBody",
    "SetUserBody",
    "TravelClockBody",
    "UserQuery",
    "WaitAtGateBody",
    "clock_json",
    "field_errors",
    "gate_json",
    "given_fields",
    "parse_body",
    "parse_datetime",
    "parse_query",
    "rule_json",
    "sandbox_json",
    "user_json",
]

T = TypeVar("T")

JsonMembers = dict[str, object]
"""A rule or a scenario: who reads faults says what it may hold."""

_NonEmptyText = Annotated[str, Meta(min_length=1, max_length=1024)]
_Balance = Annotated[int, Meta(ge=-MAX_AMOUNT, le=MAX_AMOUNT)]
_WaitSeconds = Annotated[float, Meta(gt=0, le=60)]
_Duration = Annotated[float, Meta(ge=0, le=10**12)]
_INT64_LIMIT = 2**63
_MAX_QUOTED_DIGITS = 40


class _Schema(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Be a body or a query whose members are these, and no others."""


class EmptySchema(_Schema, frozen=True):
    """Hold nothing."""


class MakeSandboxBody(_Schema, frozen=True):
    """Say how a sandbox starts; what is not given is as the server's first sandbox started."""

    application_id: _NonEmptyText | None = None
    user_id: _NonEmptyText | None = None
    balance: _Balance | None = None
    users: dict[str, _Balance] | None = None
    seed: int | None = None
    clock: _NonEmptyText | None = None
    auth_provider: _NonEmptyText | None = None
    api_key: Annotated[str, Meta(pattern=r"^[\x21-\x7e]{1,256}$")] | None = None
    faults: list[object] | JsonMembers | str | None = None
    latency: float | str | dict[str, float | str] | None = None
    gate_timeout_s: Annotated[float, Meta(gt=0, le=3600)] | None = None


class SetUserBody(_Schema, frozen=True):
    """Say what a user has; without a balance, that there is the user."""

    balance: _Balance | None = None
    application_id: _NonEmptyText | None = None


class UserQuery(_Schema, frozen=True):
    """Name an application other than the sandbox's own."""

    application_id: _NonEmptyText | None = None


class MintTokenBody(_Schema, frozen=True):
    """Say what a token is to be like."""

    user_id: _NonEmptyText | None = None
    bad: _NonEmptyText | None = None
    expires_in_s: Annotated[int, Meta(ge=1, le=10 * 366 * 86400)] | None = None
    claims: dict[str, object] = {}
    clock: Literal["sandbox", "wall"] = "sandbox"


class WaitAtGateBody(_Schema, frozen=True):
    """Say how many calls are to have come to a gate, and how long to wait for them."""

    count: Annotated[int, Meta(ge=1, le=100_000)] = 1
    limit_s: _WaitSeconds | None = None


class ReleaseGateBody(_Schema, frozen=True):
    """Say who leaves a gate, and in which order: by arrival from 0, or by user."""

    order: list[int | str] = []
    keep: bool = False


class FreezeClockBody(_Schema, frozen=True):
    """Say at which moment to stand still; now, where none is given."""

    at: _NonEmptyText | None = None


class AdvanceClockBody(_Schema, frozen=True):
    """Say how far a clock goes."""

    days: _Duration = 0
    hours: _Duration = 0
    minutes: _Duration = 0
    seconds: _Duration = 0


class TravelClockBody(_Schema, frozen=True):
    """Say to which moment a clock goes."""

    to: _NonEmptyText


class JournalQuery(_Schema, frozen=True):
    """Say which exchanges are wanted; without a word, all that are kept."""

    operation: _NonEmptyText | None = None
    user: _NonEmptyText | None = None
    status: Annotated[int, Meta(ge=0, le=599)] | None = None
    rule: _NonEmptyText | None = None
    committed: bool | None = None
    delivered: bool | None = None
    after: Annotated[int, Meta(ge=0)] | None = None


# ------------------------------------------------------------ reading


def parse_body(body: bytes, schema: type[T]) -> T:
    """Return a body in its shape; an empty one is an object without members. Raises ControlError."""
    try:
        content: object = (
            parse_json(
                body,
                parse_int=lambda digits: _limit_number(int(digits) if len(digits) < 40 else _INT64_LIMIT, digits),
                parse_float=lambda text: _limit_number(float(text), text),
            )
            if body
            else {}
        )
    except MalformedJson as error:
        raise ControlError(error.code, error.message) from None
    if not isinstance(content, dict):
        raise _validation_error("", "the body must be a JSON object")
    _reject_oversized_numbers(cast("dict[str, object]", content))
    return _convert(cast("dict[str, object]", content), schema, strict=True)


def parse_query(query: bytes, schema: type[T]) -> T:
    """Return a query in its shape; raise ControlError."""
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, strict_parsing=bool(query), errors="strict")
    except ValueError:
        raise _validation_error("", "the query must be NAME=VALUE&..., percent-encoded") from None
    parameters = dict(pairs)
    if len(parameters) < len(pairs):
        raise _validation_error("", "the query has a parameter twice")
    return _convert(parameters, schema, strict=False)


def _convert(members: Mapping[str, object], schema: type[T], *, strict: bool) -> T:
    try:
        return msgspec.convert(members, schema, strict=strict)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `$")
        field = path.strip("`").lstrip(".")
        hints = get_type_hints(schema)
        if "unknown field" in problem:
            field = problem.split("`")[1]
            problem = f"is unknown here (known: {', '.join(hints) or 'nothing'})"
        elif "missing required field" in problem:
            field, problem = problem.split("`")[1], "is missing"
        elif "enum" in problem:
            problem = f"must be one of {', '.join(map(repr, get_args(hints[field])))}"
        raise _validation_error(field, problem[:1].lower() + problem[1:]) from None


def _validation_error(field: str, problem: str) -> ControlError:
    message = f"{field}: {problem}" if field else problem
    return ControlError("validation_error", message, details=(Problem(field, problem),))


class _OversizedNumber(str):
    """Be the text of a number that no member takes: it is JSON, and refused by its member's name."""

    __slots__ = ()


def _limit_number(value: float, text: str) -> float | _OversizedNumber:
    return value if abs(value) < _INT64_LIMIT else _OversizedNumber(text)


def _reject_oversized_numbers(members: dict[str, object]) -> None:
    """Refuse a number of more than 64 bits, in whatever member; without recursion, as a body may be nested deeply."""
    pending: list[tuple[str, object]] = [*members.items()]
    while pending:
        field, value = pending.pop()
        if isinstance(value, _OversizedNumber):
            digits = value if len(value) <= _MAX_QUOTED_DIGITS else f"{value[:_MAX_QUOTED_DIGITS]}..."
            raise _validation_error(field, f"is {digits}, but a number has at most 64 bits here")
        if isinstance(value, dict):
            pending += [(f"{field}.{name}", item) for name, item in cast("dict[str, object]", value).items()]
        elif isinstance(value, list):
            pending += [(f"{field}[{number}]", each) for number, each in enumerate(cast("list[object]", value))]


# ------------------------------------------------------------ what shapes can't say


@contextmanager
def field_errors(field: str) -> Generator[None]:
    """Turn what the domain refuses with ValueError into a refusal that names a field, "" where the message does."""
    try:
        yield
    except OptionError as error:
        raise _validation_error(error.name, f"must be {error.expected}") from None
    except ValueError as error:
        raise _validation_error(field, str(error)) from None


def parse_datetime(field: str, text: str) -> datetime:
    """Return an ISO 8601 text as an aware datetime; raise ControlError."""
    with field_errors(field):
        try:
            value = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(f"{text[:60]!r} is no ISO 8601 date and time, such as 2030-01-01T00:00:00Z") from None
        if value.tzinfo is None:
            raise ValueError(f"{text[:60]!r} has no time zone: write ...Z or ...+02:00")
        return value


def given_fields(schema: msgspec.Struct) -> dict[str, Any]:
    """Return what was given, by name."""
    return {name: value for name in schema.__struct_fields__ if (value := getattr(schema, name)) is not None}


JsonObject = dict[str, object]


def sandbox_json(sandbox: Sandbox, base_url: str, *, default: Sandbox) -> JsonObject:
    """Return what a client of a sandbox has to know, and how far that sandbox has come."""
    settings = sandbox.options
    return {
        "name": sandbox.name,
        "base_url": base_url,
        "api_key": sandbox.api_key,
        "application_id": settings.application_id,
        "user_id": settings.user_id,
        "jwks_url": f"{base_url}/.well-known/jwks.json",
        "seed": sandbox.seed,
        "is_default": sandbox is default,
        "exchanges": sandbox.journal.total,
        "under_way": sandbox.journal.in_flight,
    }


def user_json(account: Account) -> JsonObject:
    """Return a user with the balance."""
    return {
        "application_id": account.application_id,
        "user_id": account.user_id,
        "balance": account.balance,
        "created_at": _iso_timestamp(account.created_at_ms),
    }


def rule_json(rule: ActiveRule) -> Mapping[str, object]:
    """Return a rule with its counts."""
    return {
        "name": rule.name,
        "fired": rule.fired,
        "matched": rule.matched,
        "is_unused": rule.is_unused,
        "script_left": list(rule.script_left()),
        "rule": rule_to_json(rule.rule),
    }


def gate_json(gate: Gate) -> JsonObject:
    """Return a gate with whom it holds, by order of arrival."""
    held = [{"user": ticket.user, "ordinal": ticket.ordinal, "call": ticket.label} for ticket in gate.held()]
    return {"name": gate.name, "is_open": gate.is_open, "arrivals": gate.arrivals, "held": held}


def clock_json(clock: Clock) -> JsonObject:
    """Return what a clock says, and what is to happen later."""
    pending = [{"at": _iso_timestamp(action.at_ms), "what": action.label} for action in clock.pending()]
    return {"mode": clock.mode, "now": _iso_timestamp(clock.now_ms()), "parked": pending}


def _iso_timestamp(ms: int) -> str:
    return from_ms(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")
