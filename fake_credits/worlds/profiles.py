"""Profiles: the parameters of a world, built in or read from a TOML file whose keys are the fields."""

import tomllib
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fake_credits.contract.validation import suggest_choices
from fake_credits.worlds.world import WorldError

__all__ = ["PROFILES", "PROFILE_FORMAT_VERSION", "Profile", "load_profile", "profile_from_dict"]

PROFILE_FORMAT_VERSION = 1
"""The version of the format of profile files; a file says ``version = 1``."""

_MAX_PROFILE_BYTES = 64 * 1024
_MAX_CREDITS = 10**9
_MIN_PER_USER = 3
"""Transactions that every user has room for; some have one or two, and leave the others more."""

_ALLOWED_TYPES: Mapping[Any, tuple[tuple[type, ...], str]] = MappingProxyType(
    {
        str: ((str,), "a text"),
        int: ((int,), "a whole number"),
        float: ((int, float), "a number"),
        bool: ((bool,), "true or false"),
    }
)


def _number_field(
    default: int | float, minimum: float, maximum: float, doc: str
) -> Any:  # as `dataclasses.field` itself is typed
    return field(default=default, metadata={"least": minimum, "most": maximum, "doc": doc})


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The parameters of a world: how many users and transactions it has, and of which kinds.

    Raises WorldError for numbers out of range, and for numbers that no world can have together.
    """

    name: str
    users: int = _number_field(20, 0, 1_000_000, "users, beside those of `edge_cases`")
    transactions: int = _number_field(
        1_000, 0, 50_000_000, "transactions of these users together, three or more a user"
    )
    signup_grant: int = _number_field(100, 1, _MAX_CREDITS, "credits that a user gets at the start")
    monthly_grant: int = _number_field(50, 0, _MAX_CREDITS, "credits that a user gets every 30 days; 0: none")
    top_up: int = _number_field(
        200, 0, _MAX_CREDITS, "credits that are bought where the balance does not suffice; 0: none are"
    )
    smallest_consumption: int = _number_field(1, 1, _MAX_CREDITS, "credits that a consumption takes at least")
    largest_consumption: int = _number_field(500, 1, _MAX_CREDITS, "credits that a consumption takes at most")
    refund_share: float = _number_field(0.04, 0, 1, "share of consumptions that are given back")
    dry_share: float = _number_field(0.15, 0, 1, "share of users whose last transaction leaves them nothing")
    gone_share: float = _number_field(0.15, 0, 1, "share of users who never came back after their first hour")
    edge_cases: bool = field(default=False, metadata={"doc": "begin with the users of `edge`"})

    def __post_init__(self) -> None:
        for spec in fields(self):
            self._check_field(spec, getattr(self, spec.name))
        if not self.users and not self.edge_cases:
            raise self._error("users", "must be 1 or more, as there are no edge_cases")
        if self.transactions < _MIN_PER_USER * self.users:
            raise self._error("transactions", f"must be {_MIN_PER_USER * self.users} or more: three for each user")
        if self.transactions and not self.users:
            raise self._error("transactions", "must be 0, as there are no users to have them")
        if self.largest_consumption < self.smallest_consumption:
            raise self._error("largest_consumption", f"must be {self.smallest_consumption} or more, the smallest")
        if self.dry_share + self.gone_share > 1:
            raise self._error("dry_share", f"must be {1 - self.gone_share:g} or less: the others are gone_share")

    def _check_field(self, spec: "Field[Any]", value: Any) -> None:
        allowed, expected = _ALLOWED_TYPES[spec.type]
        if type(value) not in allowed:
            raise self._error(spec.name, f"must be {expected}, not {value!r}")
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
"""Every profile that has a name; README, "Demo data"."""


def load_profile(path: Path) -> Profile:
    """Return the profile that a TOML file describes; a field that it does not name keeps its default.

    It is named as its file unless it says otherwise. Raises WorldError, with the file's name in front.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_PROFILE_BYTES + 1)
        if len(data) > _MAX_PROFILE_BYTES:
            raise WorldError(f"it is over {_MAX_PROFILE_BYTES} bytes")
        return profile_from_dict({"name": path.stem, **tomllib.loads(data.decode("utf-8"))})
    except OSError as error:
        raise WorldError(f"{path}: can't be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WorldError(f"{path}: is not valid TOML: {error}") from None
    except WorldError as error:
        raise WorldError(f"{path}: {error}") from None


def profile_from_dict(document: Mapping[str, Any]) -> Profile:
    """Return the profile that a parsed document describes; raise WorldError."""
    values = dict(document)
    version = values.pop("version", None)
    if version is True or version != PROFILE_FORMAT_VERSION:
        raise WorldError(f"version must be {PROFILE_FORMAT_VERSION}, not {version!r}")
    names = [spec.name for spec in fields(Profile)]
    for key in values:
        if key not in names:
            raise WorldError(f"there is no {key!r} in a profile{suggest_choices(key, names)}")
    return Profile(**values)
