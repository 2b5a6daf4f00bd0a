"""Own how random rules share one draw: each has a share of it, and the shares of one call may not exceed it."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from fake_credits.contract import Operation
from fake_credits.faults.checks import FaultError
from fake_credits.faults.rule import Rule

__all__ = ["ProbabilitySlice", "check_total_probability"]

_CRITERIA = ("application", "user", "client", "reason")
_TOTAL_LIMIT = 1 + 1e-9  # ten times 0.1 is a little more than 1


@dataclass(frozen=True, slots=True)
class ProbabilitySlice:
    """Be a rule with a part of the draw, and the milliseconds from and to which it holds."""

    rule: Rule
    start_ms: float
    end_ms: float

    @property
    def probability(self) -> float:
        """Return how much of the draw is the rule's: nothing, unless it is random and lets no other rule be tried."""
        return 0.0 if self.rule.stacks else self.rule.probability or 0.0


def check_total_probability(new: ProbabilitySlice, others: Iterable[ProbabilitySlice]) -> None:
    """Raise FaultError where some call could meet rules whose shares come to more than 1.

    Headers and functions are taken to match.
    """
    if not new.probability:
        return
    slices = [new, *(other for other in others if other.probability and _can_overlap(other, new))]
    for operation in sorted(new.rule.operations):
        total = _max_total([share for share in slices if operation in share.rule.operations], _CRITERIA)
        if total > _TOTAL_LIMIT:
            raise FaultError(_error_message(new, operation, total))


def _error_message(new: ProbabilitySlice, operation: Operation, total: float) -> str:
    return (
        f"probability is {new.probability}: with the other random rules of {operation} that makes {total:g}, "
        "and one draw has room for 1"
    )


def _can_overlap(first: ProbabilitySlice, second: ProbabilitySlice) -> bool:
    """Tell whether one call can match both."""
    pairs = ((getattr(first.rule, name), getattr(second.rule, name)) for name in _CRITERIA)
    return (
        first.start_ms < second.end_ms
        and second.start_ms < first.end_ms
        and all(
            first_value == second_value or not first_value or not second_value for first_value, second_value in pairs
        )
    )


def _total(slices: Iterable[ProbabilitySlice]) -> float:
    return sum(each.probability for each in slices)


def _max_total(slices: Sequence[ProbabilitySlice], criteria: Sequence[str]) -> float:
    """Return the largest sum of shares that one call can meet, exactly where it is over the room."""
    total = _total(slices)
    if total <= _TOTAL_LIMIT:
        return total
    if not criteria:
        return max(
            _total(share for share in slices if share.start_ms <= moment.start_ms < share.end_ms) for moment in slices
        )
    slices_by_value: defaultdict[Hashable, list[ProbabilitySlice]] = defaultdict(list)
    for share in slices:
        slices_by_value[getattr(share.rule, criteria[0])].append(share)
    unrestricted = slices_by_value.pop("", [])
    remaining = _TOTAL_LIMIT - _total(unrestricted)
    overfull = [group for group in slices_by_value.values() if _total(group) > remaining] or [[]]
    return max(_max_total(unrestricted + group, criteria[1:]) for group in overfull)
