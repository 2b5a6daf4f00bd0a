"""Own the effects on a write: applied twice, or later than its client believes."""

from dataclasses import dataclass
from typing import ClassVar

from fake_credits.contract import Operation
from fake_credits.faults.checks import check_int
from fake_credits.faults.context import WRITE_OPERATIONS, Effect, FaultContext, Phase

__all__ = ["DuplicateWrite", "LateWrite"]

_MAX_WRITE_DELAY_MS = 86_400_000


@dataclass(frozen=True)
class DuplicateWrite(Effect):
    """Apply the write twice, as a proxy that replays does; the answer is the first one's."""

    effect_name: ClassVar[str] = "duplicate_write"
    reveals: ClassVar[str] = "no reconciliation"
    phases: ClassVar[tuple[Phase, ...]] = ("write",)

    @property
    def operations(self) -> frozenset[Operation]:
        """Return the writes."""
        return WRITE_OPERATIONS

    async def apply(self, context: FaultContext) -> None:
        """Write again."""
        context.duplicate_write()


@dataclass(frozen=True)
class LateWrite(Effect):
    """Let the write land ``after_ms`` milliseconds of the sandbox's clock later, its client hanging.

    It is checked at arrival: a refusal is answered, and the rule has not fired. Fires once unless ``times`` says more.
    """

    effect_name: ClassVar[str] = "late_write"
    reveals: ClassVar[str] = "reorders; applies twice"
    phases: ClassVar[tuple[Phase, ...]] = ("write",)
    times: ClassVar[int | None] = 1
    after_ms: int

    def __post_init__(self) -> None:
        check_int("after_ms", self.after_ms, 0, _MAX_WRITE_DELAY_MS)

    @property
    def operations(self) -> frozenset[Operation]:
        """Return the writes."""
        return WRITE_OPERATIONS

    async def apply(self, context: FaultContext) -> None:
        """Put the write off."""
        context.defer_write(self.after_ms)
