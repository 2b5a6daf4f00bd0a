"""A random workload under random faults: the test draws the calls, and the sandbox draws the faults."""

import contextlib
import random
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

from fake_credits.client.server import ServerClient
from fake_credits.client.user import UserClient
from fake_credits.errors import FakeCreditsError
from fake_credits.fake import ClientMode, FakeCredits
from fake_credits.faults.effects import (
    BadCursor,
    Close,
    Drip,
    DuplicateWrite,
    Garbage,
    Hang,
    HoldAtGate,
    Latency,
    LateWrite,
    NotJson,
    RateLimit,
    Reset,
    SchemaDrift,
    StaleRead,
    Status,
    Truncate,
    Unauthorized,
)
from fake_credits.faults.rule import Rule
from fake_credits.transports.shared_resources import SharedResources

__all__ = [
    "APP",
    "INSTANT_RULES",
    "PER_USER_RULES",
    "SHORT_LATENCY",
    "START",
    "TIMED_RULES",
    "USERS",
    "UserClients",
    "WorkloadCall",
    "WorkloadConfig",
    "clients_for",
    "generate_calls",
    "run_workload",
]

APP = "app-id"
START = datetime(2026, 3, 1, tzinfo=UTC)
USERS = ("ada", "bob", "cleo", "dora")

INSTANT_RULES: tuple[Rule, ...] = (
    Rule(effect=Status(503, retry_after_s=2), nth=7, optional=True),
    Rule(effect=Status(500), phase="after", operation="writes", every=11, user="ada", optional=True),
    Rule(script=("ok", 502, "reset", "close"), operation="reads", per="user", optional=True),
    Rule(effect=NotJson(body="bom"), at=13, optional=True),
    Rule(effect=RateLimit(1, 3600), operation="getUser", per="user"),
    Rule(effect=Reset(), probability=0.04),
    Rule(effect=Reset(), phase="after", operation="writes", probability=0.06),
    Rule(effect=Close(), probability=0.04),
    Rule(effect=Truncate(fraction=0.5), probability=0.04),
    Rule(effect=Truncate(at_bytes=3, then="reset"), probability=0.04),
    Rule(effect=Drip(3, 0), probability=0.03),
    Rule(effect=Garbage(), probability=0.04),
    Rule(effect=NotJson(), probability=0.04, client="server"),
    Rule(effect=Unauthorized(), probability=0.05),
    Rule(effect=Unauthorized("rotated"), probability=0.05),
    Rule(effect=DuplicateWrite(), probability=0.15),
    Rule(effect=StaleRead(by_writes=2), probability=0.2),
    Rule(effect=SchemaDrift("extra_field"), probability=0.1),
    Rule(effect=SchemaDrift("unknown_reason"), probability=0.1),
    Rule(effect=BadCursor("empty_page"), probability=0.1),
)
"""Rules whose effects take no time, so that they have the same results live and in process."""

TIMED_RULES: tuple[Rule, ...] = (
    Rule(effect=Latency("lognormal(20, 40000, 60000)"), probability=0.3),
    Rule(effect=Latency("uniform(1, 50)"), phase="after", operation="writes"),
    Rule(effect=Hang(), probability=0.03),
    Rule(effect=Hang(), phase="after", operation="writes", probability=0.04),
    Rule(effect=LateWrite(700), probability=0.06, times=5, optional=True),
    Rule(effect=Drip(4, 59_000), probability=0.03, client="user"),
    Rule(effect=Truncate(at_bytes=1, then="hang"), probability=0.02),
    Rule(effect=StaleRead(by_ms=5000), probability=0.1),
    Rule(effect=HoldAtGate("never"), probability=0.02),
)
"""Rules whose effects take time or read the clock."""

PER_USER_RULES: tuple[Rule, ...] = (
    *(rule for rule in INSTANT_RULES if rule.probability is not None),
    Rule(script=("ok", 502, "reset", "close"), operation="reads", per="user", optional=True),
    Rule(effect=Status(503), per="user", every=9, optional=True),
)
"""Rules that count per user, with effects that do not read the clock."""

SHORT_LATENCY = Rule(effect=Latency("uniform(1, 50)"))
"""A delay shorter than every client timeout."""


class WorkloadCall(NamedTuple):
    """A call in a workload, and the user it is for."""

    user: str
    call: Callable[["UserClients"], object]


class UserClients(NamedTuple):
    """The clients for the calls of one user."""

    server: ServerClient
    user: UserClient


def _spend(user: str, delta: int, clients: UserClients) -> object:
    return clients.server.create_transaction(APP, user, delta=delta, reason="grant" if delta > 0 else "consume")


def _create(user: str, clients: UserClients) -> object:
    return clients.server.create_user(APP, user)


def _users(clients: UserClients) -> object:
    return clients.server.list_users(APP)


def _server_reads(operation: str, user: str, clients: UserClients) -> object:
    return getattr(clients.server, operation)(APP, user)


def _user_reads(operation: str, user: str, clients: UserClients) -> object:
    return getattr(clients.user, operation)(user)


_READS = ("get_user", "get_balance", "list_transactions")


def _draw(rng: random.Random, user: str) -> Callable[[UserClients], object]:
    kind = rng.random()
    if kind < 0.4:
        return partial(_spend, user, rng.choice((-7, -5, -3, -1, 2, 4)))
    if kind < 0.5:
        return partial(_create, user)
    return partial(rng.choice((_server_reads, _user_reads)), rng.choice(_READS), user)


def generate_calls(seed: int, count: int, users: Sequence[str] = USERS) -> list[WorkloadCall]:
    """Return the calls of a workload, which are always the same for the same seed."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    calls: list[WorkloadCall] = []
    for _ in range(count):
        if rng.random() < 0.06:
            calls.append(WorkloadCall("", _users))
        else:
            user = rng.choice(users)
            calls.append(WorkloadCall(user, _draw(rng, user)))
    return calls


@dataclass(frozen=True)
class WorkloadConfig:
    """The seed, driver, rules and users of a workload."""

    seed: int = 0
    mode: ClientMode = "in-process"
    rules: Sequence[Rule] = TIMED_RULES + INSTANT_RULES
    users: Sequence[str] = USERS

    @contextlib.contextmanager
    def open_fake(self, shared: SharedResources) -> Generator[FakeCredits]:
        """Yield a fresh sandbox whose clock moves only with delays; verify its ledger at the end."""
        balances = dict.fromkeys(self.users[:-1], 20)
        options: dict[str, Any] = {"faults": self.rules, "clock": START, "users": balances, "seed": self.seed}
        with FakeCredits(mode=self.mode, shared=shared, **options) as fake:
            yield fake
            fake.settle()
            fake.sandbox.ledger.verify_balances()
            assert fake.sandbox.bugs == []


def clients_for(fake: FakeCredits, user: str) -> UserClients:
    """Return the clients for a user's calls."""
    return UserClients(fake.server_client, fake.user_client(user or None))


def run_workload(config: WorkloadConfig, shared: SharedResources, calls: Iterable[WorkloadCall]) -> str:
    """Make the calls in a fresh sandbox, one after the other, and return its canonical journal."""
    with config.open_fake(shared) as fake:
        clients_by_user = {user: clients_for(fake, user) for user in ("", *config.users)}
        for workload_call in calls:
            with contextlib.suppress(FakeCreditsError):
                workload_call.call(clients_by_user[workload_call.user])
        fake.settle()
        return fake.journal.canonical()
