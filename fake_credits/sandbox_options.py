"""A sandbox's options, and the validation of ids, balances, token lifetimes and claims."""

import json
import re
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, NamedTuple, Protocol, TypedDict, Unpack, cast, get_args, get_type_hints

from fake_credits.clock import NaiveTimeError, from_ms, to_ms
from fake_credits.contract import DEFAULT_CONTRACT, MAX_AMOUNT, Contract, id_problem
from fake_credits.errors import PicklableError, did_you_mean
from fake_credits.keyed_random import random_name
from fake_credits.ledger import Ledger
from fake_credits.text import mask_url

API_KEY_PREFIX = "fake_credits_key_"
"""The prefix of generated API keys, which tells people and secret scanners that the keys are not real."""


class LoadableWorld(Protocol):
    """A world that a sandbox can load: users with histories."""

    def load_into(self, ledger: Ledger, application_id: str, now_ms: int) -> tuple[str, ...]:
        """Add the users to a ledger, with histories that end before ``now_ms``, and return their ids.

        Raises ValueError, without adding any users, if a user already exists or violates the ledger's contract.
        """
        ...


_API_KEY_PATTERN = re.compile(r"[\x21-\x7e]{1,256}")
_MAX_TOKEN_LIFETIME_S = 10 * 366 * 86400
_NOT_HERE_HINTS = {
    "allow": "use allow= in the marker",
    "explore": "use explore= in the marker",
    "intercept": "call credits.intercept(...)",
    "live": 'use mode="live"',
}


AuthProviderName = Literal["plain", "clerk", "auth0", "supabase", "firebase", "cognito", "workos"]


class FakeCreditsKwargs(TypedDict, total=False):
    """The options of `SandboxOptions` with all the types that they accept, for editors and type checkers."""

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
    issuer: str
    trust: Mapping[str, str | Path]
    faults: object
    latency: object
    delays: Literal["virtual", "real"]
    gate_timeout_s: float
    keep_headers: str | Sequence[str]


class OptionError(PicklableError, TypeError, ValueError):
    """An unknown sandbox option or an invalid option value.

    It is both a TypeError and a ValueError, because most options accept several types. ``name`` is the option and
    ``expected`` describes valid values, for callers that write their own messages.
    """

    def __init__(self, message: str, name: str, expected: str = "") -> None:
        super().__init__(message)
        self.name = name
        self.expected = expected


class OptionRule(NamedTuple):
    """The rule for an option: a description of valid values, and a function that normalizes a value.

    The function raises AttributeError, TypeError or ValueError for an invalid value. ``choices`` are the valid values
    if only certain strings are valid.
    """

    expected: str
    parse: Callable[[Any], object]
    choices: Collection[str] = ()

    def hint(self, value: object) -> str:
        """Return a hint with the choice that is most similar to an invalid value, or an empty string."""
        names = cast("Sequence[object]", value if isinstance(value, list | tuple) else [value])
        unknown = next((name for name in names if isinstance(name, str) and name not in self.choices), "")
        return did_you_mean(unknown, self.choices, prefix="; ")


