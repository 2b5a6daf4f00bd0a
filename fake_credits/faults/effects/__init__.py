"""The registry of effects: one class for each thing that a rule can do to a call."""

from collections.abc import Mapping

from fake_credits.contract.types import ALL_OPERATIONS, READ_OPERATIONS, WRITE_OPERATIONS
from fake_credits.faults.effects.base import (
    LIST_OPERATIONS,
    Effect,
    Phase,
)
from fake_credits.faults.effects.connection import Close, Drip, Garbage, Hang, Reset, Truncate
from fake_credits.faults.effects.data import BadCursor, DuplicateWrite, LateWrite, SchemaDrift, StaleRead
from fake_credits.faults.effects.responses import NotJson, RateLimit, Status, Unauthorized
from fake_credits.faults.effects.timing import HoldAtGate, Latency

__all__ = [
    "ALL_OPERATIONS",
    "EFFECTS",
    "LIST_OPERATIONS",
    "READ_OPERATIONS",
    "WRITE_OPERATIONS",
    "BadCursor",
    "Close",
    "Drip",
    "DuplicateWrite",
    "Effect",
    "Garbage",
    "Hang",
    "HoldAtGate",
    "LateWrite",
    "Latency",
    "NotJson",
    "Phase",
    "RateLimit",
    "Reset",
    "SchemaDrift",
    "StaleRead",
    "Status",
    "Truncate",
    "Unauthorized",
]

EFFECTS: Mapping[str, type[Effect]] = {
    "latency": Latency,
    "status": Status,
    "rate_limit": RateLimit,
    "reset": Reset,
    "close": Close,
    "hang": Hang,
    "truncate": Truncate,
    "drip": Drip,
    "garbage": Garbage,
    "not_json": NotJson,
    "stale_read": StaleRead,
    "duplicate_write": DuplicateWrite,
    "late_write": LateWrite,
    "schema_drift": SchemaDrift,
    "bad_cursor": BadCursor,
    "hold_at_gate": HoldAtGate,
    "unauthorized": Unauthorized,
}
"""All effects, keyed by their names in scenario files."""
