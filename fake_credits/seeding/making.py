"""Own how a world comes about: out of a profile, or out of a file, by one name for both; know no target."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from fake_credits.contract.rules import nearest
from fake_credits.seeding.edge import EDGE_CASES, edge_histories
from fake_credits.seeding.errors import UnknownWorld
from fake_credits.seeding.files import load_world
from fake_credits.seeding.people import People
from fake_credits.seeding.plan import plans
from fake_credits.seeding.profiles import PROFILES, Profile, load_profile
from fake_credits.seeding.world import KEPT, History, World

__all__ = ["Worlds", "make_world"]

_REMEMBERED = 8


def make_world(profile: Profile, seed: int) -> World:
    """Return the world of a profile and a seed; its users are made when they are first asked for."""
    edge = sum(len(rows) for _, rows in EDGE_CASES) if profile.edge_cases else 0

    def histories() -> Iterator[History]:
        if profile.edge_cases:
            yield from edge_histories()
        if profile.users:
            people = People(seed)
            for ordinal, (id_bits, created, columns) in enumerate(plans(profile, seed)):
                yield History(people.user_id(ordinal, id_bits), created, columns)

    return World(profile.name, seed, profile.transactions + edge, histories)


class Worlds:
    """Find worlds by name, and keep the last that were made: they are the same each time; a large one is let go."""

    def __init__(self) -> None:
        self._made = lru_cache(_REMEMBERED)(make_world)

    def __repr__(self) -> str:
        return f"<Worlds: {self._made.cache_info().currsize} made>"

    def find(self, name: str | Path, seed: int) -> World:
        """Return the world of a profile's name, of a profile's TOML file, or of a world's JSON file, whose seed stays.

        Raises UnknownWorld for what is none of these, WorldError for a file that can't be read or used.
        """
        path, profile = Path(name), PROFILES.get(str(name))
        if profile is None and not path.is_file():
            is_folder = path.is_dir() and str(name) != ""
            what = (
                f"the world {str(name)!r} is a folder" if is_folder else f"there is no world {str(name)!r}, and no file"
            )
            raise UnknownWorld(f"{what}{nearest(str(name), PROFILES)}")
        if profile is None and path.suffix != ".toml":
            return load_world(path)
        profile = profile or load_profile(path)
        return make_world(profile, seed) if profile.transactions > KEPT else self._made(profile, seed)