def parse_options(
    options: Mapping[str, object], rules: Mapping[str, OptionRule], where: str, hints: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return normalized options; raise OptionError for an unknown or invalid one.

    The error message starts with ``where``. ``hints`` maps options that are valid only elsewhere to advice on what to
    use instead.
    """
    parsed: dict[str, Any] = {}
    for name, value in options.items():
        rule = rules.get(name)
        if rule is None:
            hint = (hints or {}).get(name) or did_you_mean(str(name), rules, prefix="")
            text = f"{where} has no option {name!r}{hint and '; '}{hint} (known: {', '.join(rules)})"
            raise OptionError(text, name)
        try:
            parsed[name] = rule.parse(value)
        except (AttributeError, TypeError, ValueError) as error:
            shown = "'...'" if name == "api_key" and value else f"{value!r:.200}"
            shown = mask_url(shown) if name == "intercept" else shown
            text = f"{where} has {name}={shown}: it must be {rule.expected}{rule.hint(value)}"
            if isinstance(error, NaiveTimeError):
                text = f"{where} has an invalid {name}: {error}"
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


def parse_issuer_url(value: str) -> str:
    """Return the value if it is an http(s) URL without a query or fragment, or empty; otherwise raise ValueError."""
    if value and not re.fullmatch(r"https?://[^\s/?#]+[^\s?#]*", value):
        raise ValueError(f"expected an http or https URL without a query or fragment, got {value!r}")
    return value


def _parse_issuer(value: str) -> str:
    return value if value in ("", "server") else parse_issuer_url(_parse_text(value))


def _parse_clock(value: object) -> datetime | str:
    if value in ("real", "frozen"):
        return str(value)
    milliseconds = to_ms(cast("datetime", value))
    if milliseconds < 0:
        raise ValueError(value)
    return from_ms(milliseconds)


def _parse_api_key(value: str) -> str:
    if value and not _API_KEY_PATTERN.fullmatch(value):
        raise ValueError
    return value


def _parse_faults(value: object) -> object:
    is_ours = type(value).__module__.startswith("fake_credits.")  # rules and effects validate themselves
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
    """Return a string, or a list of strings, as a tuple; raise ValueError for anything else and for an empty string."""
    return tuple(map(_parse_text, cast("Sequence[object]", value if isinstance(value, list | tuple) else [value])))


def _choice_rule(*choices: str) -> OptionRule:
    def parse(value: object) -> object:
        if value not in choices:
            raise ValueError(value)
        return value

    return OptionRule(f"one of {', '.join(choices)}", parse, choices)


_API_KEY_RULE = OptionRule("1 to 256 visible ASCII characters", _parse_api_key)
_ID_RULE = OptionRule("a string other than '', '.' or '..', without control characters", _parse_id)


@dataclass(frozen=True, init=False)
class SandboxOptions:
    """The initial state of a sandbox, which ``reset`` restores.

    ``world`` is loaded first. Then the balance of ``user_id`` is set to ``balance``, and that of each user in ``users``
    to the value given there, in one transaction per user; no transaction is added for a balance that is already right.
    If ``users`` also includes ``user_id``, the two balances must be equal; otherwise, ValueError is raised. ``clock``
    is ``"real"``, ``"frozen"`` (at the current time) or the aware datetime at which it is frozen. If ``api_key`` is
    empty, a new key is generated. ``auth_provider`` is the provider whose tokens are imitated. ``issuer`` is the
    ``iss`` of tokens, by default the provider's; ``"server"`` means the live server's URL. ``trust`` maps URLs of
    foreign issuers, which are trusted in addition to the contract's, to files with their keys (JWKS or PEM).
    ``keep_headers`` are request headers to journal in addition to ``idempotency-key`` and ``traceparent``; headers that
    carry credentials are rejected.

    ``faults`` are the initial rules, and ``latency`` is the default delay (see the docs, "Faults"). In process,
    ``delays`` are ``"virtual"`` (they move the sandbox's clock) or ``"real"`` (they take real time). ``gate_timeout_s``
    limits how long a gate holds a call, and how long a call that never gets a response may wait.

    Raises OptionError for an unknown option or an invalid value. Values that depend on the contract or on files, such
    as balances and keys, are checked when the sandbox is created.
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
            'a mapping of user ids to integers, such as {"ada": 100}',
            _parse_users,
        ),
    ] = field(default_factory=dict[str, int])
    world: Annotated[
        LoadableWorld | None, OptionRule('the name of a world, such as "demo", or of a world file', _parse_world)
    ] = None
    clock: Annotated[
        datetime | Literal["real", "frozen"],
        OptionRule('"real", "frozen", or an aware datetime or ISO 8601 string that is not before 1970', _parse_clock),
    ] = "real"
    api_key: Annotated[str, _API_KEY_RULE] = ""
    auth_provider: Annotated[str, _choice_rule(*get_args(AuthProviderName))] = "plain"
    issuer: Annotated[str, OptionRule('an http or https URL, or "server" for the live server', _parse_issuer)] = ""
    trust: Annotated[
        Mapping[str, str | Path],
        OptionRule(
            'a mapping of foreign issuers to files with their keys, such as {"https://…/": "jwks.json"}', _parse_trust
        ),
    ] = field(default_factory=dict[str, str | Path])
    keep_headers: Annotated[tuple[str, ...], OptionRule("a header name, or a list of header names", parse_texts)] = ()
    faults: Annotated[
        object,
        OptionRule(
            "a Rule, an effect such as Reset(), a JSON object, a preset, a scenario file, or a list of these",
            _parse_faults,
        ),
    ] = ()
    latency: Annotated[
        object,
        OptionRule(
            'a number of milliseconds, "uniform(10, 50)", "lognormal(20, 200)", or a mapping of operations to these',
            _parse_latency,
        ),
    ] = None
    delays: Annotated[Literal["virtual", "real"], _choice_rule("virtual", "real")] = "virtual"
    gate_timeout_s: Annotated[float, OptionRule("a number of seconds from 0.001 to 3600", _parse_gate_timeout)] = 10.0

    def __init__(self, **options: Unpack[FakeCreditsKwargs]) -> None:
        # Most defaults are class attributes, because setting them all on each instance would take longer.
        parsed = parse_options(options, OPTION_RULES, "FakeCredits", _NOT_HERE_HINTS)
        self.__dict__.update({"users": {}, "trust": {}}, **parsed)
        if self.balance is not None and self.users.get(self.user_id, self.balance) != self.balance:
            conflict = f"balance={self.balance} and users={{{self.user_id!r}: {self.users[self.user_id]}}}"
            raise ValueError(f"{conflict} contradict each other (one may be inherited): set only one of them")

    def __repr__(self) -> str:
        return f"<SandboxOptions: application_id={self.application_id!r}, seed={self.seed}, users={len(self.users)}>"


