"""The base class of effects, their view of an exchange, and the checks that rules and effects share."""

import re
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, fields
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Protocol, Self, cast

from fake_credits.contract import Operation
from fake_credits.contract.types import ALL_OPERATIONS
from fake_credits.errors import ApiError, did_you_mean
from fake_credits.http_message import Connection, Response
from fake_credits.text import short_repr

Phase = Literal["before", "after", "read", "write", "list"]
"""When an effect applies: before or after the operation runs, or while it reads, writes or lists."""

CursorFault = Literal["repeat", "cycle", "expired", "empty_page"]

LIST_OPERATIONS = frozenset({Operation.LIST_USERS, Operation.LIST_TRANSACTIONS})


class FaultError(ValueError):
    """An invalid rule or effect; the message names the field, its value and what is allowed."""


_DELAYS = ("delay", "delay_ms", "ms")
_SYNONYMS: Mapping[str, Collection[str]] = {
    # field names
    "application": ("app",),
    "operation": ("endpoint", "route"),
    "phase": ("stage", "when"),
    "probability": ("chance", "odds", "p", "prob", "rate"),
    "where": ("condition", "predicate"),
    "nth": ("count", "n", "number"),
    "times": ("calls", "count", "max", "n"),
    "status": ("code", "error", "status_code"),
    "limit": ("calls", "max"),
    "window_s": ("period", "seconds", "window"),
    "distribution": _DELAYS,
    "after_ms": _DELAYS,
    "by_ms": _DELAYS,
    "over_ms": _DELAYS,
    # effect and phase names
    "after": ("post", "skip"),
    "before": ("pre",),
    "close": ("disconnect",),
    "hang": ("timeout",),
    "latency": ("delay", "sleep"),
    "rate_limit": ("throttle",),
    "reset": ("disconnect",),
}
"""Field, effect and phase names, each with its common synonyms, for use in suggestions."""


def suggest_name(name: str, allowed: Collection[str], *, prefix: str = ": ") -> str:
    """Return a hint with the allowed synonyms of an unknown name, or else a similar name, or "" if there is neither."""
    meant = [meaning for meaning, names in _SYNONYMS.items() if name.lower() in names and meaning in allowed]
    note = ", which can be a fixed number of milliseconds" if meant == ["distribution"] else ""
    return f"{prefix}did you mean {join_choices(meant)}{note}?" if meant else did_you_mean(name, allowed, prefix=prefix)


class FaultValue:
    """A rule, an effect or a distribution: a frozen dataclass that is validated once, when it is created.

    Its ``repr`` is the shortest code that creates it; its ``str`` serves as an id in ``parametrize``.
    """

    _implied: Mapping[str, object] = MappingProxyType({})

    def __new__(cls, *args: object, **kwargs: object) -> Self:
        """Create the value; raise TypeError if an argument is unknown or missing.

        The message lists the valid arguments and, for an unknown one, suggests a similar name.
        """
        specs = getattr(cls, "__dataclass_fields__", {})
        problem = ""
        for name in [*specs][len(args) :]:
            if default_of(specs[name]) is MISSING and name not in kwargs:
                problem = f"is missing the argument {name!r}"
        for name in kwargs:
            if name not in specs:
                problem = f"got an unexpected keyword argument {name!r}{suggest_name(name, specs)}"
        if problem:
            raise TypeError(f"{cls.__name__}() {problem} (it takes: {', '.join(specs) or 'no arguments'})")
        return super().__new__(cls)

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, object]]:
        """Return the arguments that recreate the value, for `copy` and `pickle`."""
        return (), {spec.name: getattr(self, spec.name) for spec in fields(cast("Any", self))}

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
        """Yield each explicit field's name and value; the name is empty if the value can be passed positionally."""
        explicit, is_positional = explicit_fields(self), True
        for spec in fields(cast("Any", self)):
            is_positional = is_positional and spec.name in explicit and not spec.kw_only
            if spec.name in explicit:
                yield "" if is_positional else spec.name, explicit[spec.name]

    def _imply(self, **values: object) -> None:
        """Set omitted fields to values that follow from other fields."""
        for name in values.keys() - changed_fields(self).keys():
            object.__setattr__(self, name, values[name])
        object.__setattr__(self, "_implied", values)


def changed_fields(value: FaultValue) -> dict[str, Any]:
    """Return the fields of a value that differ from their defaults, including implied ones."""
    current = {spec.name: (getattr(value, spec.name), default_of(spec)) for spec in fields(cast("Any", value))}
    return {name: value for name, (value, default) in current.items() if value != default}


def explicit_fields(value: FaultValue) -> dict[str, Any]:
    """Return the fields of a value that differ from their defaults and aren't implied by other fields."""
    implied = value._implied.items()  # pyright: ignore[reportPrivateUsage]
    return {name: value for name, value in changed_fields(value).items() if (name, value) not in implied}


def default_of(field: "Field[Any]") -> Any:
    """Return the default of a dataclass field, or MISSING if it has none."""
    return field.default if field.default_factory is MISSING else field.default_factory()


class Delivery(Protocol):
    """A way to send a response; ``is_complete`` says whether the client gets all of it."""

    is_complete: bool

    async def send(self, response: Response | None, connection: Connection) -> None:
        """Send the response, or the part that the fault allows, over a connection."""


