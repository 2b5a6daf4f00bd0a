"""Generation of user ids and histories, which depend only on the seed, the profile and the user's ordinal."""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from math import sqrt
from types import MappingProxyType
from typing import NamedTuple
from uuid import UUID

from fake_credits.contract import MAX_AMOUNT
from fake_credits.keyed_random import keyed_generator
from fake_credits.ledger import REASON_CODES, TransactionColumns
from fake_credits.models import Reason
from fake_credits.worlds.profiles import Profile
from fake_credits.worlds.world import WEEK_MS, WORLD_SPAN_MS, UserHistory, WorldError

ID_BITS = 192
"""The number of random bits from which an id is built."""

_NAME_POOL_SIZE = 150
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # the alphabet of ULIDs
_EMAIL_DOMAINS = ("example.com", "example.org", "example.net", "mail.example.com")  # domains reserved by RFC 2606


class Identity(NamedTuple):
    """The parts from which an id is built: names, the user's number in the world, and random bits."""

    first_name: str
    last_name: str
    foreign_name: str
    ordinal: int
    bits: int

    @property
    def email(self) -> str:
        """Return an e-mail address, unique within the world because ordinals are unique and names contain no digits."""
        return f"{self.first_name}.{self.last_name}{self.ordinal}@{_EMAIL_DOMAINS[self.bits % 4]}".lower().replace(
            " ", ""
        )

    def encode_bits(self, alphabet: str, length: int) -> str:
        """Encode the low-order bits as ``length`` characters from ``alphabet``."""
        letters: list[str] = []
        bits = self.bits
        for _ in range(length):
            bits, digit = divmod(bits, len(alphabet))
            letters.append(alphabet[digit])
        return "".join(letters)


_UNUSUAL_SHAPES: Sequence[Callable[[Identity], str]] = (
    lambda person: f"{person.foreign_name} {person.ordinal}",
    lambda person: f"{person.first_name} O'{person.last_name}, {person.ordinal}",
    lambda person: f"team/{person.ordinal}/{person.first_name.lower()}",
    lambda person: str(1_000_000 + person.ordinal),
    lambda person: person.email.replace("@", "+credits@"),
    lambda person: f"100% {person.last_name} #{person.ordinal}?",
)

ID_SHAPES: Mapping[str, Callable[[Identity], str]] = MappingProxyType(
    {
        "clerk": lambda person: f"user_{person.encode_bits(_BASE62, 27)}",
        "e-mail": lambda person: person.email,
        "auth0": lambda person: f"auth0|{person.bits % 2**96:024x}",
        "odd": lambda person: _UNUSUAL_SHAPES[person.bits % len(_UNUSUAL_SHAPES)](person),
        "firebase": lambda person: person.encode_bits(_BASE62, 28),
        "cognito": lambda person: str(UUID(int=person.bits % 2**128, version=4)),
        "google": lambda person: f"google-oauth2|1{person.bits % 10**20:020}",
        "workos": lambda person: f"user_01{person.encode_bits(_CROCKFORD, 24)}",
        "name": lambda person: f"{person.first_name}_{person.last_name}_{person.ordinal}".lower().replace(" ", ""),
    }
)
"""The shapes of user ids, assigned to users in turn, so that nine users are enough to cover them all."""

_SHAPES_CYCLE = tuple(ID_SHAPES.values())


class IdGenerator:
    """A generator of user ids for one world; raises WorldError if Faker is not installed."""

    def __init__(self, seed: int) -> None:
        self._first_names, self._last_names, self._foreign_names = _draw_names(seed)

    def __repr__(self) -> str:
        return f"<IdGenerator: first_names={len(self._first_names)}>"

    def user_id(self, ordinal: int, bits: int) -> str:
        """Return the unique id of a user; ``bits`` are `ID_BITS` random bits."""
        rest, first = divmod(bits, _NAME_POOL_SIZE)
        rest, last = divmod(rest, _NAME_POOL_SIZE)
        identity = Identity(self._first_names[first], self._last_names[last], self._foreign_names[last], ordinal, rest)
        return _SHAPES_CYCLE[ordinal % len(_SHAPES_CYCLE)](identity)


