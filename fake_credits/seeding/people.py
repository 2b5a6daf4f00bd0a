"""Own users' ids, in the shapes that auth providers give them; know nothing of what these users do.

Faker gives the names alone: its versions differ in them, and nothing else may depend on it. Whoever has no Faker can
still load worlds from files.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple
from uuid import UUID

from fake_credits.chance import generator
from fake_credits.seeding.errors import WorldError

__all__ = ["BITS", "SHAPES", "People", "Person"]

BITS = 192
"""How many random bits an id is made of."""

_POOL = 150
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # as in a ULID
_DOMAINS = ("example.com", "example.org", "example.net", "mail.example.com")  # nobody's: RFC 2606


class Person(NamedTuple):
    """Be what an id is made of: names, the user's number in the world, and random bits."""

    first: str
    last: str
    foreign: str
    ordinal: int
    bits: int

    @property
    def address(self) -> str:
        """Return an e-mail address that nobody else in the world has: names hold no digits."""
        return f"{self.first}.{self.last}{self.ordinal}@{_DOMAINS[self.bits % 4]}".lower().replace(" ", "")

    def text(self, alphabet: str, size: int) -> str:
        """Return a text of these bits, in an alphabet."""
        letters: list[str] = []
        bits = self.bits
        for _ in range(size):
            bits, place = divmod(bits, len(alphabet))
            letters.append(alphabet[place])
        return "".join(letters)


_ODD: Sequence[Callable[[Person], str]] = (
    lambda person: f"{person.foreign} {person.ordinal}",
    lambda person: f"{person.first} O'{person.last}, {person.ordinal}",
    lambda person: f"team/{person.ordinal}/{person.first.lower()}",
    lambda person: str(1_000_000 + person.ordinal),
    lambda person: person.address.replace("@", "+credits@"),
    lambda person: f"100% {person.last} #{person.ordinal}?",
)

SHAPES: Mapping[str, Callable[[Person], str]] = MappingProxyType(
    {
        "clerk": lambda person: f"user_{person.text(_BASE62, 27)}",
        "e-mail": lambda person: person.address,
        "auth0": lambda person: f"auth0|{person.bits % 2**96:024x}",
        "odd": lambda person: _ODD[person.bits % len(_ODD)](person),
        "firebase": lambda person: person.text(_BASE62, 28),
        "cognito": lambda person: str(UUID(int=person.bits % 2**128, version=4)),
        "google": lambda person: f"google-oauth2|1{person.bits % 10**20:020}",
        "workos": lambda person: f"user_01{person.text(_CROCKFORD, 24)}",
        "name": lambda person: f"{person.first}_{person.last}_{person.ordinal}".lower().replace(" ", ""),
    }
)
"""How a user's id can look. Users have them by turns, so that a world of nine users has them all."""

_TURNS = tuple(SHAPES.values())


class People:
    """Name the users of one world; raise WorldError where Faker is not installed."""

    def __init__(self, seed: int) -> None:
        self._first, self._last, self._foreign = _names(seed)

    def __repr__(self) -> str:
        return f"<People of {len(self._first)} first names>"

    def user_id(self, ordinal: int, bits: int) -> str:
        """Return the id of the user of this number, which no other has; ``bits`` are `BITS` random ones."""
        rest, first = divmod(bits, _POOL)
        rest, last = divmod(rest, _POOL)
        person = Person(self._first[first], self._last[last], self._foreign[last], ordinal, rest)
        return _TURNS[ordinal % len(_TURNS)](person)


def _names(seed: int) -> tuple[list[str], list[str], list[str]]:
    try:
        from faker import Faker  # costs 0.2 s, and only worlds that are made here need it
    except ImportError:
        raise WorldError(
            "names of users come from Faker, which is not installed: pip install 'fake-credits[demo]'"
        ) from None
    providers = ["faker.providers.person"]
    here, abroad = Faker("en_US", providers), Faker("ja_JP", providers)
    texts = generator(seed, "people").getrandbits(32)
    here.seed_instance(texts)
    abroad.seed_instance(texts)
    return (
        [str(here.first_name()) for _ in range(_POOL)],
        [str(here.last_name()) for _ in range(_POOL)],
        [str(abroad.name()) for _ in range(_POOL)],
    )
