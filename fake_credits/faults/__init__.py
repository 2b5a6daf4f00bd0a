"""Own faults: rules that say which calls meet what, and when; know nothing of HTTP, of the ledger or of drivers.

Presets and scenario files stand in modules of their own, which few who start a sandbox need.
"""

from fake_credits.faults.checks import FaultError
from fake_credits.faults.effects import (
    EFFECTS,
    BadCursor,
    Close,
    Drift,
    Drip,
    Duplicate,
    Effect,
    Garbage,
    Gate,
    Hang,
    Latency,
    NotJson,
    RateLimit,
    Reset,
    Stale,
    Status,
    Truncate,
    Unauthorized,
    Zombie,
)
from fake_credits.faults.gates import Hold
from fake_credits.faults.incoming import IncomingCall
from fake_credits.faults.latency import Fixed, Lognormal, Uniform
from fake_credits.faults.plan import ActiveRule, Plan
from fake_credits.faults.reading import rule_from, rule_to_json
from fake_credits.faults.rule import Rule, lost_response

__all__ = [
    "EFFECTS",
    "ActiveRule",
    "BadCursor",
    "Close",
    "Drift",
    "Drip",
    "Duplicate",
    "Effect",
    "FaultError",
    "Fixed",
    "Garbage",
    "Gate",
    "Hang",
    "Hold",
    "IncomingCall",
    "Latency",
    "Lognormal",
    "NotJson",
    "Plan",
    "RateLimit",
    "Reset",
    "Rule",
    "Stale",
    "Status",
    "Truncate",
    "Unauthorized",
    "Uniform",
    "Zombie",
    "lost_response",
    "rule_from",
    "rule_to_json",
]
