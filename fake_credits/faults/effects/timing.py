"""Own the effects that only take time: latency, and a gate that a test opens."""

from dataclasses import dataclass
from typing import ClassVar

from fake_credits.faults.checks import text_in
from fake_credits.faults.effects.base import Effect
from fake_credits.faults.latency import Distribution, distribution
from fake_credits.faults.stage import Stage

__all__ = ["Gate", "Latency"]

_NAME_LIMIT = 64


@dataclass(frozen=True)
class Latency(Effect):
    """Answer slowly. ``distribution`` is milliseconds, a `Distribution` or its text."""

    word: ClassVar[str] = "latency"
    exposes: ClassVar[str] = "no timeout; takes a timeout for a failure"
    stacks: ClassVar[bool] = True
    distribution: Distribution | float | str

    def __post_init__(self) -> None:
        object.__setattr__(self, "distribution", distribution(self.distribution, "distribution"))

    async def apply(self, stage: Stage) -> None:
        """Wait."""
        kind = distribution(self.distribution)
        await stage.sleep(kind.at(stage.draw()))


@dataclass(frozen=True)
class Gate(Effect):
    """Hold the call until the test releases the gate of this ``name``.

    Several rules may hold at one gate. Such a rule has no name of its own: in files ``name`` is the gate's.
    """

    word: ClassVar[str] = "gate"
    exposes: ClassVar[str] = "the race itself"
    stacks: ClassVar[bool] = True
    name: str = "gate"

    def __post_init__(self) -> None:
        text_in("name", self.name, 1, _NAME_LIMIT)

    async def apply(self, stage: Stage) -> None:
        """Wait at the gate."""
        await stage.hold(self.name)
