"""The options of an exploration, and how they are parsed and checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, cast

from fake_credits.errors import did_you_mean
from fake_credits.explore.schedules import (
    FAULTS,
    MIN_FAULT_SIMILARITY,
    CallFault,
    ScheduleError,
    parse_fault,
    parse_schedule,
)
from fake_credits.faults.effects.base import Effect
from fake_credits.faults.rule import Rule

DEFAULT_FAULTS = tuple(fault for name, fault in FAULTS.items() if name != "stale")
"""The faults that are injected by default."""

MAX_DEPTH = 3
MAX_BUDGET = 1_000_000
_MAX_SECONDS = 86_400

EXPLORE_KINDS: tuple[str, ...] = ("default", "writes", "same", "all")
"""The values of ``what`` other than fault names."""

ExploreKind = Literal["default", "writes", "same", "all"]

_OPTION_NAMES = ("what", "faults", "depth", "budget", "seconds", "strict", "schedules", "orders")


@dataclass(frozen=True, kw_only=True)
class ExploreOptions:
    """The options of an exploration.

    If ``kind`` is ``"writes"``, faults are injected at writes only. If it is ``"same"``, a run that fails under a fault
    is a red finding and fails the test, because the application is expected to hide faults. If it is ``"all"``, every
    effect that applies to an operation is injected. ``faults`` replaces the default faults. ``depth`` is the maximum
    number of faults per run. ``budget`` is the maximum number of runs with faults or a different order of calls, and
    ``seconds`` limits their total duration. If ``strict`` is true, amber findings also fail the test. ``schedules`` are
    run instead of planned ones. If ``orders`` is true, concurrent calls are also made in every order that can make a
    difference. If ``is_required`` is true, a test that can't be explored fails. If ``is_off`` is true, a test runs once
    and counts as not explored.

    Raises ValueError if a field is invalid; the message names the field and its allowed values.
    """

    kind: ExploreKind = "default"
    faults: tuple[CallFault, ...] = DEFAULT_FAULTS
    depth: int = 2
    budget: int = 200
    seconds: float = 10.0
    strict: bool = False
    schedules: tuple[str, ...] = ()
    orders: bool = False
    is_required: bool = False
    is_off: bool = False

    def __post_init__(self) -> None:
        if self.kind not in EXPLORE_KINDS:
            raise ValueError(f"kind must be one of {', '.join(EXPLORE_KINDS)}, got {self.kind!r}")
        _check_number("depth", self.depth, 1, MAX_DEPTH, int)
        _check_number("budget", self.budget, 1, MAX_BUDGET, int)
        _check_number("seconds", self.seconds, 0.001, _MAX_SECONDS, (int, float))
        for name, value in (("strict", self.strict), ("orders", self.orders)):
            if not isinstance(value, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ValueError(f"{name} must be true or false, got {value!r}")
        for schedule in self.schedules:
            parse_schedule(schedule)

    def with_what(self, what: object) -> Self:
        """Return a copy that explores ``what``, which is a kind, a fault or a list of faults."""
        if isinstance(what, str) and what in EXPLORE_KINDS:
            return replace(self, kind=cast("ExploreKind", what), faults=DEFAULT_FAULTS)
        if isinstance(what, str) and what not in FAULTS:
            hint = did_you_mean(what, (*EXPLORE_KINDS, *FAULTS), prefix="; ", min_similarity=MIN_FAULT_SIMILARITY)
            kinds, faults = ", ".join(EXPLORE_KINDS), ", ".join(FAULTS)
            raise ValueError(f"{what!r} is neither a kind ({kinds}) nor a fault ({faults}){hint}")
        return replace(self, kind="default", faults=_parse_faults(what))

    def updated(self, given: Mapping[str, object]) -> Self:
        """Return a copy with some options replaced; raise ValueError for an unknown option or an invalid value."""
        options, changes = self, dict[str, Any]()
        if "faults" in given and self.kind == "all":
            options = replace(self, kind="default")
        for name, value in given.items():
            if name not in _OPTION_NAMES:
                raise ValueError(
                    f"unknown option {name!r}{did_you_mean(str(name), _OPTION_NAMES)}"
                    f" (known: {', '.join(_OPTION_NAMES)})"
                )
            if name == "what":
                options = options.with_what(value)
                if "faults" in given and (options.kind == "all" or value not in EXPLORE_KINDS):
                    raise ValueError(f"what={value!r} selects the faults itself, so it can't be combined with faults")
            elif name == "faults":
                changes["faults"] = _parse_faults(value)
            elif name == "schedules":
                changes["schedules"] = _parse_texts(value)
            else:
                changes[name] = value
        return replace(options, **changes)


def parse_what(text: str) -> str | list[str]:
    """Parse the text of the ``what`` option: a kind, a fault or a comma-separated list of faults."""
    return [part.strip() for part in text.split(",")] if "," in text else text


def parse_explore(value: object, defaults: ExploreOptions) -> ExploreOptions | None:
    """Return the options for a marker's ``explore`` argument, or None if it is False, which turns exploration off.

    Raises ValueError for anything other than True, False, a kind, a fault, a list of faults or a mapping of options.
    """
    if value is False:
        return None
    required = replace(defaults, is_required=True)
    if value is True:
        return required
    if isinstance(value, Mapping):
        return required.updated(cast("Mapping[str, object]", value))
    if not isinstance(value, str | Sequence | Effect | Rule):
        expected = 'True, False, a kind such as "writes", a fault, a list of faults or a mapping'
        raise ValueError(f"explore must be {expected}, got {value!r:.200}")
    return required.with_what(cast("object", value))


def _parse_faults(value: object) -> tuple[CallFault, ...]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(map(parse_fault, cast("Sequence[object]", value)))
    return (parse_fault(value),)


def _parse_texts(value: object) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, Sequence) or not all(isinstance(text, str) for text in cast("Sequence[object]", values)):
        raise ScheduleError(f"schedules must be a string or a list of strings, got {value!r}")
    if not values:
        raise ScheduleError("schedules must contain at least one schedule, such as '2:lost_after'")
    return tuple(cast("Sequence[str]", values))


def _check_number(name: str, value: object, low: float, high: float, types: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, types) or not low <= cast("float", value) <= high:
        noun = "an integer" if types is int else "a number"
        raise ValueError(f"{name} must be {noun} from {low} to {high}, got {value!r}")
