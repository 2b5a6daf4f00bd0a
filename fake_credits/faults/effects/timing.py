"""Own the effects that only take time: latency, and a gate that a test opens."""

from dataclasses import dataclass
from typing import ClassVar

from fake_credits.faults.checks import check_text
from fake_credits.faults.context import Effect, FaultContext
from fake_credits.faults.latency import Distribution, parse_distribution

__all__ = ["HoldAtGate", "Latency"]

_MAX_GATE_NAME_CHARS = 64


@dataclass(frozen=True)
class Latency(Effect):
    """Answer slowly. ``distribution`` is milliseconds, a `Distribution` or its text."""

    effect_name: ClassVar[str] = "latency"
    reveals: ClassVar[str] = "no timeout; takes a timeout for a failure"
    stacks: ClassVar[bool] = True
    distribution: Distribution | float | str

    def __post_init__(self) -> None:
        object.__setattr__(self, "distribution", parse_distribution(self.distribution, "distribution"))

    async def apply(self, context: FaultContext) -> None:
        """Wait."""
        delay_distribution = parse_distribution(self.distribution)
        await context.sleep(delay_distribution.quantile(context.random()))


@dataclass(frozen=True)
class HoldAtGate(Effect):
    """Hold the call until the test releases the gate of this ``name``.

    Several rules may hold at one gate. Such a rule has no name of its own: in files ``name`` is the gate's.
    """

    effect_name: ClassVar[str] = "hold_at_gate"
    reveals: ClassVar[str] = "the race itself"
    stacks: ClassVar[bool] = True
    name: str = "gate"

    def __post_init__(self) -> None:
        check_text("name", self.name, 1, _MAX_GATE_NAME_CHARS)

    async def apply(self, context: FaultContext) -> None:
        """Wait at the gate."""
        await context.hold_at_gate(self.name)
