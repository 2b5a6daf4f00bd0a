"""Own the registry of effects: what a rule can do, one class each."""

from collections.abc import Mapping

from fake_credits.faults.effects.answers import NotJson, RateLimit, Status
from fake_credits.faults.effects.base import ALL, LISTS, READS, WRITES, Effect, Phase
from fake_credits.faults.effects.connection import Close, Drip, Garbage, Hang, Reset, Truncate
from fake_credits.faults.effects.credentials import Unauthorized
from fake_credits.faults.effects.reads import BadCursor, Drift, Stale
from fake_credits.faults.effects.timing import Gate, Latency
from fake_credits.faults.effects.writes import Duplicate, Zombie

__all__ = [
    "ALL",
    "EFFECTS",
    "LISTS",
    "READS",
    "WRITES",
    "BadCursor",
    "Close",
    "Drift",
    "Drip",
    "Duplicate",
    "Effect",
    "Garbage",
    "Gate",
    "Hang",
    "Latency",
    "NotJson",
    "Phase",
    "RateLimit",
    "Reset",
    "Stale",
    "Status",
    "Truncate",
    "Unauthorized",
    "Zombie",
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
    "stale": Stale,
    "duplicate": Duplicate,
    "zombie": Zombie,
    "drift": Drift,
    "bad_cursor": BadCursor,
    "gate": Gate,
    "unauthorized": Unauthorized,
}
"""Every effect by its word in files."""
