"""The base class of effects, the exchange as they see it, and the checks of what a fault declares."""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, fields
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Protocol, cast

from fake_credits.contract import Operation
from fake_credits.errors import ApiError
from fake_credits.http_message import Connection, Response
from fake_credits.text import short_repr

__all__ = [
    "ALL_OPERATIONS",
    "LIST_OPERATIONS",
    "READ_OPERATIONS",
    "WRITE_OPERATIONS",
    "CursorFault",
    "Delivery",
    "Effect",
    "FaultContext",
    "FaultError",
    "FaultValue",
    "Phase",
    "changed_fields",
    "check_choice",
    "check_int",
    "check_number",
    "check_text",
    "default_of",
    "explicit_fields",
    "format_kwargs",
]

Phase = Literal["before", "after", "read", "write", "list"]
"""When an effect works: before the decision or after it; while the operation reads, writes or lists."""

CursorFault = Literal["repeat", "cycle", "expired", "empty_page"]

ALL_OPERATIONS = frozenset(Operation)
WRITE_OPERATIONS = frozenset({Operation.CREATE_USER, Operation.CREATE_TRANSACTION})
READ_OPERATIONS = ALL_OPERATIONS - WRITE_OPERATIONS
LIST_OPERATIONS = frozenset({Operation.LIST_USERS, Operation.LIST_TRANSACTIONS})


class FaultError(ValueError):
    """The error of a rule that can't be; it names the field, its value and the allowed values."""


class FaultValue:
    """A rule, an effect or a distribution: a frozen dataclass that is checked once, when it is made.

    Its ``repr`` is the shortest code that makes it; its ``str`` serves as an id under parametrize.
    """

    _implied: Mapping[str, object] = MappingProxyType({})

    def __repr__(self) -> str:
        arguments = (f"{name}={value!r}" if name else repr(value) for name, value in self._arguments())
        return f"{type(self).__name__}({', '.join(arguments)})"

    def __str__(self) -> str:
        arguments = (
            f"{name}={value}" if name and not isinstance(value, str) else str(getattr(value, "__name__", value))
            for name, value in self._arguments()
        )
        return "-".join(arguments)

    def _arguments(self) -> Iterator[tuple[str, object]]:
        """Yield the explicit fields; the first ones without a name, as long as none is left out."""
        explicit, is_positional = explicit_fields(self), True
        for spec in fields(cast("Any", self)):
            is_positional = is_positional and spec.name in explicit and not spec.kw_only
            if spec.name in explicit:
                yield "" if is_positional else spec.name, explicit[spec.name]

    def _imply(self, **values: object) -> None:
        """Set fields that were left out to values that follow from other fields."""
        for name in values.keys() - changed_fields(self).keys():
            object.__setattr__(self, name, values[name])
        object.__setattr__(self, "_implied", values)


def changed_fields(value: FaultValue) -> dict[str, Any]:
    """Return the fields of a value that differ from their defaults, also those that follow from others."""
    current = {spec.name: (getattr(value, spec.name), default_of(spec)) for spec in fields(cast("Any", value))}
    return {name: value for name, (value, default) in current.items() if value != default}


def explicit_fields(value: FaultValue) -> dict[str, Any]:
    """Return the fields of a value that are neither at their default nor follow from others."""
    implied = value._implied.items()  # pyright: ignore[reportPrivateUsage]
    return {name: value for name, value in changed_fields(value).items() if (name, value) not in implied}


def default_of(field: "Field[Any]") -> Any:
    """Return the default of a dataclass's field, MISSING if it has none."""
    return field.default if field.default_factory is MISSING else field.default_factory()


class Delivery(Protocol):
    """How a response reaches the client; ``is_complete`` if all of it does."""

    is_complete: bool

    async def send(self, response: Response | None, connection: Connection) -> None:
        """Send the response, or as much of it as the fault lets through, over a connection."""


