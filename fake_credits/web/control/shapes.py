"""Own what bodies and queries of the control plane may hold, one struct each; know nothing of what becomes of them."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar, cast, get_args, get_type_hints
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta

from fake_credits.contract import MAX_AMOUNT
from fake_credits.errors import ControlError, MalformedJson, Problem
from fake_credits.web.strict import read_json

__all__ = [
    "Advance",
    "Empty",
    "Freeze",
    "JournalQuery",
    "NewSandbox",
    "NewToken",
    "Release",
    "Rules",
    "Travel",
    "UserQuery",
    "UserState",
    "WaitForArrivals",
    "members",
    "moment",
    "naming",
    "read_body",
    "read_query",
]

T = TypeVar("T")

Rules = dict[str, object]
"""A rule or a scenario: who reads faults says what it may hold."""

_Text = Annotated[str, Meta(min_length=1, max_length=1024)]
_Balance = Annotated[int, Meta(ge=-MAX_AMOUNT, le=MAX_AMOUNT)]
_Seconds = Annotated[float, Meta(gt=0, le=60)]
_Share = Annotated[float, Meta(ge=0, le=10**12)]
_INTEGER_LIMIT = 2**63
_SHOWN = 40


class _Shape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Be a body or a query whose members are these, and no others."""


class Empty(_Shape, frozen=True):
    """Hold nothing."""


class NewSandbox(_Shape, frozen=True):
    """Say how a sandbox starts; what is not given is as the server's first sandbox started."""

    application_id: _Text | None = None
    user_id: _Text | None = None
    balance: _Balance | None = None
    users: dict[str, _Balance] | None = None
    seed: int | None = None
    clock: _Text | None = None
    jwt: _Text | None = None
    api_key: Annotated[str, Meta(pattern=r"^[\x21-\x7e]{1,256}$")] | None = None
    faults: list[object] | Rules | str | None = None
    latency: float | str | dict[str, float | str] | None = None
    limit_s: Annotated[float, Meta(gt=0, le=3600)] | None = None


class UserState(_Shape, frozen=True):
    """Say what a user has; without a balance, that there is the user."""

    balance: _Balance | None = None
    application_id: _Text | None = None


class UserQuery(_Shape, frozen=True):
    """Name an application other than the sandbox's own."""

    application_id: _Text | None = None


class NewToken(_Shape, frozen=True):
    """Say what a token is to be like."""

    user_id: _Text | None = None
    bad: _Text | None = None
    expires_in_s: Annotated[int, Meta(ge=1, le=10 * 366 * 86400)] | None = None
    claims: dict[str, object] = {}
    clock: Literal["sandbox", "wall"] = "sandbox"


class WaitForArrivals(_Shape, frozen=True):
    """Say how many calls are to have come to a gate, and how long to wait for them."""

    count: Annotated[int, Meta(ge=1, le=100_000)] = 1
    limit_s: _Seconds | None = None


class Release(_Shape, frozen=True):
    """Say who leaves a gate, and in which order: by arrival from 0, or by user."""

    order: list[int | str] = []
    keep: bool = False


class Freeze(_Shape, frozen=True):
    """Say at which moment to stand still; now, where none is given."""

    at: _Text | None = None


class Advance(_Shape, frozen=True):
    """Say how far a clock goes."""

    days: _Share = 0
    hours: _Share = 0
    minutes: _Share = 0
    seconds: _Share = 0


class Travel(_Shape, frozen=True):
    """Say to which moment a clock goes."""

    to: _Text


class JournalQuery(_Shape, frozen=True):
    """Say which exchanges are wanted; without a word, all that are kept."""

    operation: _Text | None = None
    user: _Text | None = None
    status: Annotated[int, Meta(ge=0, le=599)] | None = None
    rule: _Text | None = None
    committed: bool | None = None
    delivered: bool | None = None
    after: Annotated[int, Meta(ge=0)] | None = None


# ------------------------------------------------------------ reading


