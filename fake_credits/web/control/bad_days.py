"""Own the verbs on faults, gates and clocks; know nothing of HTTP."""

from fake_credits.errors import ControlError, GateLimit
from fake_credits.faults.checks import FaultError, shown
from fake_credits.faults.plan import ActiveRule
from fake_credits.faults.presets import PRESETS
from fake_credits.faults.reading import rule_from, rule_to_json
from fake_credits.faults.scenario import scenario_from
from fake_credits.web.control.call import ControlCall
from fake_credits.web.control.shapes import Advance, Freeze, Release, Rules, Travel, WaitForArrivals, moment, naming
from fake_credits.web.control.told import Told, clock_told, gate_told, rule_told

__all__ = [
    "add_fault",
    "advance_clock",
    "clear_faults",
    "freeze_clock",
    "get_clock",
    "get_fault",
    "get_gate",
    "hold_gate",
    "list_faults",
    "list_gates",
    "list_presets",
    "load_faults",
    "release_gate",
    "remove_fault",
    "settle_clock",
    "travel_clock",
    "wait_at_gate",
]


def list_presets(_call: ControlCall) -> Told:
    """List the bad days that have a name."""
    return {
        "presets": [
            {"name": name, "explains": preset.explains, "rules": [rule_to_json(rule) for rule in preset.rules]}
            for name, preset in PRESETS.items()
        ]
    }


def list_faults(call: ControlCall) -> Told:
    """List the rules with how many calls matched each and how often it fired."""
    return _rules_told(list(call.faults))


def add_fault(call: ControlCall) -> object:
    """Add a rule: the body is one, such as `{"effect": "reset", "operation": "writes", "phase": "after", "nth": 1}`."""
    body: Rules = call.body
    with naming(""):
        return rule_told(call.faults.add(body))


def load_faults(call: ControlCall) -> Told:
    """Add all rules of a scenario, such as `{"preset": "flaky"}`; none of them where one can't be."""
    body: Rules = call.body
    with naming(""):
        return _rules_told(call.faults.load(list(scenario_from(body))))


def get_fault(call: ControlCall) -> object:
    """Tell of one rule."""
    return rule_told(call.rule)


def remove_fault(call: ControlCall) -> object:
    """Take a rule out; a call that it has hit already goes on as it was."""
    active = call.rule
    active.remove()
    return rule_told(active)


def clear_faults(call: ControlCall) -> Told:
    """Take all rules out."""
    faults = call.faults
    removed = list(faults)
    faults.clear()
    return _rules_told(removed)


def _rules_told(rules: "list[ActiveRule] | tuple[ActiveRule, ...]") -> Told:
    return {"faults": [rule_told(active) for active in rules]}


def list_gates(call: ControlCall) -> Told:
    """List the gates with whom each holds."""
    return {"gates": [gate_told(gate) for gate in list(call.sandbox.gates.values())]}


def hold_gate(call: ControlCall) -> Told:
    """Hold the calls of a rule at a gate: the body is the rule's words, and `name` the gate's."""
    body: Rules = call.body
    sandbox = call.sandbox
    with naming(""), sandbox.lock:
        if body.get("effect", "gate") != "gate":
            raise FaultError(f"effect is {shown(body['effect'])}, but what is held has a gate: leave it out")
        rule = rule_from({"name": sandbox.new_gate_name(), **body, "effect": "gate"})
        return gate_told(sandbox.hold(rule))


def get_gate(call: ControlCall) -> Told:
    """Tell whom a gate holds."""
    return gate_told(call.gate)


async def wait_at_gate(call: ControlCall) -> Told:
    """Wait until `count` calls have come to a gate in all, `limit_s` seconds at most."""
    body: WaitForArrivals = call.body
    gate = call.gate
    try:
        await gate.arrived(body.count, limit_s=body.limit_s)
    except GateLimit as error:
        raise ControlError("gate_limit", str(error)) from None
    return gate_told(gate)


def release_gate(call: ControlCall) -> Told:
    """Let the held calls go one after the other, in `order`; each has run on when this answers."""
    body: Release = call.body
    gate = call.gate
    with naming("order"):
        gate.release(body.order, keep=body.keep)
    return gate_told(gate)


def get_clock(call: ControlCall) -> Told:
    """Tell the time in a sandbox, and what is to happen later."""
    return clock_told(call.sandbox.clock)


def freeze_clock(call: ControlCall) -> Told:
    """Let the clock stand still, now or `at` a later moment."""
    body: Freeze = call.body
    clock = call.sandbox.clock
    at = None if body.at is None else moment("at", body.at)
    with naming("at"):
        clock.freeze(at)
    return clock_told(clock)


def advance_clock(call: ControlCall) -> Told:
    """Move the clock forward; what is due on the way happens."""
    body: Advance = call.body
    clock = call.sandbox.clock
    with naming(""):
        clock.advance(days=body.days, hours=body.hours, minutes=body.minutes, seconds=body.seconds)
    return clock_told(clock)


def travel_clock(call: ControlCall) -> Told:
    """Move the clock forward to a moment; what is due on the way happens."""
    body: Travel = call.body
    clock = call.sandbox.clock
    to = moment("to", body.to)
    with naming("to"):
        clock.travel(to)
    return clock_told(clock)


def settle_clock(call: ControlCall) -> Told:
    """Let everything happen that is to happen later, moving the clock as far as that takes."""
    clock = call.sandbox.clock
    return {"settled": clock.settle(), **clock_told(clock)}
