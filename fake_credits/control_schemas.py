"""The control plane's requests and responses as JSON has them, for its server and its Python client."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from fake_credits.contract import MAX_AMOUNT
from fake_credits.errors import Problem

__all__ = [
    "AdvanceClockBody",
    "CanonicalJournal",
    "ClockState",
    "CloseReport",
    "ErrorBody",
    "FreezeClockBody",
    "GateList",
    "GateState",
    "HeldCall",
    "JournalQuery",
    "JournalState",
    "JsonMembers",
    "MakeSandboxBody",
    "MintTokenBody",
    "MintedToken",
    "NoMembers",
    "PendingAction",
    "PresetInfo",
    "PresetList",
    "ProblemList",
    "RecordedExchange",
    "ReleaseGateBody",
    "RuleList",
    "RuleState",
    "SandboxList",
    "SandboxState",
    "SetUserBody",
    "TravelClockBody",
    "UserQuery",
    "UserState",
    "WaitAtGateBody",
]

JsonMembers = dict[str, object]
"""A rule or a scenario, whose members `fake_credits.faults` validates."""

_NonEmptyText = Annotated[str, Meta(min_length=1, max_length=1024)]
_Balance = Annotated[int, Meta(ge=-MAX_AMOUNT, le=MAX_AMOUNT)]
_Duration = Annotated[float, Meta(ge=0, le=10**12)]


# ------------------------------------------------------------ requests


class NoMembers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body or query of a route that takes no member, and the base of those that do."""


class MakeSandboxBody(NoMembers, frozen=True):
    """How a sandbox starts; what is not given is as the server's first sandbox started."""

    application_id: _NonEmptyText | None = None
    user_id: _NonEmptyText | None = None
    balance: _Balance | None = None
    users: dict[str, _Balance] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    clock: _NonEmptyText | None = None
    auth_provider: _NonEmptyText | None = None
    api_key: Annotated[str, Meta(pattern=r"^[\x21-\x7e]{1,256}$")] | None = None
    faults: list[object] | JsonMembers | str | None = None
    latency: float | str | dict[str, float | str] | None = None
    gate_timeout_s: Annotated[float, Meta(gt=0, le=3600)] | None = None


class UserQuery(NoMembers, frozen=True):
    """The application of a user, by default the sandbox's own."""

    application_id: _NonEmptyText | None = None


class SetUserBody(NoMembers, frozen=True):
    """A user to create and, unless it is None, the balance to bring the user to."""

    balance: _Balance | None = None
    application_id: _NonEmptyText | None = None


class MintTokenBody(NoMembers, frozen=True):
    """The contents of a token to mint."""

    user_id: _NonEmptyText | None = None
    bad: _NonEmptyText | None = None
    expires_in_s: Annotated[int, Meta(ge=1, le=10 * 366 * 86400)] | None = None
    claims: Mapping[str, object] = {}
    clock: Literal["sandbox", "wall"] = "sandbox"


class JournalQuery(NoMembers, frozen=True):
    """The criteria that exchanges have to meet; ``after`` is an ordinal."""

    operation: _NonEmptyText | None = None
    user: _NonEmptyText | None = None
    status: Annotated[int, Meta(ge=0, le=599)] | None = None
    rule: _NonEmptyText | None = None
    committed: bool | None = None
    delivered: bool | None = None
    after: Annotated[int, Meta(ge=0)] | None = None


class WaitAtGateBody(NoMembers, frozen=True):
    """How many calls have to arrive at a gate, and within how many seconds."""

    count: Annotated[int, Meta(ge=1, le=100_000)] = 1
    limit_s: Annotated[float, Meta(gt=0, le=60)] | None = None


class ReleaseGateBody(NoMembers, frozen=True):
    """The calls to release first, by arrival from 0 or by user, and whether the gate keeps the others."""

    order: Sequence[int | str] = ()
    keep: bool = False


