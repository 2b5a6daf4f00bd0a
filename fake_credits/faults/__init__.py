"""Own faults: rules that say which calls meet what, and when; know nothing of HTTP, of the ledger or of drivers."""

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
from fake_credits.faults.latency import Fixed, Lognormal, Uniform
from fake_credits.faults.plan import ActiveRule, Plan
from fake_credits.faults.presets import PRESETS
from fake_credits.faults.rule import Call, Rule, lost_response, rule_from, rule_to_json
from fake_credits.faults.scenario import latency_rules, load_scenario, rules_of

__all__ = [
    "EFFECTS",
    "PRESETS",
    "ActiveRule",
    "BadCursor",
    "Call",
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
    "latency_rules",
    "load_scenario",
    "lost_response",
    "rule_from",
    "rule_to_json",
    "rules_of",
]
