"""Own the words that a sandbox starts from, and those of a token; know nothing of what becomes of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from fake_credits.contract import DEFAULT, Contract
from fake_credits.errors import did_you_mean
from fake_credits.ledger import Ledger

__all__ = ["SandboxSettings", "StartingWorld", "TokenWords", "settings_from"]


class StartingWorld(Protocol):
    """Be users with histories that a sandbox can start from, wherever they come from."""

    def load_into(self, ledger: Ledger, application_id: str, now_ms: int) -> tuple[str, ...]:
        """Add the users to a ledger, back-dated before a moment, and return their ids.

        Raises ValueError, and adds none, where one can't be.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class SandboxSettings:
    """Say how a sandbox starts. ``reset`` returns to exactly this.

    ``world`` comes first. ``balance`` is one grant to ``user_id``; ``users`` is one grant each; a balance of 0 makes
    the user without one. Both may name ``user_id``, with one number: raises ValueError for two.
    ``clock`` is ``"real"``, ``"frozen"`` (now) or an aware datetime to stand still at. An empty ``api_key`` means a
    fresh one. ``jwt`` names a preset. ``trust`` names foreign issuers by URL, beside those of the contract, each with a
    file of its keys (JWKS or PEM). ``keep_headers`` names headers of requests that the journal keeps, beside
    ``idempotency-key`` and ``traceparent``; none that carries a credential.

    ``faults`` are rules from the start, and ``latency`` is the default delay (README, "Faults"). ``delays`` in process
    are ``"virtual"``, which move the clock, or ``"real"``, which take time. ``limit_s`` is how many seconds a gate
    holds a call, and how long a call that nothing would end waits.
    """

    contract: Contract = DEFAULT
    seed: int = 0
    application_id: str = "app-id"
    user_id: str = "user-id"
    balance: int | None = None
    users: Mapping[str, int] = field(default_factory=dict[str, int])
    world: StartingWorld | None = None
    clock: datetime | Literal["real", "frozen"] = "real"
    api_key: str = ""
    jwt: str = "plain"
    trust: Mapping[str, str | Path] = field(default_factory=dict[str, str | Path])
    keep_headers: tuple[str, ...] = ()
    faults: object = ()
    latency: object = None
    delays: Literal["virtual", "real"] = "virtual"
    limit_s: float = 10.0

    def __post_init__(self) -> None:
        for user_id, balance in self.users.items():
            if user_id == self.user_id and self.balance not in (None, balance):
                both = f"balance={self.balance} and users={{{user_id!r}: {balance}}}"
                raise ValueError(
                    f"{both} contradict each other, also where one is inherited: give {user_id!r} one number"
                )

    def __repr__(self) -> str:
        return f"<SandboxSettings of {self.application_id!r}, seed {self.seed}, {len(self.users)} users>"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenWords:
    """Say what a minted token is to be like.

    ``bad`` names a kind that must be refused. ``expires_in_s`` is a life in seconds, by default the preset's.
    ``claims`` are added. ``wall`` mints for the wall clock rather than the sandbox's.
    """

    bad: str | None = None
    expires_in_s: int | None = None
    claims: Mapping[str, object] = field(default_factory=dict[str, object])
    wall: bool = False


_KNOWN = tuple(each.name for each in fields(SandboxSettings))
_ELSEWHERE = {
    "allow": "allow= is the marker's",
    "intercept": "call credits.intercept(...)",
    "live": 'say mode="live"',
}


def settings_from(words: Mapping[str, Any]) -> SandboxSettings:
    """Return the settings of a person's words: an ISO 8601 text is a clock too, one name is a list of headers.

    Raises TypeError for an unknown word and for a value of another type, ValueError for a text that is no moment.
    """
    for word, value in words.items():
        if word not in _KNOWN:
            hint = _ELSEWHERE.get(word, did_you_mean(word, _KNOWN, before="")) or "choose another"
            raise TypeError(f"FakeCredits has no word {word!r}: {hint} (it has: mode, shared, {', '.join(_KNOWN)})")
        if (rule := _TYPES.get(word)) and (not isinstance(value, rule[0]) or isinstance(value, bool)):
            raise TypeError(f"{word} must be {rule[1]}, not {type(value).__name__}")
    given = dict(words)
    _check_trust(given.get("trust", {}))
    if isinstance(given.get("keep_headers"), str):
        given["keep_headers"] = (given["keep_headers"],)
    given["clock"] = _moment(given.get("clock", "real"))
    return SandboxSettings(**given)


_TYPES: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "api_key": (str, "a str"),
    "clock": ((datetime, str), 'an aware datetime, its ISO 8601 text, "frozen" or "real"'),
    "contract": (Contract, "a Contract, or the name of a contract file"),
    "keep_headers": ((str, list, tuple), "one or a list of names of headers"),
    "limit_s": ((int, float), "a number of seconds"),
    "seed": (int, "an int"),
    "trust": (Mapping, "a mapping of issuers to files of their keys"),
    "users": (Mapping, 'a mapping of user ids to balances, such as {"ada": 100}'),
}


def _check_trust(trust: Mapping[object, object]) -> None:
    for issuer, file in trust.items():
        if not isinstance(issuer, str) or not isinstance(file, str | Path):
            wrong = file if isinstance(issuer, str) else issuer
            rule = "must map issuers to files of their keys"
            raise TypeError(f"trust {rule}: {wrong!r} is of the type {type(wrong).__name__}")


def _moment(clock: object) -> Any:
    if not isinstance(clock, str) or clock in ("real", "frozen"):
        return clock
    try:
        return datetime.fromisoformat(clock)
    except ValueError:
        raise ValueError(
            f"clock is {clock!r}: choose 'real', 'frozen', an aware datetime or its ISO 8601 text"
        ) from None
