"""The client for a live server's control plane, with handles for the server's sandboxes and their gates.

It is for tests that use a server started by `fake-credits run` or `serve` (docs, "Control plane"). Tests that run the
fake in their own process use `FakeCredits` instead. This module must not import the fake.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Literal, Self, TypedDict, TypeVar, Unpack

import msgspec

from fake_credits import control_schemas as schemas
from fake_credits.arguments import BaseUrl, check_timeout, encode_secret, keyword_hint, mask, quote_id, quote_text
from fake_credits.errors import ControlError, InvalidResponse
from fake_credits.http_message import Request, Response, Transport
from fake_credits.models import Transaction

__all__ = ["ControlClient", "JournalWords", "RemoteGate", "RemoteSandbox", "SandboxWords"]

__tracebackhide__ = True  # a failing test then shows the caller's line, not ours

T = TypeVar("T")


class SandboxWords(TypedDict, total=False):
    """The options for a new sandbox; all but ``api_key`` default to those of the server's first sandbox."""

    application_id: str
    user_id: str
    balance: int
    users: Mapping[str, int]
    seed: int
    clock: datetime | str
    auth_provider: str
    issuer: str
    api_key: str
    faults: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]]
    latency: float | str | Mapping[str, float | str]
    gate_timeout_s: float


class JournalWords(TypedDict, total=False):
    """The criteria that exchanges must meet; with ``after``, only exchanges with a higher ordinal match."""

    operation: str
    user: str
    status: int
    rule: str
    committed: bool
    delivered: bool
    after: int


class ControlClient:
    """A client for a live server's control plane; it creates sandboxes.

    ``base_url`` and ``token`` are the values of FAKE_CREDITS_URL and FAKE_CREDITS_CONTROL_TOKEN. ``timeout_s`` is the
    maximum wait, in seconds, for the next byte (None: no limit). Every method raises `ControlError` for an error
    response, `TransportFailure` if there is no usable response, and ValueError or TypeError for arguments that can't be
    sent.
    """

    def __init__(
        self, base_url: str, token: str, *, timeout_s: float | None = 30, transport: Transport | None = None
    ) -> None:
        self._base = BaseUrl.parse(base_url)
        token_header = (schemas.TOKEN_HEADER.lower().encode(), encode_secret("token", token))
        self._headers = [(b"accept", b"application/json"), token_header]
        self._masked_token = mask(token)
        self._timeout_s = check_timeout(timeout_s)
        self._owns_transport = transport is None
        if transport is None:
            from fake_credits.client.http import NetworkTransport  # loads httpx2

            transport = NetworkTransport(self._base.text)
        self._transport = transport

    def __repr__(self) -> str:
        return f"ControlClient({self._base.text!r}, token={self._masked_token!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the transport unless it was passed in; sandboxes stay open."""
        if self._owns_transport:
            self._transport.close()

    def make_sandbox(self, **options: Unpack[SandboxWords]) -> "RemoteSandbox":
        """Create a sandbox with its own API key; use it in a ``with`` block, or call ``close``."""
        state = self.ask(schemas.SandboxState, "POST", "/sandboxes", dict(options))
        return RemoteSandbox(self, state.name, state)

    def sandboxes(self) -> tuple[schemas.SandboxState, ...]:
        """Return the server's sandboxes, oldest first."""
        return self.ask(schemas.SandboxList, "GET", "/sandboxes").sandboxes

    def sandbox(self, name: str = "default") -> "RemoteSandbox":
        """Return a handle for an existing sandbox, by default the server's first one."""
        return RemoteSandbox(self, name, self.ask(schemas.SandboxState, "GET", f"/sandboxes/{quote_id('name', name)}"))

    def presets(self) -> tuple[schemas.PresetInfo, ...]:
        """Return the fault presets."""
        return self.ask(schemas.PresetList, "GET", "/presets").presets

    def ask(self, shape: type[T], method: str, path: str, body: object = None, *, wait_s: float = 0) -> T:
        """Send a request for a path below ``/_fake``, and return the response decoded as ``shape``.

        ``wait_s`` is how long the server may wait before it responds; it is added to the timeout.
        """
        label = f"{method} {path}"
        content = None if body is None else _encode_body(label, body)
        headers = self._headers if content is None else [*self._headers, (b"content-type", b"application/json")]
        timeout_s = None if self._timeout_s is None else self._timeout_s + wait_s
        response = self._transport.send(
            Request(method, f"/_fake{path}".encode(), headers, content or b"", timeout_s, label)
        )
        if response.status >= 300:
            raise _error_from_response(label, response)
        try:
            return msgspec.json.decode(response.body, type=shape)
        except (msgspec.MsgspecError, ValueError) as error:
            raise InvalidResponse(
                f"{label}: the body is not a control-plane response: {error}", status=response.status
            ) from error