class FreezeClockBody(NoMembers, frozen=True):
    """The time to freeze a clock at, by default now, as ISO 8601 text."""

    at: _NonEmptyText | None = None


class AdvanceClockBody(NoMembers, frozen=True):
    """How far to move a clock forward."""

    days: _Duration = 0
    hours: _Duration = 0
    minutes: _Duration = 0
    seconds: _Duration = 0


class TravelClockBody(NoMembers, frozen=True):
    """The time to move a clock forward to, as ISO 8601 text."""

    to: _NonEmptyText


# ------------------------------------------------------------ responses


class ErrorBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """The ``error`` member of a response that reports one."""

    code: str
    message: str
    details: tuple[Problem, ...] = ()


class SandboxState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a client of a sandbox has to know, and how far that sandbox has come.

    ``user_token`` is a token of the default user, valid for 24 hours, in the response that made the sandbox.
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


class SandboxList(msgspec.Struct, frozen=True):
    """All sandboxes, the server's first one first."""

    sandboxes: tuple[SandboxState, ...]


class ProblemList(msgspec.Struct, frozen=True):
    """What a suite should fail for."""

    problems: tuple[str, ...]


class CloseReport(msgspec.Struct, frozen=True):
    """What a suite should fail for when a sandbox is closed, and the delayed actions that were dropped."""

    problems: tuple[str, ...]
    dropped: tuple[str, ...]


class UserState(msgspec.Struct, frozen=True):
    """A user with the balance in credits."""

    application_id: str
    user_id: str
    balance: int
    created_at: datetime


class MintedToken(msgspec.Struct, frozen=True):
    """A token and its user."""

    user_id: str
    token: str


class RuleState(msgspec.Struct, frozen=True):
    """A rule: it ``fired`` so often, of ``matched`` calls; ``rule`` is what was declared."""

    name: str
    fired: int
    matched: int
    is_unused: bool
    script_left: tuple[int | str, ...]
    rule: Mapping[str, Any]


class RuleList(msgspec.Struct, frozen=True):
    """Several rules."""

    faults: tuple[RuleState, ...]


class PresetInfo(msgspec.Struct, frozen=True):
    """A preset: what goes wrong, in a sentence, and its rules."""

    name: str
    explains: str
    rules: tuple[Mapping[str, Any], ...]


class PresetList(msgspec.Struct, frozen=True):
    """All presets."""

    presets: tuple[PresetInfo, ...]


class HeldCall(msgspec.Struct, frozen=True):
    """A call at a gate; ``ordinal`` is its number in the journal."""

    user: str
    ordinal: int
    call: str


class GateState(msgspec.Struct, frozen=True):
    """A gate: the calls that it holds, by order of arrival, and how many have arrived in all."""

    name: str
    is_open: bool
    arrivals: int
    held: tuple[HeldCall, ...]


class GateList(msgspec.Struct, frozen=True):
    """All gates of a sandbox."""

    gates: tuple[GateState, ...]


class PendingAction(msgspec.Struct, frozen=True):
    """Something that happens when a clock gets to a time."""

    at: datetime
    what: str


class ClockState(msgspec.Struct, frozen=True, omit_defaults=True):
    """A sandbox's clock; ``settled`` is how many actions a call of ``settle`` ran."""

    mode: Literal["real", "offset", "frozen"]
    now: datetime
    parked: tuple[PendingAction, ...]
    settled: int = 0


class RecordedExchange(msgspec.Struct, frozen=True):
    """An entry of a journal: README, "What happened", explains its fields."""

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
    """The request headers that are kept, by their names in lower case, at most 256 characters of each."""


class JournalState(msgspec.Struct, frozen=True):
    """The exchanges that were asked for, oldest first, and the number of all that there have been."""

    total: int
    entries: tuple[RecordedExchange, ...]


class CanonicalJournal(msgspec.Struct, frozen=True):
    """A journal in the form that the same seed and the same calls give again, byte for byte."""

    canonical: str
