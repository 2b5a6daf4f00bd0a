"""The control plane's handlers for sandboxes, journals, faults, gates, clocks, users and tokens."""

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, cast

import msgspec
from starlette.requests import Request

from fake_credits import control_schemas as schemas
from fake_credits.clock import Clock, from_ms
from fake_credits.contract.types import parse_operation
from fake_credits.control.inputs import check_choice, field_errors, requested_sandbox, validation_error
from fake_credits.errors import ControlError, GateTimeout
from fake_credits.faults.active_rule import ActiveRule
from fake_credits.faults.declarations import rule_from, rule_to_json
from fake_credits.faults.effects.base import FaultError
from fake_credits.faults.faults import Faults
from fake_credits.faults.gates import Gate
from fake_credits.faults.scenarios import FAULT_PRESETS, parse_scenario
from fake_credits.ledger import Account
from fake_credits.models import Transaction
from fake_credits.sandbox import Sandbox
from fake_credits.sandbox_options import MintOptions, SandboxOptions
from fake_credits.sandboxes import drain
from fake_credits.text import truncate
from fake_credits.tokens.bad_tokens import BAD_TOKENS


def _faults(request: Request) -> Faults:
    sandbox = requested_sandbox(request)
    return Faults(sandbox.faults, sandbox.add_fault)


def _rule(request: Request) -> ActiveRule:
    try:
        return _faults(request).find(request.path_params["rule"])
    except FaultError as error:
        raise ControlError("rule_not_found", str(error)) from None


def _gate(request: Request) -> Gate:
    try:
        return requested_sandbox(request).gate(request.path_params["gate"])
    except FaultError as error:
        raise ControlError("gate_not_found", str(error)) from None


# ------------------------------------------------------------ sandboxes


def make_sandbox(request: Request, body: schemas.MakeSandboxBody) -> schemas.SandboxState:
    """Create a sandbox with its own API key and the options in the body."""
    base = request.app.sandboxes.base_sandbox.options
    options = _sandbox_options(base, body)
    with field_errors("balance", options):
        sandbox_options = replace(base, **options)
    with field_errors("", options):
        sandbox: Sandbox = request.app.add_sandbox(sandbox_options)
    token = sandbox.token(sandbox.options.user_id, MintOptions(expires_in_s=24 * 3600))
    return _sandbox_state(request, sandbox, token)


def _sandbox_options(base: SandboxOptions, body: schemas.MakeSandboxBody) -> dict[str, Any]:
    options: dict[str, Any] = {"api_key": "", **msgspec.to_builtins(body)}
    faults = options.get("faults", ())
    for name in faults if isinstance(faults, list) else [faults]:  # pyright: ignore[reportUnknownVariableType]
        if isinstance(name, str):  # a client must not be able to name a file on the server
            check_choice("faults", name, FAULT_PRESETS)
    # A balance that the body sets for the default user overrides the one that the server was started with.
    user_id = options.get("user_id", base.user_id)
    if user_id in options.get("users", ()):
        options.setdefault("balance", None)
    elif "balance" in options:
        options.setdefault("users", {user: balance for user, balance in base.users.items() if user != user_id})
    return options


def _sandbox_state(request: Request, sandbox: Sandbox, user_token: str = "") -> schemas.SandboxState:
    base_url = str(request.base_url).rstrip("/")
    return schemas.SandboxState(
        name=sandbox.name,
        base_url=base_url,
        api_key=sandbox.api_key,
        application_id=sandbox.options.application_id,
        user_id=sandbox.options.user_id,
        jwks_url=f"{base_url}/.well-known/jwks.json",
        seed=sandbox.seed,
        is_default=sandbox is request.app.sandboxes.base_sandbox,
        exchanges=sandbox.journal.total,
        under_way=sandbox.journal.in_flight,
        user_token=user_token,
    )


def list_sandboxes(request: Request) -> schemas.SandboxList:
    """List the sandboxes, starting with the server's first one."""
    return schemas.SandboxList(tuple(_sandbox_state(request, sandbox) for sandbox in request.app.sandboxes))