class RemoteSandbox:
    """A sandbox on a live server; ``made`` is its state when this handle was created."""

    def __init__(self, client: ControlClient, name: str, made: schemas.SandboxState) -> None:
        self._client = client
        self._path = f"/sandboxes/{quote_id('name', name)}"
        self.name = name
        self.made = made

    def __repr__(self) -> str:
        return f"<RemoteSandbox {self.name}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        self.close()

    @property
    def base_url(self) -> str:
        """Return the base URL of the sandbox's API."""
        return self.made.base_url

    @property
    def api_key(self) -> str:
        """Return the API key for a ``ServerClient``."""
        return self.made.api_key

    def state(self) -> schemas.SandboxState:
        """Return the sandbox's current state."""
        return self._request(schemas.SandboxState, "GET", "")

    def reset(self) -> schemas.ResetReport:
        """Restore the initial users, balances, clock and rules, and clear the journal.

        The returned report lists the `problems` found before the reset; if there are any, the test should fail.
        """
        return self._request(schemas.ResetReport, "POST", "/reset")

    def problems(self) -> tuple[str, ...]:
        """Return the problems that should fail an otherwise passing suite; assert at the end that there are none."""
        return self._request(schemas.ProblemList, "GET", "/problems").problems

    def close(self) -> schemas.CloseReport:
        """Close the sandbox, which opens its gates, and return a report (empty if the sandbox does not exist)."""
        try:
            return self._request(schemas.CloseReport, "DELETE", "")
        except ControlError as error:
            if error.code != "sandbox_not_found":
                raise
            return schemas.CloseReport((), ())

    @keyword_hint("balance")
    def user(self, user_id: str, *, balance: int | None = None, application_id: str | None = None) -> schemas.UserState:
        """Create a user if needed and, if ``balance`` is passed, grant or consume credits to reach it."""
        body = schemas.SetUserBody(balance=balance, application_id=application_id)
        return self._request(schemas.UserState, "PUT", f"/users/{quote_id('user_id', user_id)}", body)

    def balance(self, user_id: str, *, application_id: str | None = None) -> int:
        """Return a user's balance in credits, without adding a journal entry."""
        query = _query_string(application_id=application_id)
        return self._request(schemas.UserState, "GET", f"/users/{quote_id('user_id', user_id)}{query}").balance

    def users(self, *, application_id: str | None = None) -> tuple[schemas.UserState, ...]:
        """Return all users of an application, oldest first, without adding a journal entry."""
        query = _query_string(application_id=application_id)
        return self._request(schemas.UserList, "GET", f"/users{query}").users

    def delete_user(self, user_id: str, *, application_id: str | None = None) -> schemas.UserState:
        """Delete a user and the user's history, and return the user's last state."""
        query = _query_string(application_id=application_id)
        return self._request(schemas.UserState, "DELETE", f"/users/{quote_id('user_id', user_id)}{query}")

    def transactions(self, user_id: str, *, application_id: str | None = None) -> tuple[schemas.TransactionState, ...]:
        """Return a user's complete history, oldest first, without adding a journal entry."""
        path = f"/users/{quote_id('user_id', user_id)}/transactions{_query_string(application_id=application_id)}"
        return self._request(schemas.TransactionList, "GET", path).transactions

    def add_transactions(
        self,
        user_id: str,
        transactions: Sequence[int | Transaction | Mapping[str, Any]],
        *,
        application_id: str | None = None,
    ) -> tuple[schemas.TransactionState, ...]:
        """Append transactions to a user's history, creating the user if needed, and return the transactions.

        Each is a delta, a `Transaction`, or a mapping with ``delta`` and, optionally, ``reason`` and ``created_at``. If
        any is invalid, none are added.
        """
        body = {"transactions": transactions, **_without_none(application_id=application_id)}
        path = f"/users/{quote_id('user_id', user_id)}/transactions"
        return self._request(schemas.TransactionList, "POST", path, body).transactions

    @keyword_hint("bad")
    def token(
        self,
        user_id: str | None = None,
        *,
        bad: str | None = None,
        expires_in_s: int | None = None,
        claims: Mapping[str, object] | None = None,
        clock: Literal["sandbox", "wall"] = "sandbox",
    ) -> str:
        """Return a user's token or, with ``bad``, one that the API must reject (docs, "Tokens")."""
        body = schemas.MintTokenBody(
            user_id=user_id, bad=bad, expires_in_s=expires_in_s, claims=claims or {}, clock=clock
        )
        return self._request(schemas.MintedToken, "POST", "/tokens", body).token

    def bind(self, issuer: str, user_id: str) -> schemas.Binding:
        """Route requests to this sandbox if they carry a trusted issuer's token for a user (docs/how-to/tokens.md)."""
        return self._request(schemas.Binding, "POST", "/bindings", schemas.Binding(issuer, user_id))

    def journal(self, **filters: Unpack[JournalWords]) -> tuple[schemas.RecordedExchange, ...]:
        """Return the exchanges still in the journal that match all filters, oldest first."""
        return self._request(schemas.JournalState, "GET", f"/journal{_query_string(**filters)}").entries

    def canonical_journal(self) -> str:
        """Return the journal in a form that is identical, byte for byte, for the same seed and calls."""
        return self._request(schemas.CanonicalJournal, "GET", "/journal/canonical").canonical

    def add_fault(self, effect: str | None = None, operation: str | None = None, **fields: Any) -> schemas.RuleState:
        """Add a rule: ``add_fault("reset", "createTransaction", phase="after", nth=1)`` or ``add_fault(script=[503])``.

        The keyword arguments are the fields of the rule and of its effect (docs, "Faults").
        """
        body = _without_none(effect=effect, operation=operation) | fields
        return self._request(schemas.RuleState, "POST", "/faults", body)

    def load_faults(self, scenario: str | Mapping[str, Any]) -> tuple[schemas.RuleState, ...]:
        """Add all rules of a preset (given by name) or of a scenario; if any rule is invalid, add none."""
        body = {"preset": scenario} if isinstance(scenario, str) else scenario
        return self._request(schemas.RuleList, "POST", "/faults/load", body).faults

    def faults(self) -> tuple[schemas.RuleState, ...]:
        """Return the rules, each with how many calls it has matched and how often it has fired."""
        return self._request(schemas.RuleList, "GET", "/faults").faults

    def fault(self, name: str) -> schemas.RuleState:
        """Return the rule called ``name``."""
        return self._request(schemas.RuleState, "GET", f"/faults/{quote_id('name', name)}")

    def remove_fault(self, name: str) -> schemas.RuleState:
        """Remove a rule.

        Calls that it has already affected stay affected. An unused rule is still reported as a problem.
        """
        return self._request(schemas.RuleState, "DELETE", f"/faults/{quote_id('name', name)}")

    def clear_faults(self) -> tuple[schemas.RuleState, ...]:
        """Remove all rules, and return them."""
        return self._request(schemas.RuleList, "DELETE", "/faults").faults

    def hold(self, operation: str | None = None, *, name: str | None = None, **fields: Any) -> "RemoteGate":
        """Hold matching calls at a gate, and return the gate; ``fields`` are further criteria."""
        body = _without_none(operation=operation, name=name) | fields
        return RemoteGate(self, self._request(schemas.GateState, "POST", "/gates", body).name)

    def gates(self) -> tuple[schemas.GateState, ...]:
        """Return all gates with the calls that they hold."""
        return self._request(schemas.GateList, "GET", "/gates").gates

    def clock(self) -> schemas.ClockState:
        """Return the sandbox's time and its scheduled actions."""
        return self._request(schemas.ClockState, "GET", "/clock")

    def freeze(self, at: datetime | str | None = None) -> schemas.ClockState:
        """Freeze the sandbox's clock at its current time, or at ``at``, which must not be earlier."""
        return self._request(schemas.ClockState, "POST", "/clock/freeze", {"at": at})

    @keyword_hint("seconds")
    def advance(
        self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0
    ) -> schemas.ClockState:
        """Move the sandbox's clock forward, running the actions that become due."""
        duration = schemas.AdvanceClockBody(days=days, hours=hours, minutes=minutes, seconds=seconds)
        return self._request(schemas.ClockState, "POST", "/clock/advance", duration)

    def travel(self, to: datetime | str) -> schemas.ClockState:
        """Move the sandbox's clock forward to a time, running the actions that become due."""
        return self._request(schemas.ClockState, "POST", "/clock/travel", {"to": to})

    def settle(self) -> schemas.ClockState:
        """Run all scheduled actions, moving the clock forward as far as needed."""
        return self._request(schemas.ClockState, "POST", "/clock/settle")

    def _request(self, response_type: type[T], method: str, path: str, body: object = None, *, wait_s: float = 0) -> T:
        return self._client.ask(response_type, method, f"{self._path}{path}", body, wait_s=wait_s)

    def ask_gate(self, method: str, path: str, body: object = None, *, wait_s: float = 0) -> schemas.GateState:
        """Send a request about a gate, and return the gate's state."""
        return self._request(schemas.GateState, method, f"/gates/{path}", body, wait_s=wait_s)


