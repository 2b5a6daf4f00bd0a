"""Worlds: demo data for a sandbox, generated from a profile or read from a file."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from fake_credits.contract.model import suggest_choices
from fake_credits.text import short_repr
from fake_credits.worlds.generator import EDGE_CASES, IdGenerator, edge_histories, generate_histories
from fake_credits.worlds.profiles import PROFILES, Profile, load_profile
from fake_credits.worlds.world import MAX_KEPT_TRANSACTIONS, UnknownWorld, UserHistory, World, load_world

__all__ = ["WorldLibrary", "make_world"]


_MAX_CACHED_WORLDS = 8


def make_world(profile: Profile, seed: int) -> World:
    """Return the world for a profile and a seed; its users are generated on first use."""
    edge_transactions = sum(len(rows) for _, rows in EDGE_CASES) if profile.edge_cases else 0

    def histories() -> Iterator[UserHistory]:
        if profile.edge_cases:
            yield from edge_histories()
        if profile.users:
            ids = IdGenerator(seed)
            for ordinal, (id_bits, created, columns) in enumerate(generate_histories(profile, seed)):
                yield UserHistory(ids.user_id(ordinal, id_bits), created, columns)

    return World(profile.name, seed, profile.transactions + edge_transactions, histories)


class WorldLibrary:
    """The available worlds, by name or file path; recently generated ones are cached, except large ones."""

    def __init__(self) -> None:
        self._cached_make_world = lru_cache(_MAX_CACHED_WORLDS)(make_world)

    def __repr__(self) -> str:
        return f"<WorldLibrary: {self._cached_make_world.cache_info().currsize} cached>"

    def find(self, name: str | Path, seed: int) -> World:
        """Return the world for a profile (a name or a TOML file) and a seed, or the world in a JSON file.

        ``seed`` is ignored for a JSON file, which contains its own. Raises UnknownWorld for any other name, and
        WorldError for a file that can't be read or is invalid.
        """
        path, profile = Path(name), PROFILES.get(str(name))
        if profile is None and not _is_file(path):
            shown = short_repr(str(name))
            if path.suffix in (".json", ".toml"):
                raise UnknownWorld(f"the world file {shown} does not exist")
            raise UnknownWorld(
                f"unknown world {shown}, which is neither a profile nor a file{suggest_choices(str(name), PROFILES)}"
            )
        if profile is None and path.suffix != ".toml":
            return load_world(path)
        profile = profile or load_profile(path)
        is_large = profile.transactions > MAX_KEPT_TRANSACTIONS
        return make_world(profile, seed) if is_large else self._cached_make_world(profile, seed)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # for example, because the name is too long
        return False