def get_sandbox(request: Request) -> schemas.SandboxState:
    """Return a sandbox's state, with its base URL and API key."""
    return _sandbox_state(request, requested_sandbox(request))


def reset_sandbox(request: Request) -> schemas.ResetReport:
    """Reset a sandbox's users, balances, clock, rules and journal; the returned `problems` should fail the test."""
    sandbox = requested_sandbox(request)
    problems = tuple(problem.text for problem in sandbox.reset())
    return schemas.ResetReport(**msgspec.structs.asdict(_sandbox_state(request, sandbox)), problems=problems)


def close_sandbox(request: Request) -> schemas.CloseReport:
    """Close a sandbox, opening its gates and rejecting its key and tokens.

    Returns its problems and the scheduled actions that were dropped.
    """
    sandbox, sandboxes = requested_sandbox(request), request.app.sandboxes
    if sandbox is sandboxes.base_sandbox:
        raise ControlError(
            "conflict", f"{sandbox.name!r} is the server's first sandbox, which stays open until the server stops"
        )
    drain_problems = drain(sandbox)
    sandboxes.detach(sandbox)
    dropped = sandbox.close()
    problems = (*(problem.text for problem in sandbox.find_problems()), *drain_problems)
    return schemas.CloseReport(problems, tuple(action.label for action in dropped))


def get_problems(request: Request) -> schemas.ProblemList:
    """Return the sandbox's problems; a suite should assert at the end that there are none."""
    return schemas.ProblemList(tuple(problem.text for problem in requested_sandbox(request).find_problems()))


# ------------------------------------------------------------ journals


def query_journal(request: Request, query: schemas.JournalQuery) -> schemas.JournalState:
    """List the kept exchanges that match the parameters, oldest first; `after` is the ordinal after which to start."""
    journal = requested_sandbox(request).journal
    criteria: dict[str, Any] = msgspec.to_builtins(query)
    after, operation = criteria.pop("after", 0), criteria.pop("operation", None)
    if operation is not None:
        with field_errors("operation"):
            parse_operation(operation)
    with field_errors():
        entries = journal.calls(operation, **criteria)
    matching = tuple(entry for entry in entries if entry.ordinal > after)
    return schemas.JournalState(journal.total, matching, journal.dropped)


def get_canonical_journal(request: Request) -> schemas.CanonicalJournal:
    """Return the journal as text that is identical, byte for byte, for the same seed and calls."""
    return schemas.CanonicalJournal(requested_sandbox(request).journal.canonical())


# ------------------------------------------------------------ faults


def list_presets(_request: Request) -> schemas.PresetList:
    """List the fault presets."""
    return schemas.PresetList(
        tuple(
            schemas.PresetInfo(name, preset.description, tuple(rule_to_json(rule) for rule in preset.rules))
            for name, preset in FAULT_PRESETS.items()
        )
    )


def list_faults(request: Request) -> schemas.RuleList:
    """List the rules, with the number of calls that each has matched and how often it has fired."""
    return _rule_list(_faults(request))


def add_fault(request: Request, body: schemas.JsonMembers) -> schemas.RuleState:
    """Add the rule in the body, such as `{"effect": "reset", "operation": "writes", "phase": "after", "nth": 1}`."""
    with field_errors():
        return _rule_state(_faults(request).add(body))


def load_faults(request: Request, body: schemas.JsonMembers) -> schemas.RuleList:
    """Add all rules of a scenario, such as `{"preset": "flaky"}`; if one is invalid, add none."""
    with field_errors():
        return _rule_list(_faults(request).load(list(parse_scenario(body))))


def get_fault(request: Request) -> schemas.RuleState:
    """Return one rule."""
    return _rule_state(_rule(request))


def remove_fault(request: Request) -> schemas.RuleState:
    """Remove a rule; calls for which it has already fired are not affected.

    A rule that is unused at that point is still reported as a problem.
    """
    rule = _rule(request)
    rule.remove()
    return _rule_state(rule)