OPTION_RULES: Mapping[str, OptionRule] = {
    name: hint.__metadata__[0] for name, hint in get_type_hints(SandboxOptions, include_extras=True).items()
}
"""The rule for each sandbox option, applied by `SandboxOptions` and included in the marker's rules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MintOptions:
    """Options for minting a token.

    ``bad`` is a kind of token that must be rejected. ``expires_in_s`` is the lifetime in seconds, by default the
    provider's. ``claims`` are added to the token. With ``use_wall_clock``, the time of issue comes from the wall clock,
    not from the sandbox's clock.
    """

    bad: str | None = None
    expires_in_s: int | None = None
    claims: Mapping[str, object] = field(default_factory=dict[str, object])
    use_wall_clock: bool = False


def check_id(kind: str, value: str, contract: Contract | None = None) -> None:
    """Raise TypeError or ValueError for an id that ``contract`` rejects or, without one, that no contract allows."""
    if not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"the {kind} id must be a str, not {type(value).__name__}")
    if value in ("", ".", ".."):
        raise ValueError(f"the {kind} id must not be empty, '.' or '..': {value!r}")
    if not value.isprintable() and any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
        raise ValueError(f"the {kind} id must not contain control characters or lone surrogates: {value!r}")
    problem = "" if contract is None else id_problem(contract, value)
    if problem:
        raise ValueError(f"the {kind} id {value[:60]!r} {problem}")


def check_balance(contract: Contract, user_id: str, balance: int) -> None:
    """Raise TypeError or ValueError for a balance that a contract does not allow."""
    if isinstance(balance, bool) or not isinstance(balance, int):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"the balance of {user_id!r} must be an int, not {type(balance).__name__}")
    lowest = -MAX_AMOUNT if contract.floor is None else contract.floor
    highest = MAX_AMOUNT if contract.ceiling is None else contract.ceiling
    if not lowest <= balance <= highest:
        raise ValueError(
            f"the balance of {user_id!r} must be from {lowest} to {highest} under this contract, not {balance}"
        )


def new_api_key() -> str:
    """Return a new, unpredictable API key whose prefix shows that it is not real."""
    return random_name(API_KEY_PREFIX)


def check_lifetime(expires_in_s: int) -> None:
    """Raise TypeError or ValueError for an invalid token lifetime; negative values, for expired tokens, are valid."""
    if isinstance(expires_in_s, bool) or not isinstance(expires_in_s, int):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"expires_in_s must be an int or None, not {type(expires_in_s).__name__}")
    if not -_MAX_TOKEN_LIFETIME_S <= expires_in_s <= _MAX_TOKEN_LIFETIME_S:
        raise ValueError(
            f"expires_in_s must be from {-_MAX_TOKEN_LIFETIME_S} to {_MAX_TOKEN_LIFETIME_S}, not {expires_in_s}"
        )


def check_claims(claims: Mapping[str, object]) -> None:
    """Raise TypeError or ValueError if the claims can't be encoded as a JSON object."""
    if not isinstance(claims, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"claims must be a mapping of names to JSON values, not {type(claims).__name__}")
    for name, value in claims.items():
        if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"claim name {name!r} must be a str, not {type(name).__name__}")
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"the claim {name!r} can't be encoded as JSON: {error}") from None