class RemoteGate:
    """A sandbox's gate on a live server."""

    def __init__(self, sandbox: RemoteSandbox, name: str) -> None:
        self._sandbox = sandbox
        self._path = quote_id("name", name)
        self.name = name

    def __repr__(self) -> str:
        return f"<RemoteGate {self.name!r} of {self._sandbox!r}>"

    def state(self) -> schemas.GateState:
        """Return the gate's state, with the calls that it holds."""
        return self._sandbox.ask_gate("GET", self._path)

    def wait_for(self, count: int = 1, *, limit_s: float = 10) -> schemas.GateState:
        """Wait until ``count`` calls in total have arrived.

        Raises ControlError if that takes more than ``limit_s`` seconds; ``limit_s`` may be at most 60.
        """
        if isinstance(limit_s, bool) or not isinstance(limit_s, int | float):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"limit_s must be a number of seconds, not {type(limit_s).__name__}")
        body = schemas.WaitAtGateBody(count=count, limit_s=limit_s)
        return self._sandbox.ask_gate("POST", f"{self._path}/wait", body, wait_s=limit_s)

    def release(self, order: Sequence[int | str] = (), *, keep: bool = False) -> schemas.GateState:
        """Release the held calls one by one, each once the previous one has completed or is waiting again.

        ``order`` lists the calls to release first, by user or by position in order of arrival, counted from 0. The
        others follow in order of arrival or, with ``keep``, stay held.
        """
        return self._sandbox.ask_gate("POST", f"{self._path}/release", schemas.ReleaseGateBody(order=order, keep=keep))


def _encode_body(label: str, body: object) -> bytes:
    """Return a body as JSON; reject NaN, which msgspec would encode as null."""
    try:
        return json.dumps(msgspec.to_builtins(body), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{label}: the arguments can't be encoded as JSON: {error}") from None


def _without_none(**members: object) -> dict[str, object]:
    return {name: value for name, value in members.items() if value is not None}


def _query_string(**params: object) -> str:
    texts = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in _without_none(**params).items()
    }
    return "?" * bool(texts) + "&".join(f"{name}={quote_text(name, text)}" for name, text in texts.items())


def _error_from_response(label: str, response: Response) -> Exception:
    try:
        body = msgspec.json.decode(response.body, type=dict[str, schemas.ErrorBody])["error"]
    except (msgspec.MsgspecError, ValueError, KeyError):
        excerpt = response.body[:200].decode("utf-8", "replace")
        return InvalidResponse(
            f"{label}: status {response.status}, but the body is not a control-plane error: {excerpt!r}",
            status=response.status,
        )
    error = ControlError(body.code, body.message, details=body.details, allow=response.header(b"allow"))
    error.status = response.status
    return error