class FaultContext(Protocol):
    """An exchange as an effect sees it.

    A response that is set before the decision takes its place; after it, only the response changes.
    """

    def random(self) -> float:
        """Return the next number from 0 up to 1 that is keyed by seed, rule and whose call this is."""
        ...

    async def sleep(self, ms: float) -> None:
        """Wait."""

    async def hold_at_gate(self, gate_name: str) -> None:
        """Wait until the gate of this name is released; raise GatewayTimeout at the gate's limit."""

    def respond_with_error(self, error: ApiError, *, status: int | None = None, retry_after: str = "") -> None:
        """Respond with the contract's error body."""

    def respond(self, status: int, body: bytes, media_type: str) -> None:
        """Respond with bytes."""

    def edit_body(self, edit: Callable[[dict[str, Any]], None]) -> None:
        """Change the members of a successful response's body, which have the contract's names."""

    def field_name(self, default_name: str) -> str:
        """Return the contract's name of a member."""
        ...

    def body_size(self) -> int:
        """Return the size of the response's body in bytes."""
        ...

    def format_retry_after(self, seconds: float, form: str) -> str:
        """Return the value of Retry-After in a form, or in the contract's where the form is empty."""
        ...

    def set_delivery(self, delivery: Delivery) -> None:
        """Set how the response is delivered; before the decision, there is no other response."""

    def read_stale(self, *, by_ms: int, by_writes: int) -> None:
        """Read balance and history without the user's newest writes."""

    def duplicate_write(self) -> None:
        """Apply the write twice."""

    def defer_write(self, after_ms: int) -> None:
        """Check the write now; respond with a refusal, or hang and apply the write later."""

    def inject_cursor_fault(self, cursor_fault: CursorFault) -> None:
        """Tamper with the list's cursor."""

    def skew_token_clock(self, skew_s: int) -> None:
        """Verify the token by a clock that is so many seconds fast."""


class Effect(FaultValue):
    """What a rule does to a call: a frozen dataclass whose fields are its attributes in JSON.

    ``effect_name`` is its name in files. ``phases`` are those it can have; the first is the default. ``operations``:
    those it can touch. ``only_client``: the only kind of client it can touch, empty for both. ``stacks``: the following
    rules are tried too. ``times``: how often a rule fires by default, None without a limit. ``counts_passes``: it
    records the calls that it lets pass, and decides in `effect_for`. ``reveals``: the bug of a client that it exposes.
    ``needs_connection``: it breaks or holds the connection, which ASGI can't do.
    """

    effect_name: ClassVar[str] = ""
    phases: ClassVar[tuple[Phase, ...]] = ("before", "after")
    operations: frozenset[Operation] = ALL_OPERATIONS
    only_client: Literal["server", "user", ""] = ""
    stacks: ClassVar[bool] = False
    times: ClassVar[int | None] = None
    counts_passes: ClassVar[bool] = False
    reveals: ClassVar[str] = ""
    needs_connection: ClassVar[bool] = False

    def __str__(self) -> str:
        return "-".join(filter(None, [self.effect_name, super().__str__()]))

    def __init_subclass__(cls) -> None:
        cls.effect_name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower().strip("_")

    def effect_for(self, pass_times_ms: deque[int], now_ms: int) -> "Effect | None":
        """Return the effect on a call for which the rule would fire, None to let it pass.

        ``pass_times_ms`` belongs to the rule, or to the user if the rule counts each user's calls apart.
        """
        return self

    def record_pass(self, pass_times_ms: deque[int], now_ms: int) -> None:
        """Record a matching call that was let pass."""

    async def apply(self, context: FaultContext) -> None:
        """Apply the effect to one exchange."""
        raise NotImplementedError


def check_number(field: str, value: object, low: float, high: float) -> None:
    """Raise FaultError unless a value is a number from ``low`` to ``high``; NaN isn't one."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise FaultError(f"{field} is {short_repr(value)}, a {type(value).__name__}: it must be a number")
    if not low <= value <= high:
        raise FaultError(f"{field} is {short_repr(value)}: it must be from {low:g} to {high:g}")


def check_int(field: str, value: object, low: int, high: int) -> None:
    """Raise FaultError unless a value is an integer from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise FaultError(f"{field} is {short_repr(value)}, a {type(value).__name__}: it must be an integer")
    if not low <= value <= high:
        raise FaultError(f"{field} is {short_repr(value)}: it must be from {low} to {high}")


def check_text(field: str, value: object, min_chars: int, max_chars: int) -> None:
    """Raise FaultError unless a value is a text of ``min_chars`` to ``max_chars`` characters that UTF-8 has."""
    if not isinstance(value, str) or not min_chars <= len(value) <= max_chars:
        length = f"{min_chars} to" if min_chars else "at most"
        raise FaultError(f"{field} is {short_repr(value)}: it must be a text of {length} {max_chars} characters")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise FaultError(f"{field} is {short_repr(value)}: it has a lone surrogate, which no request can say")


def check_choice(field: str, value: object, allowed: Iterable[object]) -> None:
    """Raise FaultError unless a value is one of the allowed ones."""
    choices = tuple(allowed)
    if not isinstance(value, str | int | None) or value not in choices:
        raise FaultError(f"{field} is {short_repr(value)}: choose {', '.join(map(repr, choices))}")


def format_kwargs(kwargs: Mapping[str, object]) -> str:
    """Return names and values as Python writes keyword arguments."""
    return ", ".join(f"{name}={short_repr(value)}" for name, value in kwargs.items())
