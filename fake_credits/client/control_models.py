"""Own what the control plane tells, as frozen values; know nothing of how it is asked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

__all__ = [
    "ClockState",
    "CloseReport",
    "GateState",
    "HeldCall",
    "PendingAction",
    "PresetInfo",
    "RecordedExchange",
    "RuleState",
    "SandboxState",
    "UserState",
]


@dataclass(frozen=True, slots=True)
class SandboxState:
    """Be what a client of a sandbox has to know, and how far that sandbox has come.

    ``user_token`` is a token of the default user, good for 24 hours, where the sandbox was made by this call.
    """

    name: str
    base_url: str
    api_key: str = field(repr=False)
    application_id: str
    user_id: str
    jwks_url: str
    seed: int
    is_default: bool
    exchanges: int
    under_way: int
    user_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class CloseReport:
    """Be what a sandbox has to say when it is closed: what a suite should fail for, and what was to happen later."""

    problems: tuple[str, ...]
    dropped: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UserState:
    """Be a user with the balance in credits."""

    application_id: str
    user_id: str
    balance: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class RuleState:
    """Be a rule: it ``fired`` so often, of ``matched`` calls; ``rule`` is what was declared."""

    name: str
    fired: int
    matched: int
    is_unused: bool
    script_left: tuple[int | str, ...]
    rule: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PresetInfo:
    """Be a preset: what goes wrong, in a sentence, and its rules."""

    name: str
    explains: str
    rules: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class HeldCall:
    """Be one call at a gate; ``ordinal`` is its number in the journal."""

    user: str
    ordinal: int
    call: str


@dataclass(frozen=True, slots=True)
class GateState:
    """Be a gate: whom it holds, by order of arrival, and how many have come in all."""

    name: str
    is_open: bool
    arrivals: int
    held: tuple[HeldCall, ...]


@dataclass(frozen=True, slots=True)
class PendingAction:
    """Be something that happens when a clock gets there."""

    at: datetime
    what: str


@dataclass(frozen=True, slots=True)
class ClockState:
    """Be what a sandbox's clock says; ``settled`` is how much a settling let happen."""

    mode: Literal["real", "offset", "frozen"]
    now: datetime
    parked: tuple[PendingAction, ...]
    settled: int = 0


@dataclass(frozen=True, slots=True)
class RecordedExchange:
    """Be one entry of a journal: README, "What happened", says what its facts mean."""

    ordinal: int
    request_id: str
    at_ms: int
    method: str
    target: str
    operation: str
    application: str
    user: str
    client: str
    status: int
    code: str
    cause: str
    message: str
    delta: int | None
    reason: str
    transaction: str
    committed: bool
    delivered: bool
    rule: str
    phase: str
    idempotency_key: str
    duration_us: int
    headers: Mapping[str, str]
