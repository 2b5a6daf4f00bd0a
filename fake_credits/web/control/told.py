"""Own what the control plane tells of a sandbox and its parts, as JSON has it; know nothing of who asks."""

from collections.abc import Mapping

from fake_credits.clock import Clock, from_ms
from fake_credits.faults.gates import Hold
from fake_credits.faults.plan import ActiveRule
from fake_credits.faults.reading import rule_to_json
from fake_credits.ledger import Account
from fake_credits.sandbox import Sandbox

__all__ = ["Told", "clock_told", "gate_told", "rule_told", "sandbox_told", "user_told"]

Told = dict[str, object]


def sandbox_told(sandbox: Sandbox, base_url: str, *, default: Sandbox) -> Told:
    """Return what a client of a sandbox has to know, and how far that sandbox has come."""
    settings = sandbox.settings
    return {
        "name": sandbox.name,
        "base_url": base_url,
        "api_key": sandbox.api_key,
        "application_id": settings.application_id,
        "user_id": settings.user_id,
        "jwks_url": f"{base_url}/.well-known/jwks.json",
        "seed": sandbox.seed,
        "is_default": sandbox is default,
        "exchanges": sandbox.journal.total,
        "under_way": sandbox.journal.under_way,
    }


def user_told(account: Account) -> Told:
    """Return a user with the balance."""
    return {
        "application_id": account.application_id,
        "user_id": account.user_id,
        "balance": account.balance,
        "created_at": _iso(account.created_at_ms),
    }


def rule_told(active: ActiveRule) -> Mapping[str, object]:
    """Return a rule with its counts."""
    return {
        "name": active.name,
        "fired": active.fired,
        "matched": active.matched,
        "is_unused": active.is_unused,
        "script_left": list(active.script_left()),
        "rule": rule_to_json(active.rule),
    }


def gate_told(gate: Hold) -> Told:
    """Return a gate with whom it holds, by order of arrival."""
    held = [{"user": each.user, "ordinal": each.ordinal, "call": each.shown} for each in gate.held()]
    return {"name": gate.name, "is_open": gate.is_open, "arrivals": gate.arrivals, "held": held}


def clock_told(clock: Clock) -> Told:
    """Return what a clock says, and what is to happen later."""
    parked = [{"at": _iso(due.at_ms), "what": due.label} for due in clock.parked()]
    return {"mode": clock.mode, "now": _iso(clock.now_ms()), "parked": parked}


def _iso(ms: int) -> str:
    return from_ms(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")
