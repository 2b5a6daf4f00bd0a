"""The effects on data: stale reads, hostile pages and a newer schema; writes that are applied twice or late."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

from fake_credits.contract import Operation
from fake_credits.faults.checks import FaultError, check_choice, check_int
from fake_credits.faults.context import (
    ALL_OPERATIONS,
    LIST_OPERATIONS,
    WRITE_OPERATIONS,
    CursorFault,
    Effect,
    FaultContext,
    Phase,
)

__all__ = ["BadCursor", "DuplicateWrite", "LateWrite", "SchemaDrift", "StaleRead"]

SchemaDriftKind = Literal["extra_field", "unknown_reason", "null_for_absent", "missing_optional"]
_MAX_LAG_MS = 86_400_000


@dataclass(frozen=True)
class StaleRead(Effect):
    """Show balance and history as of one cut in the past, as a lagging replica does.

    Hides the user's writes of the last ``by_ms`` milliseconds, or the last ``by_writes``; never a user, and never what
    stood before the rule was added.
    """

    effect_name: ClassVar[str] = "stale_read"
    reveals: ClassVar[str] = "assumes to read its own writes"
    phases: ClassVar[tuple[Phase, ...]] = ("read",)
    by_ms: int = 0
    by_writes: int = 0

    def __post_init__(self) -> None:
        check_int("by_ms", self.by_ms, 0, _MAX_LAG_MS)
        check_int("by_writes", self.by_writes, 0, 1_000_000)
        if self.by_ms and self.by_writes:
            raise FaultError("by_ms and by_writes exclude each other: give one of them")
        if not self.by_ms and not self.by_writes:
            raise FaultError("by_ms and by_writes are missing or 0: give one of them, more than 0")

    @property
    def operations(self) -> frozenset[Operation]:
        """Return the reads of what writes change."""
        return frozenset({Operation.GET_BALANCE, Operation.LIST_TRANSACTIONS})

    async def apply(self, context: FaultContext) -> None:
        """Read the past."""
        context.read_stale(by_ms=self.by_ms, by_writes=self.by_writes)


@dataclass(frozen=True)
class BadCursor(Effect):
    """Turn pages as a hostile list does.

    ``kind``: ``repeat`` leads from each page to itself, ``cycle`` from the last to the first, ``expired`` refuses each
    cursor, ``empty_page`` begins with a page without entries, whose cursor leads to the first entry.
    """

    effect_name: ClassVar[str] = "bad_cursor"
    reveals: ClassVar[str] = "an endless loop; lost rows"
    phases: ClassVar[tuple[Phase, ...]] = ("list",)
    kind: CursorFault = "repeat"

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, ("repeat", "cycle", "expired", "empty_page"))

    @property
    def operations(self) -> frozenset[Operation]:
        """Return the lists."""
        return LIST_OPERATIONS

    async def apply(self, context: FaultContext) -> None:
        """Turn the page."""
        context.inject_cursor_fault(self.kind)


@dataclass(frozen=True)
class SchemaDrift(Effect):
    """Answer as a later version of the API would.

    ``kind``: ``extra_field`` adds a member, ``unknown_reason`` books for a reason that is new, ``null_for_absent`` says
    ``"nextCursor": null``, ``missing_optional`` leaves ``createdAt`` out.
    """

    effect_name: ClassVar[str] = "schema_drift"
    reveals: ClassVar[str] = "a strict decoder dies"
    phases: ClassVar[tuple[Phase, ...]] = ("after",)
    kind: SchemaDriftKind = "extra_field"

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, _OPERATIONS_BY_KIND)

    @property
    def operations(self) -> frozenset[Operation]:
        """Return the operations whose answers can differ in this way."""
        return _OPERATIONS_BY_KIND[self.kind]

    async def apply(self, context: FaultContext) -> None:
        """Change the answer."""
        context.edit_body(lambda members: self._edit(members, context.field_name))

    def _edit(self, members: dict[str, Any], field_name: Callable[[str], str]) -> None:
        records = _records(members, field_name)
        if self.kind == "null_for_absent":
            members.setdefault(field_name("nextCursor"), None)
        elif self.kind == "extra_field":
            for record in (members, *records):
                record["schemaVersion"] = 2
        elif self.kind == "missing_optional":
            for record in records:
                record.pop(field_name("createdAt"), None)
        else:
            for record in records:
                if field_name("reason") in record:
                    record[field_name("reason")] = "adjustment"


def _records(members: dict[str, Any], field_name: Callable[[str], str]) -> list[dict[str, Any]]:
    """Return the objects of a body that are a user or a transaction."""
    for list_name in ("users", "transactions"):
        records = members.get(field_name(list_name))
        if isinstance(records, list):
            return cast("list[dict[str, Any]]", records)
    return [members.get(field_name("transaction"), members)]


_OPERATIONS_BY_KIND: Mapping[str, frozenset[Operation]] = {
    "extra_field": ALL_OPERATIONS,
    "unknown_reason": frozenset({Operation.CREATE_TRANSACTION, Operation.LIST_TRANSACTIONS}),
    "null_for_absent": LIST_OPERATIONS,
    "missing_optional": ALL_OPERATIONS - {Operation.GET_BALANCE},
}


_MAX_WRITE_DELAY_MS = 86_400_000


@dataclass(frozen=True)
class DuplicateWrite(Effect):
    """Apply the write twice, as a proxy that replays does; the answer is the first one's."""

    effect_name: ClassVar[str] = "duplicate_write"
    reveals: ClassVar[str] = "no reconciliation"
    phases: ClassVar[tuple[Phase, ...]] = ("write",)

    @property
    def operations(self) -> frozenset[Operation]:
        """Return the writes."""
        return WRITE_OPERATIONS

    async def apply(self, context: FaultContext) -> None:
        """Write again."""
        context.duplicate_write()


@dataclass(frozen=True)
class LateWrite(Effect):
    """Let the write land ``after_ms`` milliseconds of the sandbox's clock later, its client hanging.

    It is checked at arrival: a refusal is answered, and the rule has not fired. Fires once unless ``times`` says more.
    """

    effect_name: ClassVar[str] = "late_write"
    needs_connection: ClassVar[bool] = True
    reveals: ClassVar[str] = "reorders; applies twice"
    phases: ClassVar[tuple[Phase, ...]] = ("write",)
    times: ClassVar[int | None] = 1
    after_ms: int

    def __post_init__(self) -> None:
        check_int("after_ms", self.after_ms, 0, _MAX_WRITE_DELAY_MS)

    @property
    def operations(self) -> frozenset[Operation]:
        """Return the writes."""
        return WRITE_OPERATIONS

    async def apply(self, context: FaultContext) -> None:
        """Put the write off."""
        context.defer_write(self.after_ms)
