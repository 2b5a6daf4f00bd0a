"""Own the verbs on sandboxes, users, tokens and journals; know nothing of HTTP.

Each is a plain function that a worker thread runs: some wait for exchanges, which the server's loop runs.
"""

from dataclasses import replace
from typing import Any

import msgspec

from fake_credits.auth.negative import BAD_TOKENS
from fake_credits.auth.providers import PRESETS
from fake_credits.errors import ControlError, Problem
from fake_credits.faults.presets import PRESETS as BAD_DAYS
from fake_credits.journal import Entry
from fake_credits.sandbox import Sandbox, SandboxSettings, TokenWords
from fake_credits.sandbox.ending import last_exchanges, problems_of
from fake_credits.web.control.call import ControlCall
from fake_credits.web.control.shapes import JournalQuery, NewSandbox, NewToken, UserState, members, moment, naming
from fake_credits.web.control.told import Told, sandbox_told, user_told

__all__ = [
    "canonical_journal",
    "close_sandbox",
    "get_sandbox",
    "get_user",
    "list_sandboxes",
    "make_sandbox",
    "mint_token",
    "problems",
    "query_journal",
    "reset_sandbox",
    "set_user",
]

_TOKEN_LIFE_S = 24 * 3600


def make_sandbox(call: ControlCall) -> Told:
    """Make a sandbox with an API key of its own, from the words of its start."""
    estate = call.estate
    settings = _settings(estate.sandboxes.base.settings, call.body)
    with estate.lock:
        if len(estate.sandboxes) >= estate.sandbox_limit:
            raise ControlError(
                "sandbox_limit",
                f"this server has {len(estate.sandboxes)} sandboxes: close some, or start it with a higher "
                "--sandbox-limit",
            )
        with naming(""):
            sandbox = estate.new_sandbox(settings)
        try:
            estate.sandboxes.attach(sandbox, as_default=False)
        except ValueError as error:
            raise ControlError("conflict", str(error), details=(Problem("api_key", "is another sandbox's"),)) from None
    token = sandbox.token(sandbox.settings.user_id, TokenWords(expires_in_s=_TOKEN_LIFE_S))
    return {**_told(call, sandbox), "user_token": token}


def _settings(base: SandboxSettings, body: NewSandbox) -> SandboxSettings:
    words: dict[str, Any] = {"api_key": "", **members(body)}
    if words.get("clock", "real") not in ("real", "frozen"):
        words["clock"] = moment("clock", words["clock"])
    if words.get("jwt", "plain") not in PRESETS:
        raise _no_choice("jwt", words["jwt"], PRESETS)
    _refuse_files(words.get("faults", ()))
    # Of the default user's balance, what is said here takes the place of what the server was started with.
    user_id = words.get("user_id", base.user_id)
    if user_id in words.get("users", ()):
        words.setdefault("balance", None)
    elif "balance" in words:
        words.setdefault("users", {user: balance for user, balance in base.users.items() if user != user_id})
    with naming("balance"):
        return replace(base, **words)


def _refuse_files(faults: object) -> None:
    """Let a text be a preset's name only: a file's would be one on the server."""
    for each in faults if isinstance(faults, list) else [faults]:  # pyright: ignore[reportUnknownVariableType]
        if isinstance(each, str) and each not in BAD_DAYS:
            raise _no_choice("faults", each, BAD_DAYS)


def list_sandboxes(call: ControlCall) -> Told:
    """List the sandboxes, the server's first one first."""
    return {"sandboxes": [_told(call, sandbox) for sandbox in call.estate.sandboxes]}


def get_sandbox(call: ControlCall) -> Told:
    """Tell what a client of a sandbox has to know."""
    return _told(call, call.sandbox)


def reset_sandbox(call: ControlCall) -> Told:
    """Take a sandbox back to its start: users, balances, clock, rules, an empty journal; what gates held runs first."""
    call.sandbox.reset()
    return _told(call, call.sandbox)


def close_sandbox(call: ControlCall) -> Told:
    """Close a sandbox: its gates open, its key and tokens are refused; tell its problems and what was to come."""
    sandbox, sandboxes = call.sandbox, call.estate.sandboxes
    if sandbox is sandboxes.base:
        raise ControlError("conflict", f"{sandbox.name!r} is the server's first sandbox, which ends with the server")
    late = last_exchanges(sandbox)
    sandboxes.detach(sandbox)
    parked = sandbox.close()
    return {"problems": [*problems_of(sandbox), *late], "dropped": [due.label for due in parked]}


def problems(call: ControlCall) -> Told:
    """Tell what makes a suite that passed prove nothing; assert at its end that there is none."""
    return {"problems": problems_of(call.sandbox)}


def set_user(call: ControlCall) -> Told:
    """Make a user exist and, with `balance`, bring the balance to it by one grant or consumption."""
    body: UserState = call.body
    sandbox = call.sandbox
    with naming(""):
        account = sandbox.fund(call.parts["user"], body.balance, application_id=body.application_id or "")
    return user_told(account)


def get_user(call: ControlCall) -> Told:
    """Tell a user's balance, without an exchange."""
    return user_told(call.sandbox.account(call.parts["user"], application_id=call.query.application_id or ""))


def mint_token(call: ControlCall) -> Told:
    """Mint a user's token, good or, with `bad`, one that must be refused."""
    body: NewToken = call.body
    sandbox = call.sandbox
    if body.bad is not None and body.bad not in BAD_TOKENS:
        raise _no_choice("bad", body.bad, BAD_TOKENS)
    words = TokenWords(bad=body.bad, expires_in_s=body.expires_in_s, claims=body.claims, wall=body.clock == "wall")
    user_id = body.user_id or sandbox.settings.user_id
    with naming(""):
        return {"user_id": user_id, "token": sandbox.token(user_id, words)}


def query_journal(call: ControlCall) -> Told:
    """List the kept exchanges, oldest first, that the parameters choose; `after` is an ordinal."""
    query: JournalQuery = call.query
    journal = call.sandbox.journal
    with naming("operation"):
        entries = journal.entries(operation=query.operation, user=query.user)
    chosen = [entry for entry in entries if _matches(entry, query)]
    return {"total": journal.total, "entries": msgspec.to_builtins(chosen)}


def _matches(entry: Entry, query: JournalQuery) -> bool:
    return (query.after is None or entry.ordinal > query.after) and all(
        getattr(query, name) in (None, getattr(entry, name)) for name in ("status", "rule", "committed", "delivered")
    )


def canonical_journal(call: ControlCall) -> Told:
    """Tell the journal in the form that the same seed and the same calls give again, byte for byte."""
    return {"canonical": call.sandbox.journal.canonical()}


def _told(call: ControlCall, sandbox: Sandbox) -> Told:
    return sandbox_told(sandbox, call.base_url, default=call.estate.sandboxes.base)


def _no_choice(field: str, value: object, known: Any) -> ControlError:
    problem = f"is {str(value)[:60]!r}: choose one of {', '.join(known)}"
    return ControlError("validation_error", f"{field} {problem}", details=(Problem(field, problem),))
