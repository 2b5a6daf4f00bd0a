"""Own how random rules share one draw: each has a share of it, and the shares of one call may not exceed it."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from fake_credits.contract import Operation
from fake_credits.faults.checks import FaultError
from fake_credits.faults.rule import Rule

__all__ = ["Share", "check_shares"]

_WHICH = ("application", "user", "client", "reason")
_ROOM = 1 + 1e-9  # ten times 0.1 is a little more than 1


@dataclass(frozen=True, slots=True)
class Share:
    """Be a rule with a part of the draw, and the milliseconds from and to which it holds."""

    rule: Rule
    start_ms: float
    end_ms: float

    @property
    def size(self) -> float:
        """Return how much of the draw is the rule's: nothing, unless it is random and lets no other rule be tried."""
        return 0.0 if self.rule.stacks else self.rule.probability or 0.0


def check_shares(new: Share, others: Iterable[Share]) -> None:
    """Raise FaultError where some call could meet rules whose shares come to more than 1.

    Headers and functions are taken to match.
    """
    if not new.size:
        return
    shares = [new, *(other for other in others if other.size and _can_meet(other, new))]
    for operation in sorted(new.rule.operations):
        total = _most([share for share in shares if operation in share.rule.operations], _WHICH)
        if total > _ROOM:
            raise FaultError(_refusal(new, operation, total))


def _refusal(new: Share, operation: Operation, total: float) -> str:
    return (
        f"probability is {new.size}: with the other random rules of {operation} that makes {total:g}, "
        "and one draw has room for 1"
    )


def _can_meet(one: Share, other: Share) -> bool:
    """Tell whether one call can match both."""
    pairs = ((getattr(one.rule, name), getattr(other.rule, name)) for name in _WHICH)
    return (
        one.start_ms < other.end_ms
        and other.start_ms < one.end_ms
        and all(mine == its or not mine or not its for mine, its in pairs)
    )


def _sum(shares: Iterable[Share]) -> float:
    return sum(share.size for share in shares)


def _most(shares: Sequence[Share], names: Sequence[str]) -> float:
    """Return the largest sum of shares that one call can meet, exactly where it is over the room."""
    total = _sum(shares)
    if total <= _ROOM:
        return total
    if not names:
        return max(_sum(share for share in shares if share.start_ms <= at.start_ms < share.end_ms) for at in shares)
    by_value: defaultdict[Hashable, list[Share]] = defaultdict(list)
    for share in shares:
        by_value[getattr(share.rule, names[0])].append(share)
    everywhere = by_value.pop("", [])
    room = _ROOM - _sum(everywhere)
    crowded = [group for group in by_value.values() if _sum(group) > room] or [[]]
    return max(_most(everywhere + group, names[1:]) for group in crowded)