def clear_faults(request: Request) -> schemas.RuleList:
    """Remove all rules."""
    faults = _faults(request)
    removed = list(faults)
    faults.clear()
    return _rule_list(removed)


def _rule_list(rules: Iterable[ActiveRule]) -> schemas.RuleList:
    return schemas.RuleList(tuple(_rule_state(rule) for rule in rules))


def _rule_state(rule: ActiveRule) -> schemas.RuleState:
    script_left = tuple(rule.script_left())
    return schemas.RuleState(rule.name, rule.fired, rule.matched, rule.is_unused, script_left, rule_to_json(rule.rule))


# ------------------------------------------------------------ gates


def list_gates(request: Request) -> schemas.GateList:
    """List the gates and the calls that each holds."""
    return schemas.GateList(tuple(_gate_state(gate) for gate in list(requested_sandbox(request).gates.values())))


def hold_gate(request: Request, body: schemas.JsonMembers) -> schemas.GateState:
    """Hold matching calls at a gate; the body has the fields of a rule, with the gate's name as `name`."""
    sandbox = requested_sandbox(request)
    with field_errors(), sandbox.lock:
        if body.get("effect", "hold_at_gate") != "hold_at_gate":
            raise FaultError(f"a gate must not have an effect, got {truncate(json.dumps(body['effect']))}")
        rule = rule_from({"name": sandbox.new_gate_name(), **body, "effect": "hold_at_gate"})
        return _gate_state(sandbox.hold(rule))


def get_gate(request: Request) -> schemas.GateState:
    """Return a gate and the calls that it holds."""
    return _gate_state(_gate(request))


async def wait_at_gate(request: Request, body: schemas.WaitAtGateBody) -> schemas.GateState:
    """Wait until `count` calls in total have arrived at a gate, for at most `limit_s` seconds."""
    gate = _gate(request)
    try:
        await gate.async_wait_for(body.count, limit_s=body.limit_s)
    except GateTimeout as error:
        raise ControlError("gate_limit", str(error)) from None
    return _gate_state(gate)


def release_gate(request: Request, body: schemas.ReleaseGateBody) -> schemas.GateState:
    """Release the held calls one by one, those in `order` first; respond once each has completed or waits again."""
    gate = _gate(request)
    with field_errors("order"):
        gate.release(body.order, keep=body.keep)
    return _gate_state(gate)


def _gate_state(gate: Gate) -> schemas.GateState:
    held = tuple(schemas.HeldCall(ticket.user, ticket.ordinal, ticket.label) for ticket in gate.held())
    return schemas.GateState(gate.name, gate.is_open, gate.arrivals, held)


# ------------------------------------------------------------ clocks


def get_clock(request: Request) -> schemas.ClockState:
    """Return a sandbox's time and its scheduled actions."""
    return _clock_state(requested_sandbox(request).clock)


def freeze_clock(request: Request, body: schemas.FreezeClockBody) -> schemas.ClockState:
    """Freeze the clock at its current time, or at the time `at`, which must not be earlier."""
    clock = requested_sandbox(request).clock
    with field_errors("at"):
        clock.freeze(body.at)
    return _clock_state(clock)


def advance_clock(request: Request, body: schemas.AdvanceClockBody) -> schemas.ClockState:
    """Move the clock forward, running the actions that become due."""
    clock = requested_sandbox(request).clock
    with field_errors():
        clock.advance(days=body.days, hours=body.hours, minutes=body.minutes, seconds=body.seconds)
    return _clock_state(clock)


def travel_clock(request: Request, body: schemas.TravelClockBody) -> schemas.ClockState:
    """Move the clock forward to a time, running the actions that become due."""
    clock = requested_sandbox(request).clock
    with field_errors("to"):
        clock.travel(body.to)
    return _clock_state(clock)


