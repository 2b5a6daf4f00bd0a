"""The control plane's handlers: sandboxes, users, tokens, journals, faults, gates and clocks."""

from dataclasses import replace
from typing import Any

import msgspec

from fake_credits.control.request import ControlRequest
from fake_credits.control.schemas import (
    AdvanceClockBody,
    FreezeClockBody,
    JournalQuery,
    JsonMembers,
    JsonObject,
    MakeSandboxBody,
    MintTokenBody,
    ReleaseGateBody,
    SetUserBody,
    TravelClockBody,
    WaitAtGateBody,
    clock_json,
    field_errors,
    gate_json,
    given_fields,
    parse_datetime,
    rule_json,
    sandbox_json,
    user_json,
)
from fake_credits.errors import ControlError, GateTimeout, Problem
from fake_credits.faults.active_rule import ActiveRule
from fake_credits.faults.declarations import rule_from, rule_to_json
from fake_credits.faults.effects.base import FaultError, short_repr
from fake_credits.faults.scenarios import FAULT_PRESETS, parse_scenario
from fake_credits.sandbox import Sandbox
from fake_credits.sandbox_options import MintOptions, SandboxOptions
from fake_credits.sandboxes import drain, find_problems
from fake_credits.tokens.bad_tokens import BAD_TOKENS
from fake_credits.tokens.providers import AUTH_PROVIDERS

__all__ = [
    "add_fault",
    "advance_clock",
    "clear_faults",
    "close_sandbox",
    "freeze_clock",
    "get_canonical_journal",
    "get_clock",
    "get_fault",
    "get_gate",
    "get_problems",
    "get_sandbox",
    "get_user",
    "hold_gate",
    "list_faults",
    "list_gates",
    "list_presets",
    "list_sandboxes",
    "load_faults",
    "make_sandbox",
    "mint_token",
    "query_journal",
    "release_gate",
    "remove_fault",
    "reset_sandbox",
    "set_user",
    "settle_clock",
    "travel_clock",
    "wait_at_gate",
]

_USER_TOKEN_LIFETIME_S = 24 * 3600


def make_sandbox(request: ControlRequest) -> JsonObject:
    """Make a sandbox with an API key of its own, from the words of its start."""
    context = request.context
    settings = _sandbox_settings(context.sandboxes.base_sandbox.options, request.body)
    with context.lock:
        if len(context.sandboxes) >= context.sandbox_limit:
            raise ControlError(
                "sandbox_limit",
                f"this server has {len(context.sandboxes)} sandboxes: close some, or start it with a higher "
                "--sandbox-limit",
            )
        with field_errors(""):
            sandbox = context.new_sandbox(settings)
        try:
            context.sandboxes.attach(sandbox, as_default=False)
        except ValueError as error:
            raise ControlError("conflict", str(error), details=(Problem("api_key", "is another sandbox's"),)) from None
    token = sandbox.token(sandbox.options.user_id, MintOptions(expires_in_s=_USER_TOKEN_LIFETIME_S))
    return {**_describe_sandbox(request, sandbox), "user_token": token}


def _sandbox_settings(base: SandboxOptions, body: MakeSandboxBody) -> SandboxOptions:
    options: dict[str, Any] = {"api_key": "", **given_fields(body)}
    if options.get("clock", "real") not in ("real", "frozen"):
        options["clock"] = parse_datetime("clock", options["clock"])
    if options.get("auth_provider", "plain") not in AUTH_PROVIDERS:
        raise _unknown_choice("auth_provider", options["auth_provider"], AUTH_PROVIDERS)
    faults: Any = options.get("faults", ())
    for name in faults if isinstance(faults, list) else [faults]:  # pyright: ignore[reportUnknownVariableType]
        if isinstance(name, str) and name not in FAULT_PRESETS:  # a file's name would be one on the server
            raise _unknown_choice("faults", name, FAULT_PRESETS)
    # Of the default user's balance, what is said here takes the place of what the server was started with.
    user_id = options.get("user_id", base.user_id)
    if user_id in options.get("users", ()):
        options.setdefault("balance", None)
    elif "balance" in options:
        options.setdefault("users", {user: balance for user, balance in base.users.items() if user != user_id})
    with field_errors("balance"):
        return replace(base, **options)


