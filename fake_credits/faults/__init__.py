"""Faults: rules that say which calls go wrong, when and how.

Presets and scenario files are handled by `scenarios`, which isn't imported here, because most sandboxes don't need it.
"""

from fake_credits.faults.active_rule import ActiveRule
from fake_credits.faults.declarations import catalogue, lost_response, rule_from, rule_to_json
from fake_credits.faults.effects import EFFECTS
from fake_credits.faults.effects.base import Effect, FaultError
from fake_credits.faults.effects.connection import Close, Drip, Garbage, Hang, Reset, Truncate
from fake_credits.faults.effects.data import BadCursor, DuplicateWrite, LateWrite, SchemaDrift, StaleRead
from fake_credits.faults.effects.responses import NotJson, RateLimit, Status, Unauthorized
from fake_credits.faults.effects.timing import Fixed, HoldAtGate, Latency, Lognormal, Uniform
from fake_credits.faults.engine import FaultEngine
from fake_credits.faults.gates import Gate
from fake_credits.faults.rule import IncomingCall, Rule

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
    "catalogue",
    "lost_response",
    "rule_from",
    "rule_to_json",
]
