"""Helpers to build incoming calls and fault engines, and to list the effects of matched rules."""

from collections.abc import Iterable
from typing import Any

from fake_credits.contract import Operation
from fake_credits.faults import FaultEngine, IncomingCall, Rule, rule_from

START_MS = 1_700_000_000_000


def call(**fields: Any) -> IncomingCall:
    """Return a getBalance call for ada, made with an API key, with some fields replaced."""
    defaults: dict[str, Any] = {
        "ordinal": 1,
        "operation": Operation.GET_BALANCE,
        "application": "app-id",
        "user": "ada",
        "client": "server",
        "reason": "",
        "fields": dict[bytes, bytes](),
        "now_ms": START_MS,
    }
    return IncomingCall(**{**defaults, **fields})


def engine_with_rules(*rules: object, seed: int = 0) -> FaultEngine:
    """Return an engine with rules, in any form that `rule_from` accepts."""
    engine = FaultEngine(seed)
    engine.reset([rule_from(rule) for rule in rules], START_MS)
    return engine


def effect_names(engine: FaultEngine, calls: Iterable[IncomingCall]) -> list[str]:
    """Return the effects applied to each call, joined by `+`: `"reset"`, `"503"`, `"latency+reset"` or `""`."""
    return ["+".join(_effect_name(firing.effect) for firing in engine.match(incoming)) for incoming in calls]


def _effect_name(effect: Any) -> str:
    return str(getattr(effect, "status", effect.effect_name))


def fired_calls(rule: Rule, calls: Iterable[IncomingCall]) -> list[int]:
    """Return the numbers of the calls, counted from 1, for which a rule fires."""
    return [number for number, word in enumerate(effect_names(engine_with_rules(rule), calls), 1) if word]