def list_sandboxes(request: ControlRequest) -> JsonObject:
    """List the sandboxes, the server's first one first."""
    return {"sandboxes": [_describe_sandbox(request, sandbox) for sandbox in request.context.sandboxes]}


def get_sandbox(request: ControlRequest) -> JsonObject:
    """Tell what a client of a sandbox has to know."""
    return _describe_sandbox(request, request.sandbox)


def reset_sandbox(request: ControlRequest) -> JsonObject:
    """Take a sandbox back to its start: users, balances, clock, rules, an empty journal; what gates held runs first."""
    request.sandbox.reset()
    return _describe_sandbox(request, request.sandbox)


def close_sandbox(request: ControlRequest) -> JsonObject:
    """Close a sandbox: its gates open, its key and tokens are refused; tell its problems and what was to come."""
    sandbox, sandboxes = request.sandbox, request.context.sandboxes
    if sandbox is sandboxes.base_sandbox:
        raise ControlError("conflict", f"{sandbox.name!r} is the server's first sandbox, which ends with the server")
    drain_problems = drain(sandbox)
    sandboxes.detach(sandbox)
    dropped = sandbox.close()
    return {"problems": [*find_problems(sandbox), *drain_problems], "dropped": [action.label for action in dropped]}


def get_problems(request: ControlRequest) -> JsonObject:
    """Tell what makes a suite that passed prove nothing; assert at its end that there is none."""
    return {"problems": find_problems(request.sandbox)}


def set_user(request: ControlRequest) -> JsonObject:
    """Make a user exist and, with `balance`, bring the balance to it by one grant or consumption."""
    body: SetUserBody = request.body
    sandbox = request.sandbox
    with field_errors(""):
        account = sandbox.set_balance(
            request.path_params["user"], body.balance, application_id=body.application_id or ""
        )
    return user_json(account)


def get_user(request: ControlRequest) -> JsonObject:
    """Tell a user's balance, without an exchange."""
    return user_json(
        request.sandbox.account(request.path_params["user"], application_id=request.query.application_id or "")
    )


def mint_token(request: ControlRequest) -> JsonObject:
    """Mint a user's token, good or, with `bad`, one that must be refused."""
    body: MintTokenBody = request.body
    sandbox = request.sandbox
    if body.bad is not None and body.bad not in BAD_TOKENS:
        raise _unknown_choice("bad", body.bad, BAD_TOKENS)
    options = MintOptions(
        bad=body.bad, expires_in_s=body.expires_in_s, claims=body.claims, use_wall_clock=body.clock == "wall"
    )
    user_id = body.user_id or sandbox.options.user_id
    with field_errors(""):
        return {"user_id": user_id, "token": sandbox.token(user_id, options)}


def query_journal(request: ControlRequest) -> JsonObject:
    """List the kept exchanges, oldest first, that the parameters choose; `after` is an ordinal."""
    query: JournalQuery = request.query
    journal = request.sandbox.journal
    with field_errors("operation"):
        entries = journal.entries(operation=query.operation, user=query.user)
    criteria = ("status", "rule", "committed", "delivered")
    matching = [
        entry
        for entry in entries
        if (query.after is None or entry.ordinal > query.after)
        and all(getattr(query, name) in (None, getattr(entry, name)) for name in criteria)
    ]
    return {"total": journal.total, "entries": msgspec.to_builtins(matching)}


def get_canonical_journal(request: ControlRequest) -> JsonObject:
    """Tell the journal in the form that the same seed and the same calls give again, byte for byte."""
    return {"canonical": request.sandbox.journal.canonical()}


def _describe_sandbox(request: ControlRequest, sandbox: Sandbox) -> JsonObject:
    return sandbox_json(sandbox, request.base_url, default=request.context.sandboxes.base_sandbox)


def _unknown_choice(field: str, value: object, choices: Any) -> ControlError:
    problem = f"is {str(value)[:60]!r}: choose one of {', '.join(choices)}"
    return ControlError("validation_error", f"{field} {problem}", details=(Problem(field, problem),))


def list_presets(_request: ControlRequest) -> JsonObject:
    """List the bad days that have a name."""
    return {
        "presets": [
            {"name": name, "explains": preset.description, "rules": [rule_to_json(rule) for rule in preset.rules]}
            for name, preset in FAULT_PRESETS.items()
        ]
    }


def list_faults(request: ControlRequest) -> JsonObject:
    """List the rules with how many calls matched each and how often it fired."""
    return _faults_json(list(request.faults))