def settle_clock(request: Request) -> dict[str, object]:
    """Run all scheduled actions, moving the clock as far as needed."""
    clock = requested_sandbox(request).clock
    settled = clock.run_pending()
    return {**msgspec.structs.asdict(_clock_state(clock)), "settled": settled}  # ClockState omits a `settled` of 0


def _clock_state(clock: Clock) -> schemas.ClockState:
    pending = tuple(schemas.PendingAction(from_ms(action.at_ms), action.label) for action in clock.pending())
    return schemas.ClockState(clock.mode, from_ms(clock.now_ms()), pending)


def list_users(request: Request, query: schemas.UserQuery) -> schemas.UserList:
    """List all users of an application, oldest first; this is not journaled."""
    accounts = requested_sandbox(request).users(application_id=query.application_id or "")
    return schemas.UserList(tuple(map(_user_state, accounts)))


def set_user(request: Request, body: schemas.SetUserBody) -> schemas.UserState:
    """Create a user if needed and, if `balance` is given, set the balance with one grant or consume transaction."""
    sandbox, user_id = requested_sandbox(request), request.path_params["user"]
    with field_errors():
        account = sandbox.set_balance(user_id, body.balance, application_id=body.application_id or "")
    return _user_state(account)


def get_user(request: Request, query: schemas.UserQuery) -> schemas.UserState:
    """Return a user's balance; this is not journaled."""
    user_id = request.path_params["user"]
    return _user_state(requested_sandbox(request).account(user_id, application_id=query.application_id or ""))


def delete_user(request: Request, query: schemas.UserQuery) -> schemas.UserState:
    """Delete a user and the user's history, and return the user's last state."""
    user_id = request.path_params["user"]
    return _user_state(requested_sandbox(request).delete_user(user_id, application_id=query.application_id or ""))


def _user_state(account: Account) -> schemas.UserState:
    return schemas.UserState(account.application_id, account.user_id, account.balance, from_ms(account.created_at_ms))


def list_transactions(request: Request, query: schemas.UserQuery) -> schemas.TransactionList:
    """List a user's complete history, oldest first; this is not journaled."""
    sandbox, user_id = requested_sandbox(request), request.path_params["user"]
    return _transaction_list(sandbox.transactions(user_id, application_id=query.application_id or ""))


def add_transactions(request: Request, body: schemas.AddTransactionsBody) -> schemas.TransactionList:
    """Append transactions to a user's history, creating the user if needed; if one is invalid, append none."""
    sandbox, user_id = requested_sandbox(request), request.path_params["user"]
    transactions = cast("Any", body.transactions)
    with field_errors("transactions"):
        try:
            added = sandbox.add_transactions(user_id, transactions, application_id=body.application_id or "")
        except TypeError as error:
            raise validation_error("transactions", str(error)) from None
    return _transaction_list(added)


def _transaction_list(transactions: Iterable[Transaction]) -> schemas.TransactionList:
    return schemas.TransactionList(
        tuple(schemas.TransactionState(each.delta, each.reason, each.created_at) for each in transactions)
    )


def bind_user(request: Request, body: schemas.Binding) -> schemas.Binding:
    """Bind a user of a trusted issuer to a sandbox, so that the user's tokens select that sandbox."""
    try:
        request.app.sandboxes.bind_token_subject(requested_sandbox(request), body.issuer, body.user_id)
    except ValueError as error:
        raise validation_error("issuer", str(error)) from None
    return body


def mint_token(request: Request, body: schemas.MintTokenBody) -> schemas.MintedToken:
    """Mint a user's token or, with `bad`, one that the API must reject."""
    sandbox = requested_sandbox(request)
    if body.bad is not None:
        check_choice("bad", body.bad, BAD_TOKENS)
    options = MintOptions(
        bad=body.bad, expires_in_s=body.expires_in_s, claims=body.claims, use_wall_clock=body.clock == "wall"
    )
    user_id = body.user_id or sandbox.options.user_id
    with field_errors():
        return schemas.MintedToken(user_id, sandbox.token(user_id, options))
