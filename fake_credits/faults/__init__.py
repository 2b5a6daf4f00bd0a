"""Own faults: rules that say which calls meet what, and when; know nothing of HTTP, of the ledger or of drivers.

Presets and scenario files stand in modules of their own, which few who start a sandbox need.
"""

from fake_credits.faults.active_rule import ActiveRule
from fake_credits.faults.checks import FaultError
from fake_credits.faults.context import IncomingCall
from fake_credits.faults.effects import (
    EFFECTS,
    BadCursor,
    Close,
    Drip,
    DuplicateWrite,
    Effect,
    Garbage,
    Hang,
    HoldAtGate,
    Latency,
    LateWrite,
    NotJson,
    RateLimit,
    Reset,
    SchemaDrift,
    StaleRead,
    Status,
    Truncate,
    Unauthorized,
)
from fake_credits.faults.effects.timing import Fixed, Lognormal, Uniform
from fake_credits.faults.engine import FaultEngine
from fake_credits.faults.gates import Gate
from fake_credits.faults.rule import Rule, lost_response
from fake_credits.faults.serialization import rule_from, rule_to_json

__all__ = [
    "EFFECTS",
    "ActiveRule",
    "BadCursor",
    "Close",
    "Drip",
    "DuplicateWrite",
    "Effect",
    "FaultEngine",
    "FaultError",
    "Fixed",
    "Garbage",
    "Gate",
    "Hang",
    "HoldAtGate",
    "IncomingCall",
    "LateWrite",
    "Latency",
    "Lognormal",
    "NotJson",
    "RateLimit",
    "Reset",
    "Rule",
    "SchemaDrift",
    "StaleRead",
    "Status",
    "Truncate",
    "Unauthorized",
    "Uniform",
    "lost_response",
    "rule_from",
    "rule_to_json",
]