def add_fault(request: ControlRequest) -> object:
    """Add a rule: the body is one, such as `{"effect": "reset", "operation": "writes", "phase": "after", "nth": 1}`."""
    body: JsonMembers = request.body
    with field_errors(""):
        return rule_json(request.faults.add(body))


def load_faults(request: ControlRequest) -> JsonObject:
    """Add all rules of a scenario, such as `{"preset": "flaky"}`; none of them where one can't be."""
    body: JsonMembers = request.body
    with field_errors(""):
        return _faults_json(request.faults.load(list(parse_scenario(body))))


def get_fault(request: ControlRequest) -> object:
    """Tell of one rule."""
    return rule_json(request.rule)


def remove_fault(request: ControlRequest) -> object:
    """Take a rule out; a call that it has hit already goes on as it was."""
    rule = request.rule
    rule.remove()
    return rule_json(rule)


def clear_faults(request: ControlRequest) -> JsonObject:
    """Take all rules out."""
    faults = request.faults
    removed = list(faults)
    faults.clear()
    return _faults_json(removed)


def _faults_json(rules: "list[ActiveRule] | tuple[ActiveRule, ...]") -> JsonObject:
    return {"faults": [rule_json(rule) for rule in rules]}


def list_gates(request: ControlRequest) -> JsonObject:
    """List the gates with whom each holds."""
    return {"gates": [gate_json(gate) for gate in list(request.sandbox.gates.values())]}


def hold_gate(request: ControlRequest) -> JsonObject:
    """Hold the calls of a rule at a gate: the body is the rule's words, and `name` the gate's."""
    body: JsonMembers = request.body
    sandbox = request.sandbox
    with field_errors(""), sandbox.lock:
        if body.get("effect", "hold_at_gate") != "hold_at_gate":
            raise FaultError(f"effect is {short_repr(body['effect'])}, but what is held has a gate: leave it out")
        rule = rule_from({"name": sandbox.new_gate_name(), **body, "effect": "hold_at_gate"})
        return gate_json(sandbox.hold(rule))


def get_gate(request: ControlRequest) -> JsonObject:
    """Tell whom a gate holds."""
    return gate_json(request.gate)


async def wait_at_gate(request: ControlRequest) -> JsonObject:
    """Wait until `count` calls have come to a gate in all, `limit_s` seconds at most."""
    body: WaitAtGateBody = request.body
    gate = request.gate
    try:
        await gate.async_wait_for(body.count, limit_s=body.limit_s)
    except GateTimeout as error:
        raise ControlError("gate_limit", str(error)) from None
    return gate_json(gate)


def release_gate(request: ControlRequest) -> JsonObject:
    """Let the held calls go one after the other, in `order`; each has run on when this answers."""
    body: ReleaseGateBody = request.body
    gate = request.gate
    with field_errors("order"):
        gate.release(body.order, keep=body.keep)
    return gate_json(gate)


def get_clock(request: ControlRequest) -> JsonObject:
    """Tell the time in a sandbox, and what is to happen later."""
    return clock_json(request.sandbox.clock)


def freeze_clock(request: ControlRequest) -> JsonObject:
    """Let the clock stand still, now or `at` a later moment."""
    body: FreezeClockBody = request.body
    clock = request.sandbox.clock
    at = None if body.at is None else parse_datetime("at", body.at)
    with field_errors("at"):
        clock.freeze(at)
    return clock_json(clock)


def advance_clock(request: ControlRequest) -> JsonObject:
    """Move the clock forward; what is due on the way happens."""
    body: AdvanceClockBody = request.body
    clock = request.sandbox.clock
    with field_errors(""):
        clock.advance(days=body.days, hours=body.hours, minutes=body.minutes, seconds=body.seconds)
    return clock_json(clock)


def travel_clock(request: ControlRequest) -> JsonObject:
    """Move the clock forward to a moment; what is due on the way happens."""
    body: TravelClockBody = request.body
    clock = request.sandbox.clock
    to = parse_datetime("to", body.to)
    with field_errors("to"):
        clock.travel(to)
    return clock_json(clock)


def settle_clock(request: ControlRequest) -> JsonObject:
    """Let everything happen that is to happen later, moving the clock as far as that takes."""
    clock = request.sandbox.clock
    return {"settled": clock.run_pending(), **clock_json(clock)}
