"""Profiles: the parameters of worlds, built in or read from TOML files."""

import tomllib
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fake_credits.contract.model import suggest_choices
from fake_credits.worlds.world import WorldError

PROFILE_FORMAT_VERSION = 1
"""The version of the file format; each file must declare ``version = 1``."""

_MAX_PROFILE_BYTES = 64 * 1024
_MAX_CREDITS = 10**9
_MIN_PER_USER = 3
"""The minimum average number of transactions per user; users who leave early may have fewer."""

_TYPE_NAMES: Mapping[Any, str] = {str: "a string", int: "an integer", float: "a number", bool: "true or false"}


def _number_field(
    default: int | float, minimum: float, maximum: float, doc: str
) -> Any:  # returns Any, to suit both int and float fields
    return field(default=default, metadata={"least": minimum, "most": maximum, "doc": doc})


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The parameters of a world: how many users and transactions it has, and what they are like.

    Raises WorldError for values that are invalid or contradict each other.
    """

    name: str
    users: int = _number_field(20, 0, 1_000_000, "users, in addition to those of `edge_cases`")
    transactions: int = _number_field(
        1_000, 0, 50_000_000, "total transactions of these users, at least three per user"
    )
    signup_grant: int = _number_field(100, 1, _MAX_CREDITS, "credits granted to a new user")
    monthly_grant: int = _number_field(50, 0, _MAX_CREDITS, "credits granted every 30 days; 0: none")
    top_up: int = _number_field(200, 0, _MAX_CREDITS, "credits bought when the balance is too low; 0: none")
    smallest_consumption: int = _number_field(1, 1, _MAX_CREDITS, "minimum credits per consumption")
    largest_consumption: int = _number_field(500, 1, _MAX_CREDITS, "maximum credits per consumption")
    refund_share: float = _number_field(0.04, 0, 1, "share of consumptions that are refunded")
    dry_share: float = _number_field(0.15, 0, 1, "share of users whose last transaction takes their balance to 0")
    gone_share: float = _number_field(0.15, 0, 1, "share of users who never return after their first hour")
    edge_cases: bool = field(default=False, metadata={"doc": "whether to include the users of the profile `edge`"})

    def __post_init__(self) -> None:
        for spec in fields(self):
            self._check_field(spec, getattr(self, spec.name))
        if not self.users and not self.edge_cases:
            raise self._error("users", "must be 1 or more unless edge_cases is true")
        if self.transactions < _MIN_PER_USER * self.users:
            raise self._error("transactions", f"must be {_MIN_PER_USER * self.users} or more (three per user)")
        if self.transactions and not self.users:
            raise self._error("transactions", "must be 0 if users is 0")
        if self.largest_consumption < self.smallest_consumption:
            raise self._error(
                "largest_consumption", f"must be at least smallest_consumption ({self.smallest_consumption})"
            )
        if self.dry_share + self.gone_share > 1:
            raise self._error(
                "dry_share", f"must be {1 - self.gone_share:g} or less, because gone_share is {self.gone_share:g}"
            )

    def _check_field(self, spec: "Field[Any]", value: Any) -> None:
        if type(value) is not spec.type and (type(value), spec.type) != (int, float):
            raise self._error(spec.name, f"must be {_TYPE_NAMES[spec.type]}, not {value!r}")
        minimum, maximum = spec.metadata.get("least"), spec.metadata.get("most")
        if minimum is not None and not minimum <= value <= maximum:
            raise self._error(spec.name, f"must be from {minimum} to {maximum}, not {value}")
        if value == "":
            raise self._error(spec.name, "must not be empty")

    def _error(self, name: str, problem: str) -> WorldError:
        return WorldError(f"profile {self.name!r}: {name} {problem}")


PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        profile.name: profile
        for profile in (
            Profile(name="tiny", users=5, transactions=60),
            Profile(name="demo", users=200, transactions=20_000),
            Profile(name="edge", users=0, transactions=0, edge_cases=True),
            Profile(name="load", users=100_000, transactions=5_000_000),
        )
    }
)
"""The built-in profiles, by name (see docs/how-to/demo-data.md)."""


def load_profile(path: Path) -> Profile:
    """Return the profile described by a TOML file; missing fields get their defaults.

    The name defaults to the file name without its suffix. Raises WorldError, with a message that starts with the path,
    if the file can't be read or is invalid.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_PROFILE_BYTES + 1)
        if len(data) > _MAX_PROFILE_BYTES:
            raise WorldError(f"the file is larger than {_MAX_PROFILE_BYTES} bytes")
        return profile_from_dict({"name": path.stem, **tomllib.loads(data.decode("utf-8"))})
    except WorldError as error:
        raise WorldError(f"{path}: {error}") from None
    except OSError as error:
        raise WorldError(f"{path}: the file can't be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # ValueError: also raised for an integer with thousands of digits
        raise WorldError(f"{path}: not valid TOML: {error}") from None


def profile_from_dict(document: Mapping[str, Any]) -> Profile:
    """Return the profile described by a parsed document; raise WorldError if it is invalid."""
    values = dict(document)
    version = values.pop("version", None)
    if version is True or version != PROFILE_FORMAT_VERSION:
        raise WorldError(f"version must be {PROFILE_FORMAT_VERSION}, not {version!r}")
    names = [spec.name for spec in fields(Profile)]
    for key in values:
        if key not in names:
            raise WorldError(f"unknown field {key!r}{suggest_choices(key, names)}")
    return Profile(**values)
