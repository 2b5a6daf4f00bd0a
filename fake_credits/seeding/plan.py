"""Own what the users of a profile do: a pure function of seed, profile and a user's ordinal; know no ids and no Faker.

Only what IEEE 754 rounds in one way is used (no logarithms, no powers), so the data are the same on every machine.
"""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import accumulate
from math import sqrt
from typing import NamedTuple

from fake_credits.chance import generator
from fake_credits.ledger import CODES, Columns
from fake_credits.models import Reason
from fake_credits.seeding.errors import WorldError
from fake_credits.seeding.people import BITS
from fake_credits.seeding.profiles import Profile
from fake_credits.seeding.world import SPAN_MS, WEEK_MS

__all__ = ["PLAN_VERSION", "Planned", "plans"]

PLAN_VERSION = 1
"""Which data a seed and a profile mean; a change of what this module gives counts it up."""

_HOUR_MS = 3_600_000
_MONTH_MS = 30 * 24 * _HOUR_MS
_REGULAR, _DRY, _GONE = range(3)
_GRANT, _CONSUME, _REFUND = CODES[Reason.GRANT], CODES[Reason.CONSUME], CODES[Reason.REFUND]
_LEAST = 3
_SIGNED_UP_BY = 0.97
"""The part of a world's past in which users sign up, the more the later."""
_DRY_FROM = 0.3
"""The part of the rest of the past that those who run dry stay at least."""
_CELL_MS = _HOUR_MS // 4


def _rhythm() -> tuple[int, ...]:
    """Return the moments of a week, from Monday, between which equally many things happen: many by day, few at night.

    There are as many as quarters of an hour in a week, and the last is the week's end.
    """
    hours = (2, 1, 1, 1, 1, 2, 4, 8, 12, 14, 15, 15, 13, 14, 15, 14, 13, 12, 11, 10, 9, 7, 5, 3)
    days = (10, 11, 11, 11, 9, 4, 3)
    weights = [day * hour for day in days for hour in hours]
    ends, cells = [0, *accumulate(weights)], WEEK_MS // _CELL_MS
    moments: list[int] = []
    for cell in range(cells):
        target = cell * ends[-1]
        hour = bisect_right(ends, target // cells) - 1
        moments.append(hour * _HOUR_MS + (target - ends[hour] * cells) * _HOUR_MS // (weights[hour] * cells))
    return (*moments, WEEK_MS)


_RHYTHM = _rhythm()


class Planned(NamedTuple):
    """Be what one user does, and the random bits that the id is made of; times are after the world's start."""

    id_bits: int
    created: int
    columns: Columns


class _User(NamedTuple):
    kind: int
    rows: int


class _Life(NamedTuple):
    """Be one user before anything happens: the monthly grants, and when the other transactions but the first are."""

    created: int
    months: int
    times: list[int]
    ends_dry: bool


def plans(profile: Profile, seed: int) -> Iterator[Planned]:
    """Yield what each user does, in the order of signing up; raise WorldError for a profile that can't be met."""
    for ordinal, user in enumerate(_users(profile, seed)):
        source = generator(seed, profile.name, PLAN_VERSION, ordinal)
        id_bits, draw = source.getrandbits(BITS), source.random
        life = _life(draw, profile, user, (ordinal + draw()) / profile.users)
        columns = _history(draw, profile, life)
        if columns is None:
            raise WorldError(
                f"profile {profile.name!r} can't be met: user {ordinal} of {profile.users} would consume more than is "
                "granted, and top_up is 0: grant more, let less be consumed, set top_up, or have fewer transactions"
            )
        yield Planned(id_bits, life.created, columns)


def _users(profile: Profile, seed: int) -> list[_User]:
    """Return what kind of user each is and how many transactions it has: few have many, and the sum is exact."""
    draw = generator(seed, profile.name, PLAN_VERSION, "sizes").random
    drawn: list[_User] = []
    weights: list[int] = []
    for ordinal in range(profile.users):
        luck, size = draw(), draw()
        if luck < profile.gone_share and ordinal > 0:  # somebody has to have the others' transactions
            drawn.append(_User(_GONE, 1 + int(size * _LEAST)))
            weights.append(0)
        else:
            dry = luck < profile.gone_share + profile.dry_share
            drawn.append(_User(_DRY if dry else _REGULAR, _LEAST))
            weights.append(int(1000 / sqrt(max(size, 0.001))))
    left, ends = profile.transactions - sum(user.rows for user in drawn), [0, *accumulate(weights)]
    shares = [left * end // (ends[-1] or 1) for end in ends]
    return [user._replace(rows=user.rows + shares[i + 1] - shares[i]) for i, user in enumerate(drawn)]


def _life(draw: Callable[[], float], profile: Profile, user: _User, place: float) -> _Life:
    """Return when a user signs up and comes back; ``place`` among the users is from 0 to 1."""
    begins = int(sqrt(place) * _SIGNED_UP_BY * SPAN_MS)
    created, luck = _moment(begins), draw()
    if user.kind == _GONE:
        times = sorted([created + int(draw() * _HOUR_MS) for _ in range(user.rows - 1)])
        return _Life(created, 0, times, ends_dry=False)
    stays = _DRY_FROM + (1 - _DRY_FROM) * luck if user.kind == _DRY else 1
    left = int((SPAN_MS - 1 - begins) * stays)
    until = _moment(begins + left)
    months = min((until - created) // _MONTH_MS, (user.rows - 2) // 2) if profile.monthly_grant else 0
    flow = sorted([begins + int(draw() * left) for _ in range(user.rows - 2 - months)])
    return _Life(created, months, [*map(_moment, flow), until], ends_dry=user.kind == _DRY)


def _moment(even: int) -> int:
    """Return the moment in the rhythm of one in an even flow; later ones stay later."""
    week, rest = divmod(even, WEEK_MS)
    cell, part = divmod(rest, _CELL_MS)
    moment = _RHYTHM[cell]
    return week * WEEK_MS + moment + (_RHYTHM[cell + 1] - moment) * part // _CELL_MS


def _history(draw: Callable[[], float], profile: Profile, life: _Life) -> Columns | None:
    """Return what happens, a sign-up grant first; None where the balance does not suffice and nobody buys.

    A consumption leaves a credit at least, so that the last one of those who run dry has something to take.
    """
    deltas, codes, times = [profile.signup_grant], [_GRANT], [life.created]
    balance, refundable, due, months = profile.signup_grant, 0, life.created + _MONTH_MS, life.months
    smallest, largest, refund_share = profile.smallest_consumption, profile.largest_consumption, profile.refund_share
    dry = len(life.times) if life.ends_dry else 0
    for number, at in enumerate(life.times, 1):
        while months and due <= at:
            deltas.append(profile.monthly_grant)
            codes.append(_GRANT)
            times.append(due)
            balance, due, months, refundable = balance + profile.monthly_grant, due + _MONTH_MS, months - 1, 0
        size, luck = draw(), draw()
        if number == dry:
            delta, code = -balance, _CONSUME
        elif refundable and luck < refund_share:
            delta, code = refundable, _REFUND
        elif balance > smallest:
            delta, code = -min(int(smallest / (1 - size)), largest, balance - 1), _CONSUME
        elif profile.top_up:
            delta, code = profile.top_up, _GRANT
        else:
            return None
        refundable = -delta if code == _CONSUME else 0
        balance += delta
        deltas.append(delta)
        codes.append(code)
        times.append(at)
    return Columns(array("q", deltas), array("b", codes), array("q", times))
