"""Schemas of the control plane's JSON requests and responses, shared by its server and its Python client."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from fake_credits.errors import Problem

JsonMembers = dict[str, object]
"""The members of a rule or a scenario, which `fake_credits.faults` validates."""

_NonEmptyText = Annotated[str, Meta(min_length=1, max_length=1024)]
_Duration = Annotated[float, Meta(ge=0, le=10**12)]
_MAX_TIME_CHARS = 64
_TimeText = Annotated[str, Meta(max_length=_MAX_TIME_CHARS)]


# ------------------------------------------------------------ requests


class NoMembers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An empty body or query; the base class of the other body and query classes."""


class MakeSandboxBody(NoMembers, frozen=True):
    """The options for a new sandbox; all but ``api_key`` default to those of the server's first sandbox.

    `SandboxOptions` validates the values.
    """

    application_id: str | None = None
    user_id: str | None = None
    balance: int | None = None
    users: dict[str, int] | None = None
    seed: int | None = None
    clock: str | None = None
    auth_provider: str | None = None
    issuer: str | None = None
    api_key: str | None = None
    faults: list[object] | JsonMembers | str | None = None
    latency: float | str | dict[str, float | str] | None = None
    gate_timeout_s: float | None = None


class UserQuery(NoMembers, frozen=True):
    """The application to look in, by default the sandbox's default application."""

    application_id: _NonEmptyText | None = None


class SetUserBody(NoMembers, frozen=True):
    """The balance to set, if any, and the user's application, by default the sandbox's default application."""

    balance: int | None = None
    application_id: _NonEmptyText | None = None


class AddTransactionsBody(NoMembers, frozen=True):
    """The transactions to append to a history: each is a delta, or an object as in `TransactionState`.

    In an object, ``reason`` and ``created_at`` are optional.
    """

    transactions: Sequence[int | JsonMembers]
    application_id: _NonEmptyText | None = None


class Binding(NoMembers, frozen=True):
    """The binding of a trusted issuer's user to a sandbox, so that the user's tokens select that sandbox."""

    issuer: _NonEmptyText
    user_id: _NonEmptyText


class MintTokenBody(NoMembers, frozen=True):
    """The user and the contents of a token to mint; ``bad`` names a defect for which the API must reject the token."""

    user_id: _NonEmptyText | None = None
    bad: _NonEmptyText | None = None
    expires_in_s: Annotated[int, Meta(ge=1, le=10 * 366 * 86400)] | None = None
    claims: Mapping[str, object] = {}
    clock: Literal["sandbox", "wall"] = "sandbox"


class JournalQuery(NoMembers, frozen=True):
    """The criteria that exchanges must meet; with ``after``, only exchanges with a higher ordinal match."""

    operation: _NonEmptyText | None = None
    user: _NonEmptyText | None = None
    status: Annotated[int, Meta(ge=0, le=599)] | None = None
    rule: _NonEmptyText | None = None
    committed: bool | None = None
    delivered: bool | None = None
    after: Annotated[int, Meta(ge=0)] | None = None


class WaitAtGateBody(NoMembers, frozen=True):
    """The number of calls to wait for at a gate, and the time limit in seconds."""

    count: Annotated[int, Meta(ge=1, le=100_000)] = 1
    limit_s: Annotated[float, Meta(gt=0, le=60)] | None = None


class ReleaseGateBody(NoMembers, frozen=True):
    """The calls to release first, and whether to keep holding the others.

    A call is identified by its user, or by its position in the order of arrival, counted from 0.
    """

    order: Sequence[int | str] = ()
    keep: bool = False


class FreezeClockBody(NoMembers, frozen=True):
    """The time to freeze a clock at, by default its current time."""

    at: _TimeText | None = None


class AdvanceClockBody(NoMembers, frozen=True):
    """How far to move a clock forward."""

    days: _Duration = 0
    hours: _Duration = 0
    minutes: _Duration = 0
    seconds: _Duration = 0


class TravelClockBody(NoMembers, frozen=True):
    """The time to move a clock forward to."""

    to: _TimeText


# ------------------------------------------------------------ responses


class ErrorBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """The ``error`` member of an error response."""

    code: str
    message: str
    details: tuple[Problem, ...] = ()


class SandboxState(msgspec.Struct, frozen=True, omit_defaults=True):
    """The details that a client needs to use a sandbox, with counts of the sandbox's finished and ongoing exchanges.

    ``user_token`` is a token for the default user, valid for 24 hours. It is only set in the response to the request
    that created the sandbox.
    """

    name: str
    base_url: str
    api_key: str
    application_id: str
    user_id: str
    jwks_url: str
    seed: int
    is_default: bool
    exchanges: int
    under_way: int
    user_token: str = ""

    def __repr__(self) -> str:
        public_fields = [name for name in self.__struct_fields__ if name not in ("api_key", "user_token")]
        return f"SandboxState({', '.join(f'{name}={getattr(self, name)!r}' for name in public_fields)})"


