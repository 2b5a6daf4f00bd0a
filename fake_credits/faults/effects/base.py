"""Own what every effect is: frozen data whose fields are its JSON attributes, and one method over a `Stage`."""

from collections import deque
from typing import ClassVar, Literal

from fake_credits.contract import Operation
from fake_credits.faults.stage import Stage

__all__ = ["ALL", "LISTS", "READS", "WRITES", "Effect", "Phase"]

Phase = Literal["before", "after", "read", "write", "list"]
"""When an effect works: before the decision or after it; while the operation reads, writes or lists."""

ALL = frozenset(Operation)
WRITES = frozenset({Operation.CREATE_USER, Operation.CREATE_TRANSACTION})
READS = ALL - WRITES
LISTS = frozenset({Operation.LIST_USERS, Operation.LIST_TRANSACTIONS})


class Effect:
    """Be what a rule does to a call.

    ``word`` is its name in files. ``phases`` are those it has, the first unless one is given. ``stacks``: the rules
    behind are tried too. ``times``: how often a rule fires unless it says so, None for ever.
    ``remembers``: it is told of the calls that it let pass. ``exposes``: the bug of a client that it shows.
    """

    word: ClassVar[str] = ""
    phases: ClassVar[tuple[Phase, ...]] = ("before", "after")
    stacks: ClassVar[bool] = False
    times: ClassVar[int | None] = None
    remembers: ClassVar[bool] = False
    exposes: ClassVar[str] = ""

    @property
    def operations(self) -> frozenset[Operation]:
        """Return the operations that it can touch at all."""
        return ALL

    @property
    def client(self) -> Literal["server", "user", ""]:
        """Return the kind of client that alone it can touch, empty for both."""
        return ""

    def due(self, memory: deque[int], now_ms: int) -> "Effect | None":
        """Return what to apply to a call for which the rule's time has come, None to let it pass.

        ``memory`` is the rule's own, or the user's where the rule counts each user's calls apart.
        """
        return self

    def passed(self, memory: deque[int], now_ms: int) -> None:
        """Note a call that matched and was let pass."""

    async def apply(self, stage: Stage) -> None:
        """Do it to one exchange."""
        raise NotImplementedError