def _draw_names(seed: int) -> tuple[list[str], list[str], list[str]]:
    try:
        from faker import Faker  # slow to import: 0.2 s
    except ImportError:
        raise WorldError("user names require Faker, which is not installed: pip install 'fake-credits[demo]'") from None
    providers = ["faker.providers.person"]
    english, japanese = Faker("en_US", providers), Faker("ja_JP", providers)
    name_seed = keyed_generator(seed, "people").getrandbits(32)
    english.seed_instance(name_seed)
    japanese.seed_instance(name_seed)
    return (
        [str(english.first_name()) for _ in range(_NAME_POOL_SIZE)],
        [str(english.last_name()) for _ in range(_NAME_POOL_SIZE)],
        [str(japanese.name()) for _ in range(_NAME_POOL_SIZE)],
    )


GENERATOR_VERSION = 1
"""The version of the generated data; increase it when a change makes the same seed and profile yield different data."""

_HOUR_MS = 3_600_000
_MONTH_MS = 30 * 24 * _HOUR_MS
_REGULAR, _DEPLETED, _CHURNED = range(3)
_GRANT, _CONSUME, _REFUND = Reason.GRANT, Reason.CONSUME, Reason.REFUND
_GRANT_CODE, _CONSUME_CODE, _REFUND_CODE = REASON_CODES[_GRANT], REASON_CODES[_CONSUME], REASON_CODES[_REFUND]
_MIN_TRANSACTIONS = 3
_SIGNUP_PERIOD_SHARE = 0.97
"""The share of a world's time span during which users sign up, at a growing rate."""
_MIN_ACTIVE_SHARE = 0.3
"""For users who use up their credits, the minimum share of the time after sign-up during which they are active."""
_SLOT_MS = _HOUR_MS // 4