class ResetReport(SandboxState, frozen=True, kw_only=True):
    """The state of a sandbox after a reset, and the problems found before it; if there are any, fail the test."""

    problems: tuple[str, ...]


class SandboxList(msgspec.Struct, frozen=True):
    """All of the server's sandboxes, oldest first."""

    sandboxes: tuple[SandboxState, ...]


class ProblemList(msgspec.Struct, frozen=True):
    """The problems that should fail a test suite."""

    problems: tuple[str, ...]


class CloseReport(msgspec.Struct, frozen=True):
    """A closed sandbox's problems, which should fail a test suite, and its scheduled actions, which were dropped."""

    problems: tuple[str, ...]
    dropped: tuple[str, ...]


class UserState(msgspec.Struct, frozen=True):
    """A user, with the balance in credits."""

    application_id: str
    user_id: str
    balance: int
    created_at: datetime


class UserList(msgspec.Struct, frozen=True):
    """All users of an application, oldest first."""

    users: tuple[UserState, ...]


class TransactionState(msgspec.Struct, frozen=True):
    """A transaction in a user's history."""

    delta: int
    reason: str
    created_at: datetime


class TransactionList(msgspec.Struct, frozen=True):
    """Transactions of a user, oldest first."""

    transactions: tuple[TransactionState, ...]


class MintedToken(msgspec.Struct, frozen=True):
    """A token, and the user it was minted for."""

    user_id: str
    token: str


class RuleState(msgspec.Struct, frozen=True):
    """A rule as declared, with the number of calls that it matched and the number of times that it fired."""

    name: str
    fired: int
    matched: int
    is_unused: bool
    script_left: tuple[int | str, ...]
    rule: Mapping[str, Any]


class RuleList(msgspec.Struct, frozen=True):
    """A list of rules."""

    faults: tuple[RuleState, ...]


class PresetInfo(msgspec.Struct, frozen=True):
    """A fault preset: what it simulates, in one sentence, and its rules."""

    name: str
    explains: str
    rules: tuple[Mapping[str, Any], ...]


class PresetList(msgspec.Struct, frozen=True):
    """All fault presets."""

    presets: tuple[PresetInfo, ...]


class HeldCall(msgspec.Struct, frozen=True):
    """A call held at a gate; ``ordinal`` is its number in the journal."""

    user: str
    ordinal: int
    call: str


class GateState(msgspec.Struct, frozen=True):
    """A gate with the calls that it holds, in order of arrival, and the total number of arrivals."""

    name: str
    is_open: bool
    arrivals: int
    held: tuple[HeldCall, ...]


class GateList(msgspec.Struct, frozen=True):
    """All gates of a sandbox."""

    gates: tuple[GateState, ...]


class PendingAction(msgspec.Struct, frozen=True):
    """A scheduled action, and when it is due."""

    at: datetime
    what: str


class ClockState(msgspec.Struct, frozen=True, omit_defaults=True):
    """A sandbox's clock; ``settled`` is the number of actions that ``settle`` ran."""

    mode: Literal["real", "offset", "frozen"]
    now: datetime
    parked: tuple[PendingAction, ...]
    settled: int = 0


TOKEN_HEADER = "X-Fake-Credits-Control"  # noqa: S105 - the name of a header
"""The header for the control token; its name is unusual so that the token can't be mistaken for an API credential."""


class RecordedExchange(msgspec.Struct, frozen=True):
    """An entry of a journal (docs, "Journal")."""

    ordinal: int
    request_id: str
    at_ms: int
    method: str
    target: str
    operation: str = ""
    application: str = ""
    user: str = ""
    client: str = "none"
    status: int = 0
    code: str = ""
    cause: str = ""
    message: str = ""
    delta: int | None = None
    reason: str = ""
    transaction: str = ""
    committed: bool = False
    delivered: bool = True
    rule: str = ""
    phase: str = ""
    idempotency_key: str = ""
    duration_us: int = 0
    headers: Mapping[str, str] = {}
    """The kept request headers by lower-case name; a hash replaces the end of values longer than 256 characters."""


class JournalState(msgspec.Struct, frozen=True):
    """The requested exchanges, oldest first, with the total number recorded so far and the number no longer kept."""

    total: int
    entries: tuple[RecordedExchange, ...]
    dropped: int


class CanonicalJournal(msgspec.Struct, frozen=True):
    """A journal in a form that is identical, byte for byte, for the same seed and calls."""

    canonical: str