class FaultContext(Protocol):
    """An exchange as an effect sees it.

    A response that is set before the operation runs replaces the operation; one that is set afterwards replaces only
    the operation's response.
    """

    def random(self) -> float:
        """Return this rule's next random number in [0, 1) for this call."""
        ...

    async def sleep(self, ms: float) -> None:
        """Wait for ``ms`` milliseconds."""

    async def hold_at_gate(self, gate_name: str) -> None:
        """Wait until the gate is released; raise GatewayTimeout if that takes longer than the gate's time limit."""

    def respond_with_error(self, error: ApiError, *, status: int | None = None, retry_after: str = "") -> None:
        """Respond with an error body in the contract's format."""

    def respond(self, status: int, body: bytes, media_type: str) -> None:
        """Respond with a status, a body and its media type."""

    def edit_body(self, edit: Callable[[dict[str, Any]], None]) -> None:
        """Pass the body of a successful response to ``edit``; its members are named as in the contract."""

    def field_name(self, default_name: str) -> str:
        """Return the contract's name for the member that is called ``default_name`` by default."""
        ...

    def body_size(self) -> int:
        """Return the size of the response's body in bytes."""
        ...

    def format_retry_after(self, seconds: float, form: str) -> str:
        """Return a Retry-After value in the given form, or in the contract's form if ``form`` is empty."""
        ...

    def set_delivery(self, delivery: Delivery) -> None:
        """Set how the response is sent; if this is called before the operation runs, the operation is skipped."""

    def read_stale(self, *, by_ms: int, by_writes: int) -> None:
        """Read the balance and history without the user's newest writes."""

    def duplicate_write(self) -> None:
        """Execute the write twice."""

    def defer_write(self, after_ms: int) -> None:
        """Reject an invalid write now; execute a valid one after ``after_ms`` milliseconds, without responding."""

    def inject_cursor_fault(self, cursor_fault: CursorFault) -> None:
        """Apply a fault to the pagination of the list."""

    def skew_token_clock(self, skew_s: int) -> None:
        """Verify the token against a clock that is ``skew_s`` seconds fast."""


class Effect(FaultValue):
    """What a rule does to a call: a frozen dataclass whose fields are the effect's attributes in JSON.

    ``effect_name``: its name in files. ``phases``: when it can apply; the first is the default. ``operations``: those
    it can affect. ``only_client``: the only kind of client that it can affect, or empty if it can affect both.
    ``stacks``: whether the following rules are tried too. ``times``: how many times a rule can fire by default, or None
    for no limit. ``counts_passes``: whether it records the calls that it lets pass, so that `effect_for` can use them.
    ``reveals``: the client bug that it exposes. ``needs_connection``: whether it breaks or holds the connection, which
    ASGI can't do.
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
        """Return the effect on a call for which the rule would fire, or None to let the call pass.

        ``pass_times_ms`` are the times of the calls that the rule has let pass; with ``per="user"``, only those of the
        call's user.
        """
        return self

    def record_pass(self, pass_times_ms: deque[int], now_ms: int) -> None:
        """Record a matching call that passed."""

    async def apply(self, context: FaultContext) -> None:
        """Apply the effect to one exchange."""
        raise NotImplementedError


def invalid_value(field: str, value: object, rule: str) -> FaultError:
    """Return an error for an invalid value, worded to suit Python, JSON and TOML; ``rule`` says what is allowed."""
    if value is None:
        return FaultError(f"{field} has no value: {rule}")
    return FaultError(f"{field} is {str(value).lower() if isinstance(value, bool) else short_repr(value)}: {rule}")


def check_number(field: str, value: object, low: float, high: float) -> None:
    """Raise FaultError unless a value is a number from ``low`` to ``high``; NaN is rejected."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise invalid_value(field, value, "it must be a number")
    if not low <= value <= high:
        raise invalid_value(field, value, f"it must be from {low:.15g} to {high:.15g}")


def check_int(field: str, value: object, low: int, high: int) -> None:
    """Raise FaultError unless a value is an integer from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise invalid_value(field, value, "it must be an integer")
    if not low <= value <= high:
        raise invalid_value(field, value, f"it must be from {low} to {high}")


def check_text(field: str, value: object, min_chars: int, max_chars: int) -> None:
    """Raise FaultError unless a value is a string of ``min_chars`` to ``max_chars`` characters."""
    if not isinstance(value, str) or not min_chars <= len(value) <= max_chars:
        length = f"{min_chars} to" if min_chars else "at most"
        raise invalid_value(field, value, f"it must be a string of {length} {max_chars} characters")


def check_choice(field: str, value: object, choices: Collection[str], *, of: str = "") -> None:
    """Raise FaultError unless a value is one of the choices.

    ``of``, such as " for reset", follows the choices in the message.
    """
    if not isinstance(value, str) or value not in choices:
        hint = suggest_name(value, choices, prefix="; ") if isinstance(value, str) else ""
        raise invalid_value(field, value, f"it must be {join_choices(choices)}{of}{hint}")


def join_choices(choices: Iterable[str]) -> str:
    """Format the non-empty choices as ``'a', 'b' or 'c'``."""
    *others, last = [repr(str(choice)) for choice in choices if choice]
    return f"{', '.join(others)} or {last}" if others else last


def format_kwargs(kwargs: Mapping[str, object], separator: str = ", ") -> str:
    """Format names and values as Python keyword arguments."""
    return separator.join(f"{name}={short_repr(value)}" for name, value in kwargs.items())
