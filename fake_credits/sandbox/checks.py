"""Own what a sandbox refuses of ids, balances, keys and tokens, by name; know nothing of what becomes of them."""

import json
import re
import unicodedata
from collections.abc import Mapping

from fake_credits.contract import MAX_AMOUNT, Contract, id_problem

__all__ = ["check_api_key", "check_balance", "check_claims", "check_id", "check_life"]

_VISIBLE = re.compile(r"[\x21-\x7e]{1,256}")
_LIFE_MAX_S = 10 * 366 * 86400


def check_id(what: str, text: str, contract: Contract | None = None) -> None:
    """Refuse an id that no contract allows or, where one is given, that one does not."""
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"the {what} id must be a str, not {type(text).__name__}")
    if text in ("", ".", ".."):
        raise ValueError(f"the {what} id must not be empty, '.' or '..': {text!r}")
    if not text.isprintable() and any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise ValueError(f"the {what} id must have no control characters and no lone surrogates: {text!r}")
    problem = "" if contract is None else id_problem(contract, text)
    if problem:
        raise ValueError(f"the {what} id {text[:60]!r} {problem}")


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


def check_api_key(text: str) -> None:
    """Refuse an API key that no header can carry (RFC 9110, section 5.5); the message does not repeat it."""
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"api_key must be a str, not {type(text).__name__}")
    if not _VISIBLE.fullmatch(text):
        raise ValueError("api_key must be 1 to 256 visible ASCII characters: it travels in a header")


def check_life(expires_in_s: int) -> None:
    """Refuse a token's life that is no whole number of seconds; one that is over already may be meant."""
    if isinstance(expires_in_s, bool) or not isinstance(expires_in_s, int):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"expires_in_s must be an int or None, not {type(expires_in_s).__name__}")
    if not -_LIFE_MAX_S <= expires_in_s <= _LIFE_MAX_S:
        raise ValueError(f"expires_in_s must be from {-_LIFE_MAX_S} to {_LIFE_MAX_S}, not {expires_in_s}")


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
