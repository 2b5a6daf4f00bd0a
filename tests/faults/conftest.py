"""Own calls to match rules with, and what a plan makes of them."""

from collections.abc import Iterable
from typing import Any

from fake_credits.contract import Operation
from fake_credits.faults import FaultEngine, IncomingCall, Rule, rule_from

START_MS = 1_700_000_000_000


def call(**words: Any) -> IncomingCall:
    """Return a call of ada's by an API key, with what is said otherwise."""
    given: dict[str, Any] = {
        "ordinal": 1,
        "operation": Operation.GET_BALANCE,
        "application": "app-id",
        "user": "ada",
        "client": "server",
        "reason": "",
        "fields": dict[bytes, bytes](),
        "now_ms": START_MS,
    }
    return IncomingCall(**{**given, **words})


def planned(*rules: object, seed: int = 0) -> FaultEngine:
    """Return a plan with rules, in any form that `rule_from` takes."""
    plan = FaultEngine(seed)
    plan.reset([rule_from(rule) for rule in rules], START_MS, 0)
    return plan


def met(plan: FaultEngine, calls: Iterable[IncomingCall]) -> list[str]:
    """Return for each call the words of what it meets, with a status's number: ``"reset"``, ``"503"``, ``""``."""
    return ["+".join(_word(shot.effect) for shot in plan.match(each)) for each in calls]


def _word(effect: Any) -> str:
    return str(getattr(effect, "status", effect.effect_name))


def fired(rule: Rule, calls: Iterable[IncomingCall]) -> list[int]:
    """Return which of the calls, counted from 1, a rule alone fires for."""
    return [number for number, word in enumerate(met(planned(rule), calls), 1) if word]
