"""The options that a sandbox starts with, and the checks on ids, balances, API keys and tokens."""

import hmac
import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, NamedTuple, Protocol, TypedDict, Unpack, cast, get_args, get_type_hints

from fake_credits.contract import DEFAULT_CONTRACT, MAX_AMOUNT, Contract, id_problem
from fake_credits.errors import did_you_mean
from fake_credits.keyed_random import random_name
from fake_credits.ledger import Ledger

__all__ = [
    "API_KEY_PREFIX",
    "OPTION_RULES",
    "AuthProviderName",
    "FakeCreditsKwargs",
    "LoadableWorld",
    "MintOptions",
    "OptionError",
    "OptionRule",
    "SandboxOptions",
    "api_keys_equal",
    "check_balance",
    "check_claims",
    "check_id",
    "check_lifetime",
    "new_api_key",
    "parse_options",
    "parse_texts",
]

API_KEY_PREFIX = "fake_credits_key_"
"""What a made-up key starts with, so that a secret scanner or a reader sees at once that it opens nothing real."""


class LoadableWorld(Protocol):
    """Users with histories that a sandbox can start from, wherever they come from."""

    def load_into(self, ledger: Ledger, application_id: str, now_ms: int) -> tuple[str, ...]:
        """Add the users to a ledger, back-dated before a moment, and return their ids.

        Raises ValueError, and adds none, where one can't be.
        """
        ...


_API_KEY_PATTERN = re.compile(r"[\x21-\x7e]{1,256}")
_MAX_TOKEN_LIFETIME_S = 10 * 366 * 86400
_NOT_HERE_HINTS = {
    "allow": "allow= is the marker's",
    "intercept": "call credits.intercept(...)",
    "live": 'say mode="live"',
}


AuthProviderName = Literal["plain", "clerk", "auth0", "supabase", "firebase", "cognito", "workos"]


class FakeCreditsKwargs(TypedDict, total=False):
    """The options of `SandboxOptions` in all their forms, for editors and type checkers."""

    contract: str | Path | Contract
    seed: int
    application_id: str
    user_id: str
    balance: int | None
    users: Mapping[str, int]
    world: str | Path | LoadableWorld | None
    clock: datetime | str
    api_key: str
    auth_provider: AuthProviderName
    trust: Mapping[str, str | Path]
    faults: object
    latency: object
    delays: Literal["virtual", "real"]
    gate_timeout_s: float
    keep_headers: str | Sequence[str]


class OptionError(TypeError, ValueError):
    """An unknown option of a sandbox, or a value that an option can't have.

    It is both errors at once, because most options have several forms, of several types.
    ``name`` is the option, ``expected`` what it must be: for layers with messages of their own.
    """

    def __init__(self, message: str, name: str, expected: str = "") -> None:
        super().__init__(message)
        self.name = name
        self.expected = expected


class OptionRule(NamedTuple):
    """What an option must be, in words and as a function that returns a value in its one form.

    The function raises AttributeError, TypeError or ValueError for any other value.
    """

    expected: str
    parse: Callable[[Any], object]


