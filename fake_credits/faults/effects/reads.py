"""Own the effects on what is read: old data, hostile pages, a schema a version ahead."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

from fake_credits.contract import Operation
from fake_credits.faults.checks import FaultError, choice, whole_in
from fake_credits.faults.effects.base import ALL, LISTS, Effect, Phase
from fake_credits.faults.stage import PageTrick, Stage

__all__ = ["BadCursor", "Drift", "Stale"]

DriftKind = Literal["extra_field", "unknown_reason", "null_for_absent", "missing_optional"]
_DAY_MS = 86_400_000


@dataclass(frozen=True)
class Stale(Effect):
    """Show balance and history as of one cut in the past, as a lagging replica does.

    Hides the user's writes of the last ``by_ms`` milliseconds, or the last ``by_writes``; never a user, and never what
    stood before the rule was added.
    """

    word: ClassVar[str] = "stale"
    exposes: ClassVar[str] = "assumes to read its own writes"
    phases: ClassVar[tuple[Phase, ...]] = ("read",)
    by_ms: int = 0
    by_writes: int = 0

    def __post_init__(self) -> None:
        whole_in("by_ms", self.by_ms, 0, _DAY_MS)
        whole_in("by_writes", self.by_writes, 0, 1_000_000)
        if self.by_ms and self.by_writes:
            raise FaultError("by_ms and by_writes exclude each other: give one of them")
        if not self.by_ms and not self.by_writes:
            raise FaultError("by_ms and by_writes are missing or 0: give one of them, more than 0")

    @property
    def operations(self) -> frozenset[Operation]:
        """Return the reads of what writes change."""
        return frozenset({Operation.GET_BALANCE, Operation.LIST_TRANSACTIONS})

    async def apply(self, stage: Stage) -> None:
        """Read the past."""
        stage.read_as_of(by_ms=self.by_ms, by_writes=self.by_writes)


@dataclass(frozen=True)
class BadCursor(Effect):
    """Turn pages as a hostile list does.

    ``kind``: ``repeat`` leads from each page to itself, ``cycle`` from the last to the first, ``expired`` refuses each
    cursor, ``empty_page`` begins with a page without entries, whose cursor leads to the first entry.
    """

    word: ClassVar[str] = "bad_cursor"
    exposes: ClassVar[str] = "an endless loop; lost rows"
    phases: ClassVar[tuple[Phase, ...]] = ("list",)
    kind: PageTrick = "repeat"

    def __post_init__(self) -> None:
        choice("kind", self.kind, ("repeat", "cycle", "expired", "empty_page"))

    @property
    def operations(self) -> frozenset[Operation]:
        """Return the lists."""
        return LISTS

    async def apply(self, stage: Stage) -> None:
        """Turn the page."""
        stage.turn_pages(self.kind)


@dataclass(frozen=True)
class Drift(Effect):
    """Answer as a later version of the API would.

    ``kind``: ``extra_field`` adds a member, ``unknown_reason`` books for a reason that is new, ``null_for_absent`` says
    ``"nextCursor": null``, ``missing_optional`` leaves ``createdAt`` out.
    """

    word: ClassVar[str] = "drift"
    exposes: ClassVar[str] = "a strict decoder dies"
    phases: ClassVar[tuple[Phase, ...]] = ("after",)
    kind: DriftKind = "extra_field"

    def __post_init__(self) -> None:
        choice("kind", self.kind, _CHANGES)

    @property
    def operations(self) -> frozenset[Operation]:
        """Return the operations whose answers can differ in this way."""
        return _OPERATIONS[self.kind]

    async def apply(self, stage: Stage) -> None:
        """Change the answer."""
        change = _CHANGES[self.kind]
        stage.edit(lambda members: change(members, stage.name_of))


def _things(members: dict[str, Any], name_of: Callable[[str], str]) -> list[dict[str, Any]]:
    """Return the objects of a body that are a user or a transaction."""
    for plural in ("users", "transactions"):
        listed = members.get(name_of(plural))
        if isinstance(listed, list):
            return cast("list[dict[str, Any]]", listed)
    return [members.get(name_of("transaction"), members)]


def _add_field(members: dict[str, Any], name_of: Callable[[str], str]) -> None:
    for thing in (members, *_things(members, name_of)):
        thing["schemaVersion"] = 2


def _new_reason(members: dict[str, Any], name_of: Callable[[str], str]) -> None:
    for thing in _things(members, name_of):
        if name_of("reason") in thing:
            thing[name_of("reason")] = "adjustment"


def _null(members: dict[str, Any], name_of: Callable[[str], str]) -> None:
    members.setdefault(name_of("nextCursor"), None)


def _drop_optional(members: dict[str, Any], name_of: Callable[[str], str]) -> None:
    for thing in _things(members, name_of):
        thing.pop(name_of("createdAt"), None)


_CHANGES: Mapping[str, Callable[[dict[str, Any], Callable[[str], str]], None]] = {
    "extra_field": _add_field,
    "unknown_reason": _new_reason,
    "null_for_absent": _null,
    "missing_optional": _drop_optional,
}

_OPERATIONS: Mapping[str, frozenset[Operation]] = {
    "extra_field": ALL,
    "unknown_reason": frozenset({Operation.CREATE_TRANSACTION, Operation.LIST_TRANSACTIONS}),
    "null_for_absent": LISTS,
    "missing_optional": ALL - {Operation.GET_BALANCE},
}
