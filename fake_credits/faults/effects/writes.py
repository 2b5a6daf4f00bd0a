"""Own the effects on a write: applied twice, or later than its client believes."""

from dataclasses import dataclass
from typing import ClassVar

from fake_credits.contract import Operation
from fake_credits.faults.checks import whole_in
from fake_credits.faults.effects.base import WRITES, Effect, Phase
from fake_credits.faults.stage import Stage

__all__ = ["Duplicate", "Zombie"]

_DAY_MS = 86_400_000


@dataclass(frozen=True)
class Duplicate(Effect):
    """Apply the write twice, as a proxy that replays does; the answer is the first one's."""

    word: ClassVar[str] = "duplicate"
    exposes: ClassVar[str] = "no reconciliation"
    phases: ClassVar[tuple[Phase, ...]] = ("write",)

    @property
    def operations(self) -> frozenset[Operation]:
        """Return the writes."""
        return WRITES

    async def apply(self, stage: Stage) -> None:
        """Write again."""
        stage.write_again()


@dataclass(frozen=True)
class Zombie(Effect):
    """Let the write land ``after_ms`` milliseconds of the sandbox's clock later, its client hanging.

    It is checked at arrival: a refusal is answered, and the rule has not fired. Fires once unless ``times`` says more.
    """

    word: ClassVar[str] = "zombie"
    exposes: ClassVar[str] = "reorders; applies twice"
    phases: ClassVar[tuple[Phase, ...]] = ("write",)
    times: ClassVar[int | None] = 1
    after_ms: int

    def __post_init__(self) -> None:
        whole_in("after_ms", self.after_ms, 0, _DAY_MS)

    @property
    def operations(self) -> frozenset[Operation]:
        """Return the writes."""
        return WRITES

    async def apply(self, stage: Stage) -> None:
        """Put the write off."""
        stage.defer(self.after_ms)