def parse_options(
    options: Mapping[str, object], rules: Mapping[str, OptionRule], where: str, hints: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return options in their one form; raise OptionError, whose message starts with ``where``, for a wrong one.

    ``hints`` say what to do instead of an option that belongs elsewhere.
    """
    parsed: dict[str, Any] = {}
    for name, value in options.items():
        rule = rules.get(name)
        if rule is None:
            hint = (hints or {}).get(name) or did_you_mean(str(name), rules, prefix="")
            text = f"{where} has no word {name!r}{hint and ', '}{hint} (it has: {', '.join(rules)})"
            raise OptionError(text, name)
        try:
            parsed[name] = rule.parse(value)
        except (AttributeError, TypeError, ValueError):
            shown = "'...'" if name == "api_key" and value else f"{value!r:.200}"
            text = f"{where} has {name}={shown}: that must be {rule.expected}"
            raise OptionError(text, name, rule.expected) from None
    return parsed


def _parse_int(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(value)
    return value


def _parse_text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(value)
    return value


def _parse_id(value: str) -> str:
    check_id("user", value)
    return value


def _parse_file_name(value: object) -> str:
    return _parse_text(str(value) if isinstance(value, PurePath) else value)


def _parse_contract(value: object) -> Contract | str:
    return value if isinstance(value, Contract) else _parse_file_name(value)


def _parse_balance(value: object) -> int | None:
    return None if value is None else _parse_int(value)


def _parse_users(value: Mapping[str, object]) -> dict[str, int]:
    return {_parse_id(user_id): _parse_int(balance) for user_id, balance in value.items()}


def _parse_world(value: object) -> object:
    return value if value is None or hasattr(value, "load_into") else _parse_file_name(value)


def _parse_trust(value: Mapping[str, object]) -> dict[str, str]:
    return {_parse_text(issuer): _parse_file_name(file) for issuer, file in value.items()}


def _parse_clock(value: object) -> datetime | str:
    if value in ("real", "frozen"):
        return str(value)
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    if not isinstance(moment, datetime) or moment.tzinfo is None or moment.timestamp() < 0:
        raise ValueError(value)
    return moment


def _parse_api_key(value: str) -> str:
    if value and not _API_KEY_PATTERN.fullmatch(value):
        raise ValueError
    return value


def _parse_faults(value: object) -> object:
    is_ours = type(value).__module__.startswith("fake_credits.")  # the package faults refuses what is malformed
    if value == "" or not (is_ours or isinstance(value, str | PurePath | list | tuple | Mapping)):
        raise ValueError(value)
    return value  # pyright: ignore[reportUnknownVariableType]


def _parse_latency(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(value)
    return value if value is None or isinstance(value, int | float) else _parse_faults(value)


def _parse_gate_timeout(value: float) -> float:
    if isinstance(value, bool) or not 0.001 <= value <= 3600:
        raise ValueError(value)
    return value


def parse_texts(value: object) -> tuple[str, ...]:
    """Return one text, or a list of texts, as a tuple; raise ValueError for anything else and for an empty text."""
    return tuple(map(_parse_text, cast("Sequence[object]", value if isinstance(value, list | tuple) else [value])))


def _choice_rule(*choices: str) -> OptionRule:
    def parse(value: object) -> object:
        if value not in choices:
            raise ValueError(value)
        return value

    return OptionRule(f"one of {', '.join(choices)}", parse)


_API_KEY_RULE = OptionRule("1 to 256 visible ASCII characters: it travels in a header", _parse_api_key)
_ID_RULE = OptionRule("text that is not empty, '.' or '..', and has no control characters", _parse_id)


@dataclass(frozen=True, init=False)
class SandboxOptions:
    """How a sandbox starts. ``reset`` returns to exactly this.

    ``world`` comes first. ``balance`` is one grant to ``user_id``; ``users`` is one grant each; a balance of 0 makes
    the user without one. Both may name ``user_id``, with one number: raises ValueError for two.
    ``clock`` is ``"real"``, ``"frozen"`` (now) or an aware datetime to stand still at. An empty ``api_key`` means a
    fresh one. ``auth_provider`` names the provider whose tokens are imitated. ``trust`` maps URLs of foreign issuers
    to files of their keys (JWKS or PEM), in addition to those of the contract. ``keep_headers`` names request headers
    for the journal to keep besides ``idempotency-key`` and ``traceparent``; none that carries a credential.

    ``faults`` are rules from the start, and ``latency`` is the default delay (README, "Faults"). ``delays`` in process
    are ``"virtual"``, which move the clock, or ``"real"``, which take time. ``gate_timeout_s`` is how many seconds a
    gate holds a call, and how long a call that nothing would end waits.

    Raises OptionError for an unknown option and for a value that can't be. What only the sandbox can judge, such as a
    file of keys or a balance under a contract, it judges when it starts.
    """

    contract: Annotated[Contract, OptionRule("a Contract, or the name of a contract file", _parse_contract)] = (
        DEFAULT_CONTRACT
    )
    seed: Annotated[int, OptionRule("an integer", _parse_int)] = 0
    application_id: Annotated[str, _ID_RULE] = "app-id"
    user_id: Annotated[str, _ID_RULE] = "user-id"
    balance: Annotated[
        int | None, OptionRule("an integer that the contract allows, by default 0 or more", _parse_balance)
    ] = None
    users: Annotated[
        Mapping[str, int],
        OptionRule(
            'a mapping of user ids to integers, such as {"ada": 100}; the default user has one number here and in '
            "balance=",
            _parse_users,
        ),
    ] = field(default_factory=dict[str, int])
    world: Annotated[
        LoadableWorld | None, OptionRule('the name of a world, such as "demo", or of a file of one', _parse_world)
    ] = None
    clock: Annotated[
        datetime | Literal["real", "frozen"],
        OptionRule('an aware datetime from 1970 on, its ISO 8601 text, "frozen" or "real"', _parse_clock),
    ] = "real"
    api_key: Annotated[str, _API_KEY_RULE] = ""
    auth_provider: Annotated[str, _choice_rule(*get_args(AuthProviderName))] = "plain"
    trust: Annotated[
        Mapping[str, str | Path],
        OptionRule(
            'a mapping of foreign issuers to files of their keys, such as {"https://…/": "jwks.json"}', _parse_trust
        ),
    ] = field(default_factory=dict[str, str | Path])
    keep_headers: Annotated[tuple[str, ...], OptionRule("one or a list of names of headers", parse_texts)] = ()
    faults: Annotated[
        object,
        OptionRule(
            "a rule, or a list of them: Reset(), a Rule, an object of JSON, a preset or scenario file", _parse_faults
        ),
    ] = ()
    latency: Annotated[
        object,
        OptionRule('milliseconds, "uniform(10, 50)", "lognormal(20, 200)", or these by operation', _parse_latency),
    ] = None
    delays: Annotated[Literal["virtual", "real"], _choice_rule("virtual", "real")] = "virtual"
    gate_timeout_s: Annotated[
        float, OptionRule("seconds, from 0.001 to 3600, that a gate holds a call at most", _parse_gate_timeout)
    ] = 10.0

    def __init__(self, **options: Unpack[FakeCreditsKwargs]) -> None:
        # Of the others the defaults are the class's: most sandboxes are given few options.
        parsed = parse_options(options, OPTION_RULES, "FakeCredits", _NOT_HERE_HINTS)
        self.__dict__.update({"users": {}, "trust": {}}, **parsed)
        if self.balance is not None and self.users.get(self.user_id, self.balance) != self.balance:
            conflict = f"balance={self.balance} and users={{{self.user_id!r}: {self.users[self.user_id]}}}"
            raise ValueError(
                f"{conflict} contradict each other, also where one is inherited: give {self.user_id!r} one number"
            )

    def __repr__(self) -> str:
        return f"<SandboxOptions of {self.application_id!r}, seed {self.seed}, {len(self.users)} users>"


OPTION_RULES: Mapping[str, OptionRule] = {
    name: hint.__metadata__[0] for name, hint in get_type_hints(SandboxOptions, include_extras=True).items()
}
"""What each option of a sandbox must be; the marker, the factory and the docs derive theirs from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MintOptions:
    """What a minted token is like.

    ``bad`` names a kind that must be refused. ``expires_in_s`` is a life in seconds, by default the preset's.
    ``claims`` are added. ``use_wall_clock`` mints for the wall clock rather than the sandbox's.
    """

    bad: str | None = None
    expires_in_s: int | None = None
    claims: Mapping[str, object] = field(default_factory=dict[str, object])
    use_wall_clock: bool = False


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


def new_api_key() -> str:
    """Return a fresh, unpredictable API key that says in its first characters that it is a fake."""
    return random_name(API_KEY_PREFIX)


def api_keys_equal(a: str, b: str) -> bool:
    """Return whether two API keys are equal, in constant time."""
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
            raise ValueError(f"the claim {name!r} is not valid JSON: {error}") from None
