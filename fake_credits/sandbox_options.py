"""The options that a sandbox starts with, and the checks on ids, balances, API keys and tokens."""

import hmac
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol, TypedDict

from fake_credits.contract import DEFAULT_CONTRACT, MAX_AMOUNT, Contract, id_problem
from fake_credits.errors import did_you_mean
from fake_credits.keyed_random import random_name
from fake_credits.ledger import Ledger

__all__ = [
    "API_KEY_PREFIX",
    "FakeCreditsKwargs",
    "LoadableWorld",
    "MintOptions",
    "SandboxOptions",
    "api_keys_equal",
    "check_api_key",
    "check_balance",
    "check_claims",
    "check_id",
    "check_lifetime",
    "new_api_key",
    "options_from_kwargs",
]

API_KEY_PREFIX = "fake_credits_key_"
"""What a made-up key starts with, so that a secret scanner or a reader sees at once that it opens nothing real."""


class LoadableWorld(Protocol):
    """Be users with histories that a sandbox can start from, wherever they come from."""

    def load_into(self, ledger: Ledger, application_id: str, now_ms: int) -> tuple[str, ...]:
        """Add the users to a ledger, back-dated before a moment, and return their ids.

        Raises ValueError, and adds none, where one can't be.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class SandboxOptions:
    """Say how a sandbox starts. ``reset`` returns to exactly this.

    ``world`` comes first. ``balance`` is one grant to ``user_id``; ``users`` is one grant each; a balance of 0 makes
    the user without one. Both may name ``user_id``, with one number: raises ValueError for two.
    ``clock`` is ``"real"``, ``"frozen"`` (now) or an aware datetime to stand still at. An empty ``api_key`` means a
    fresh one. ``auth_provider`` names the provider whose tokens are imitated. ``trust`` maps URLs of foreign issuers
    to files of their keys (JWKS or PEM), in addition to those of the contract. ``keep_headers`` names request headers
    for the journal to keep besides ``idempotency-key`` and ``traceparent``; none that carries a credential.

    ``faults`` are rules from the start, and ``latency`` is the default delay (README, "Faults"). ``delays`` in process
    are ``"virtual"``, which move the clock, or ``"real"``, which take time. ``gate_timeout_s`` is how many seconds a
    gate holds a call, and how long a call that nothing would end waits.
    """

    contract: Contract = DEFAULT_CONTRACT
    seed: int = 0
    application_id: str = "app-id"
    user_id: str = "user-id"
    balance: int | None = None
    users: Mapping[str, int] = field(default_factory=dict[str, int])
    world: LoadableWorld | None = None
    clock: datetime | Literal["real", "frozen"] = "real"
    api_key: str = ""
    auth_provider: str = "plain"
    trust: Mapping[str, str | Path] = field(default_factory=dict[str, str | Path])
    keep_headers: tuple[str, ...] = ()
    faults: object = ()
    latency: object = None
    delays: Literal["virtual", "real"] = "virtual"
    gate_timeout_s: float = 10.0

    def __post_init__(self) -> None:
        for user_id, balance in self.users.items():
            if user_id == self.user_id and self.balance not in (None, balance):
                conflict = f"balance={self.balance} and users={{{user_id!r}: {balance}}}"
                raise ValueError(
                    f"{conflict} contradict each other, also where one is inherited: give {user_id!r} one number"
                )

    def __repr__(self) -> str:
        return f"<SandboxOptions of {self.application_id!r}, seed {self.seed}, {len(self.users)} users>"


class FakeCreditsKwargs(TypedDict, total=False):
    """Name the words of `SandboxOptions`, for editors and type checkers."""

    contract: str | Path | Contract
    seed: int
    application_id: str
    user_id: str
    balance: int | None
    users: Mapping[str, int]
    world: str | Path | LoadableWorld | None
    clock: datetime | str
    api_key: str
    auth_provider: str
    trust: Mapping[str, str | Path]
    faults: object
    latency: object
    delays: Literal["virtual", "real"]
    gate_timeout_s: float
    keep_headers: str | Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class MintOptions:
    """Say what a minted token is to be like.

    ``bad`` names a kind that must be refused. ``expires_in_s`` is a life in seconds, by default the preset's.
    ``claims`` are added. ``wall`` mints for the wall clock rather than the sandbox's.
    """

    bad: str | None = None
    expires_in_s: int | None = None
    claims: Mapping[str, object] = field(default_factory=dict[str, object])
    use_wall_clock: bool = False


_OPTION_NAMES = tuple(each.name for each in fields(SandboxOptions))
_NOT_HERE_HINTS = {
    "allow": "allow= is the marker's",
    "intercept": "call credits.intercept(...)",
    "live": 'say mode="live"',
}


def options_from_kwargs(kwargs: Mapping[str, Any]) -> SandboxOptions:
    """Return the settings of a person's words: an ISO 8601 text is a clock too, one name is a list of headers.

    Raises TypeError for an unknown word and for a value of another type, ValueError for a text that is no moment.
    """
    for name, value in kwargs.items():
        if name not in _OPTION_NAMES:
            hint = _NOT_HERE_HINTS.get(name, did_you_mean(name, _OPTION_NAMES, prefix="")) or "choose another"
            raise TypeError(
                f"FakeCredits has no word {name!r}: {hint} (it has: mode, shared, {', '.join(_OPTION_NAMES)})"
            )
        if (type_rule := _OPTION_TYPES.get(name)) and (not isinstance(value, type_rule[0]) or isinstance(value, bool)):
            raise TypeError(f"{name} must be {type_rule[1]}, not {type(value).__name__}")
    options = dict(kwargs)
    _check_trust(options.get("trust", {}))
    if isinstance(options.get("keep_headers"), str):
        options["keep_headers"] = (options["keep_headers"],)
    options["clock"] = _parse_clock(options.get("clock", "real"))
    return SandboxOptions(**options)


_OPTION_TYPES: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "api_key": (str, "a str"),
    "clock": ((datetime, str), 'an aware datetime, its ISO 8601 text, "frozen" or "real"'),
    "contract": (Contract, "a Contract, or the name of a contract file"),
    "keep_headers": ((str, list, tuple), "one or a list of names of headers"),
    "gate_timeout_s": ((int, float), "a number of seconds"),
    "seed": (int, "an int"),
    "trust": (Mapping, "a mapping of issuers to files of their keys"),
    "users": (Mapping, 'a mapping of user ids to balances, such as {"ada": 100}'),
}


def _check_trust(trust: Mapping[object, object]) -> None:
    for issuer, file in trust.items():
        if not isinstance(issuer, str) or not isinstance(file, str | Path):
            invalid = file if isinstance(issuer, str) else issuer
            requirement = "must map issuers to files of their keys"
            raise TypeError(f"trust {requirement}: {invalid!r} is of the type {type(invalid).__name__}")


def _parse_clock(value: object) -> Any:
    if not isinstance(value, str) or value in ("real", "frozen"):
        return value
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(
            f"clock is {value!r}: choose 'real', 'frozen', an aware datetime or its ISO 8601 text"
        ) from None


_API_KEY_PATTERN = re.compile(r"[\x21-\x7e]{1,256}")
_MAX_TOKEN_LIFETIME_S = 10 * 366 * 86400


def check_id(kind: str, value: str, contract: Contract | None = None) -> None:
    """Refuse an id that no contract allows or, where one is given, that one does not."""
    if not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"the {kind} id must be a str, not {type(value).__name__}")
    if value in ("", ".", ".."):
        raise ValueError(f"the {kind} id must not be empty, '.' or '..': {value!r}")
    if not value.isprintable() and any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
        raise ValueError(f"the {kind} id must have no control characters and no lone surrogates: {value!r}")
    problem = "" if contract is None else id_problem(contract, value)
    if problem:
        raise ValueError(f"the {kind} id {value[:60]!r} {problem}")


def check_balance(contract: Contract, user_id: str, balance: int) -> None:
    """Refuse what is no balance under a contract."""
    if isinstance(balance, bool) or not isinstance(balance, int):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"the balance of {user_id!r} must be an int, not {type(balance).__name__}")
    lowest = -MAX_AMOUNT if contract.floor is None else contract.floor
    highest = MAX_AMOUNT if contract.ceiling is None else contract.ceiling
    if not lowest <= balance <= highest:
        raise ValueError(
            f"the balance of {user_id!r} must be from {lowest} to {highest} (the contract's), not {balance}"
        )


def check_api_key(value: str) -> None:
    """Refuse an API key that no header can carry (RFC 9110, section 5.5); the message does not repeat it."""
    if not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"api_key must be a str, not {type(value).__name__}")
    if not _API_KEY_PATTERN.fullmatch(value):
        raise ValueError("api_key must be 1 to 256 visible ASCII characters: it travels in a header")


def new_api_key() -> str:
    """Return a fresh, unpredictable API key that says in its first characters that it is a fake."""
    return random_name(API_KEY_PREFIX)


def api_keys_equal(a: str, b: str) -> bool:
    """Tell whether two API keys are the same, in a time that does not depend on where they differ."""
    return hmac.compare_digest(a.encode(errors="surrogatepass"), b.encode(errors="surrogatepass"))


def check_lifetime(expires_in_s: int) -> None:
    """Refuse a token's life that is no whole number of seconds; one that is over already may be meant."""
    if isinstance(expires_in_s, bool) or not isinstance(expires_in_s, int):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"expires_in_s must be an int or None, not {type(expires_in_s).__name__}")
    if not -_MAX_TOKEN_LIFETIME_S <= expires_in_s <= _MAX_TOKEN_LIFETIME_S:
        raise ValueError(
            f"expires_in_s must be from {-_MAX_TOKEN_LIFETIME_S} to {_MAX_TOKEN_LIFETIME_S}, not {expires_in_s}"
        )


def check_claims(claims: Mapping[str, object]) -> None:
    """Refuse claims that are no object of JSON."""
    if not isinstance(claims, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"claims must be a mapping of names to values of JSON, not {type(claims).__name__}")
    for name, value in claims.items():
        if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"claims has the name {name!r}, which must be a str, not {type(name).__name__}")
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"the claim {name!r} is no JSON: {error}") from None
