"""Effects on data: stale reads, bad cursors, a newer schema, and writes that are applied twice or late."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from fake_credits.contract import Operation
from fake_credits.contract.types import ALL_OPERATIONS, WRITE_OPERATIONS
from fake_credits.faults.effects.base import (
    LIST_OPERATIONS,
    CursorFault,
    Effect,
    FaultContext,
    FaultError,
    check_choice,
    check_int,
)

SchemaDriftKind = Literal["extra_field", "unknown_reason", "null_for_absent", "missing_optional"]
_MAX_DELAY_MS = 86_400_000


@dataclass(frozen=True, repr=False)
class StaleRead(Effect):
    """Show the balance and history as of a moment in the past, like a lagging replica.

    It hides the user's transactions from the last ``by_ms`` milliseconds, or the user's last ``by_writes``
    transactions, but never the user or any transactions from before the rule was added.
    """

    reveals = "reliance on read-your-writes consistency"
    phases = ("read",)
    operations = frozenset({Operation.GET_BALANCE, Operation.LIST_TRANSACTIONS})
    by_ms: int = 0
    by_writes: int = 0

    def __post_init__(self) -> None:
        check_int("by_ms", self.by_ms, 0, _MAX_DELAY_MS)
        check_int("by_writes", self.by_writes, 0, 1_000_000)
        if self.by_ms and self.by_writes:
            raise FaultError("by_ms and by_writes can't be combined: use one of them")
        if not self.by_ms and not self.by_writes:
            raise FaultError("by_ms or by_writes must be greater than 0")

    async def apply(self, context: FaultContext) -> None:
        """Read stale data."""
        context.read_stale(by_ms=self.by_ms, by_writes=self.by_writes)


@dataclass(frozen=True, repr=False)
class BadCursor(Effect):
    """Break the cursors of a list.

    ``kind``: ``repeat`` makes each page's cursor lead back to that page, ``cycle`` gives the last page a cursor that
    leads to the first page, ``expired`` rejects every cursor, and ``empty_page`` starts with an empty page whose cursor
    leads to the first entry.
    """

    reveals = "an endless loop, or lost rows"
    phases = ("list",)
    operations = LIST_OPERATIONS
    kind: CursorFault = "repeat"

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, get_args(CursorFault))

    async def apply(self, context: FaultContext) -> None:
        """Break the cursor."""
        context.inject_cursor_fault(self.kind)


@dataclass(frozen=True, repr=False)
class SchemaDrift(Effect):
    """Respond like a later version of the API.

    ``kind``: ``extra_field`` adds a member, ``unknown_reason`` uses a new reason, ``null_for_absent`` sends
    ``"nextCursor": null`` instead of omitting it, and ``missing_optional`` omits ``createdAt``.
    """

    reveals = "a crash in a strict decoder"
    phases = ("after",)
    kind: SchemaDriftKind = "extra_field"

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, _OPERATIONS_BY_KIND)
        object.__setattr__(self, "operations", _OPERATIONS_BY_KIND[self.kind])

    async def apply(self, context: FaultContext) -> None:
        """Edit the response."""
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
    """Return the users or transactions in a body."""
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


@dataclass(frozen=True, repr=False)
class DuplicateWrite(Effect):
    """Execute the write twice, like a proxy that replays requests; the client gets the first response."""

    reveals = "missing reconciliation"
    phases = ("write",)
    operations = WRITE_OPERATIONS

    async def apply(self, context: FaultContext) -> None:
        """Execute the write twice."""
        context.duplicate_write()


@dataclass(frozen=True, repr=False)
class LateWrite(Effect):
    """Execute the write ``after_ms`` milliseconds later on the sandbox's clock, without responding to the client.

    The write is checked on arrival: if it is invalid, the client gets the error, and the rule does not count as having
    fired. The rule fires once unless ``times`` says otherwise.
    """

    needs_connection = True
    reveals = "no protection against reordered or repeated writes"
    phases = ("write",)
    operations = WRITE_OPERATIONS
    times = 1
    after_ms: int

    def __post_init__(self) -> None:
        check_int("after_ms", self.after_ms, 0, _MAX_DELAY_MS)

    async def apply(self, context: FaultContext) -> None:
        """Defer the write."""
        context.defer_write(self.after_ms)