def read_body(body: bytes, shape: type[T]) -> T:
    """Return a body in its shape; an empty one is an object without members. Raises ControlError."""
    try:
        told: object = read_json(body, integer=_integer, fraction=_fraction) if body else {}
    except MalformedJson as error:
        raise ControlError(error.code, error.message) from None
    if not isinstance(told, dict):
        raise _invalid("", "the body must be a JSON object")
    _check_numbers(cast("dict[str, object]", told))
    return _shaped(cast("dict[str, object]", told), shape, strict=True)


def read_query(query: bytes, shape: type[T]) -> T:
    """Return a query in its shape; raise ControlError."""
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, strict_parsing=bool(query), errors="strict")
    except ValueError:
        raise _invalid("", "the query must be NAME=VALUE&..., percent-encoded") from None
    told = dict(pairs)
    if len(told) < len(pairs):
        raise _invalid("", "the query has a parameter twice")
    return _shaped(told, shape, strict=False)


def _shaped(told: Mapping[str, object], shape: type[T], *, strict: bool) -> T:
    try:
        return msgspec.convert(told, shape, strict=strict)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        field = path.strip("`").lstrip(".")
        hints = get_type_hints(shape)
        if "unknown field" in text:
            field = text.split("`")[1]
            text = f"is unknown here (known: {', '.join(hints) or 'nothing'})"
        elif "missing required field" in text:
            field, text = text.split("`")[1], "is missing"
        elif "enum" in text:
            text = f"must be one of {', '.join(map(repr, get_args(hints[field])))}"
        raise _invalid(field, text[:1].lower() + text[1:]) from None


def _invalid(field: str, problem: str) -> ControlError:
    message = f"{field}: {problem}" if field else problem
    return ControlError("validation_error", message, details=(Problem(field, problem),))


class _TooLarge(str):
    """Be the text of a number that no member takes: it is JSON, and refused by its member's name."""

    __slots__ = ()


def _integer(digits: str) -> "int | _TooLarge":
    value = int(digits) if len(digits) < 40 else _INTEGER_LIMIT
    return value if abs(value) < _INTEGER_LIMIT else _TooLarge(digits)


def _fraction(text: str) -> "float | _TooLarge":
    value = float(text)
    return value if abs(value) < _INTEGER_LIMIT else _TooLarge(text)


def _check_numbers(told: dict[str, object]) -> None:
    """Refuse a number of more than 64 bits, in whatever member; without recursion, as a body may be nested deeply."""
    ahead: list[tuple[str, object]] = [*told.items()]
    while ahead:
        field, value = ahead.pop()
        if isinstance(value, _TooLarge):
            said = value if len(value) <= _SHOWN else f"{value[:_SHOWN]}..."
            raise _invalid(field, f"is {said}, but a number has at most 64 bits here")
        if isinstance(value, dict):
            ahead += [(f"{field}.{name}", each) for name, each in cast("dict[str, object]", value).items()]
        elif isinstance(value, list):
            ahead += [(f"{field}[{number}]", each) for number, each in enumerate(cast("list[object]", value))]


# ------------------------------------------------------------ what shapes can't say


@contextmanager
def naming(field: str) -> Generator[None]:
    """Turn what the domain refuses with ValueError into a refusal that names a field, "" where the message does."""
    try:
        yield
    except ValueError as error:
        raise _invalid(field, str(error)) from None


def moment(field: str, text: str) -> datetime:
    """Return an ISO 8601 text as an aware datetime; raise ControlError."""
    with naming(field):
        try:
            value = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(f"{text[:60]!r} is no ISO 8601 date and time, such as 2030-01-01T00:00:00Z") from None
        if value.tzinfo is None:
            raise ValueError(f"{text[:60]!r} has no time zone: write ...Z or ...+02:00")
        return value


def members(shape: msgspec.Struct) -> dict[str, Any]:
    """Return what was given, by name."""
    return {name: value for name in shape.__struct_fields__ if (value := getattr(shape, name)) is not None}