def _weekly_pattern() -> tuple[int, ...]:
    """Divide a week, starting on Monday, into intervals of equal activity, and return their boundaries.

    Busier times have shorter intervals. The number of intervals equals the number of quarter-hours in a week.
    """
    hours = (2, 1, 1, 1, 1, 2, 4, 8, 12, 14, 15, 15, 13, 14, 15, 14, 13, 12, 11, 10, 9, 7, 5, 3)
    days = (10, 11, 11, 11, 9, 4, 3)
    weights = [day * hour for day in days for hour in hours]
    cumulative, slots = [0, *accumulate(weights)], WEEK_MS // _SLOT_MS
    moments: list[int] = []
    for slot in range(slots):
        target = slot * cumulative[-1]
        hour = bisect_right(cumulative, target // slots) - 1
        moments.append(hour * _HOUR_MS + (target - cumulative[hour] * slots) * _HOUR_MS // (weights[hour] * slots))
    return (*moments, WEEK_MS)


_WEEKLY_PATTERN = _weekly_pattern()


class GeneratedUser(NamedTuple):
    """A user's history, and the random bits of the user's id. Times are relative to the world's start."""

    id_bits: int
    created_ms: int
    columns: TransactionColumns


class _UserPlan(NamedTuple):
    kind: int
    rows: int


class _Lifetime(NamedTuple):
    """A user's schedule: the time of sign-up, the number of monthly grants, and the times of all other transactions."""

    created_ms: int
    months: int
    times: list[int]
    is_depleted: bool


def generate_histories(profile: Profile, seed: int) -> Iterator[GeneratedUser]:
    """Yield users with their histories, in order of sign-up; raise WorldError if the profile can't be satisfied."""
    for ordinal, user in enumerate(_plan_users(profile, seed)):
        rng = keyed_generator(seed, profile.name, GENERATOR_VERSION, ordinal)
        id_bits, draw = rng.getrandbits(ID_BITS), rng.random
        lifetime = _draw_lifetime(draw, profile, user, (ordinal + draw()) / profile.users)
        columns = _draw_history(draw, profile, lifetime)
        if columns is None:
            raise WorldError(
                f"profile {profile.name!r} can't be satisfied: user {ordinal + 1} of {profile.users} would consume "
                "more than was granted, and top_up is 0: raise the grants, lower the consumption, set top_up, or use "
                "fewer transactions"
            )
        yield GeneratedUser(id_bits, lifetime.created_ms, columns)


def _plan_users(profile: Profile, seed: int) -> list[_UserPlan]:
    """Return each user's kind and number of transactions.

    A few users have many transactions; the total is ``profile.transactions``.
    """
    draw = keyed_generator(seed, profile.name, GENERATOR_VERSION, "sizes").random
    users: list[_UserPlan] = []
    weights: list[int] = []
    for ordinal in range(profile.users):
        chance, size = draw(), draw()
        # at least one user must stay active, to take the remaining transactions
        if chance < profile.gone_share and ordinal > 0:
            users.append(_UserPlan(_CHURNED, 1 + int(size * _MIN_TRANSACTIONS)))
            weights.append(0)
        else:
            is_depleted = chance < profile.gone_share + profile.dry_share
            users.append(_UserPlan(_DEPLETED if is_depleted else _REGULAR, _MIN_TRANSACTIONS))
            weights.append(int(1000 / sqrt(max(size, 0.001))))
    remaining, cumulative = profile.transactions - sum(user.rows for user in users), [0, *accumulate(weights)]
    shares = [remaining * end // (cumulative[-1] or 1) for end in cumulative]
    return [user._replace(rows=user.rows + shares[index + 1] - shares[index]) for index, user in enumerate(users)]


def _draw_lifetime(draw: Callable[[], float], profile: Profile, user: _UserPlan, position: float) -> _Lifetime:
    """Return a user's schedule; ``position``, from 0 to 1, is the user's position among all users."""
    start_ms = int(sqrt(position) * _SIGNUP_PERIOD_SHARE * WORLD_SPAN_MS)
    created_ms, chance = _apply_weekly_pattern(start_ms), draw()
    if user.kind == _CHURNED:
        times = sorted([created_ms + int(draw() * _HOUR_MS) for _ in range(user.rows - 1)])
        return _Lifetime(created_ms, 0, times, is_depleted=False)
    active_share = _MIN_ACTIVE_SHARE + (1 - _MIN_ACTIVE_SHARE) * chance if user.kind == _DEPLETED else 1
    active_ms = int((WORLD_SPAN_MS - 1 - start_ms) * active_share)
    end_ms = _apply_weekly_pattern(start_ms + active_ms)
    months = min((end_ms - created_ms) // _MONTH_MS, (user.rows - 2) // 2) if profile.monthly_grant else 0
    even_times = sorted([start_ms + int(draw() * active_ms) for _ in range(user.rows - 2 - months)])
    return _Lifetime(
        created_ms, months, [*map(_apply_weekly_pattern, even_times), end_ms], is_depleted=user.kind == _DEPLETED
    )


def _apply_weekly_pattern(even_ms: int) -> int:
    """Map a uniformly distributed time to one that follows the weekly pattern, preserving order."""
    week, rest = divmod(even_ms, WEEK_MS)
    slot, part_ms = divmod(rest, _SLOT_MS)
    moment = _WEEKLY_PATTERN[slot]
    return week * WEEK_MS + moment + (_WEEKLY_PATTERN[slot + 1] - moment) * part_ms // _SLOT_MS


def _draw_history(draw: Callable[[], float], profile: Profile, lifetime: _Lifetime) -> TransactionColumns | None:
    """Return a user's transactions, starting with the sign-up grant, or None if a top-up is needed but not allowed.

    If ``lifetime.is_depleted``, the last transaction takes the balance to 0. Otherwise, consumption always leaves at
    least one credit.
    """
    deltas, codes, times = [profile.signup_grant], [_GRANT_CODE], [lifetime.created_ms]
    balance, refundable = profile.signup_grant, 0
    next_grant_ms, months = lifetime.created_ms + _MONTH_MS, lifetime.months
    smallest, largest, refund_share = profile.smallest_consumption, profile.largest_consumption, profile.refund_share
    depletion_number = len(lifetime.times) if lifetime.is_depleted else 0
    for number, time_ms in enumerate(lifetime.times, 1):
        while months and next_grant_ms <= time_ms:
            deltas.append(profile.monthly_grant)
            codes.append(_GRANT_CODE)
            times.append(next_grant_ms)
            balance, refundable = balance + profile.monthly_grant, 0
            next_grant_ms, months = next_grant_ms + _MONTH_MS, months - 1
        size, chance = draw(), draw()
        if number == depletion_number:
            delta, code = -balance, _CONSUME_CODE
        elif refundable and chance < refund_share:
            delta, code = refundable, _REFUND_CODE
        elif balance > smallest:
            delta, code = -min(int(smallest / (1 - size)), largest, balance - 1), _CONSUME_CODE
        elif profile.top_up:
            delta, code = profile.top_up, _GRANT_CODE
        else:
            return None
        refundable = -delta if code == _CONSUME_CODE else 0
        balance += delta
        deltas.append(delta)
        codes.append(code)
        times.append(time_ms)
    return TransactionColumns(array("q", deltas), array("b", codes), array("q", times))


EdgeTransactions = Sequence[tuple[int, Reason]]

EDGE_CASES: tuple[tuple[str, EdgeTransactions], ...] = (
    ("no-transactions", ()),
    ("zero-balance", ((10, _GRANT), (-10, _CONSUME))),
    ("maximum-balance", ((MAX_AMOUNT, _GRANT),)),
    ("maximum-and-back", ((MAX_AMOUNT, _GRANT), (-MAX_AMOUNT, _CONSUME), (MAX_AMOUNT, _REFUND))),
    ("one-credit", ((1, _GRANT),)),
    ("last-credit", ((1, _GRANT), (-1, _CONSUME))),
    ("refunded", ((5, _GRANT), (-5, _CONSUME), (5, _REFUND))),
    ("10000-rows", ((10_000, _GRANT), *[(-1, _CONSUME)] * 9_999)),
    ("equal-timestamps", ((60, _GRANT), *[(-1, _CONSUME)] * 59)),
    ("日本語 ユーザー", ((7, _GRANT),)),
    ("مستخدم", ((7, _GRANT),)),
    ("🦊‍👩🏽‍🚀", ((7, _GRANT),)),
    ("e\N{COMBINING ACUTE ACCENT}", ((7, _GRANT),)),
    ("\N{LATIN SMALL LETTER E WITH ACUTE}", ((8, _GRANT),)),
    ("a/b?c=d#e%2F&f", ((7, _GRANT),)),
    (" spaces at both ends ", ((7, _GRANT),)),
    ("i" * 256, ((7, _GRANT),)),
)
"""User ids and their transactions; two of the ids look the same but have different code points."""


def edge_histories() -> Iterator[UserHistory]:
    """Yield the users of `EDGE_CASES`, who sign up one millisecond apart."""
    for index, (user_id, rows) in enumerate(EDGE_CASES):
        # One history covers the full time span; in each of the others, all transactions happen at the same time.
        step_ms = (WORLD_SPAN_MS - index) // len(rows) if user_id == "10000-rows" else 0
        deltas = array("q", [delta for delta, _ in rows])
        codes = array("b", [REASON_CODES[reason] for _, reason in rows])
        times = array("q", [index + step_ms * number for number in range(len(rows))])
        yield UserHistory(user_id, index, TransactionColumns(deltas, codes, times))
