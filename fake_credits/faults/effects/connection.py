"""Own the effects on the connection: it breaks, stalls, drips, or carries what is no HTTP."""

from dataclasses import dataclass
from typing import ClassVar, cast

from fake_credits.faults.checks import FaultError, choice, number_in, whole_in
from fake_credits.faults.effects.base import Effect, Phase
from fake_credits.faults.latency import DELAY_LIMIT_MS
from fake_credits.faults.stage import Cut, Ending, Noise, Slow, Stage

__all__ = ["Close", "Drip", "Garbage", "Hang", "Reset", "Truncate"]

_AFTER: tuple[Phase, ...] = ("after",)
_BODY_LIMIT = 2**31
_NO_HTTP = b"\x16\x03\x01\x02\x00SSH-2.0-nonsense\r\n\x00\xff\xfe\r\n\r\n"


@dataclass(frozen=True)
class Reset(Effect):
    """Reset the connection: a TCP RST instead of an answer."""

    word: ClassVar[str] = "reset"
    exposes: ClassVar[str] = "retries a POST blindly: a double charge"

    async def apply(self, stage: Stage) -> None:
        """Send no byte."""
        stage.leave(Cut("reset"))


@dataclass(frozen=True)
class Close(Effect):
    """Close the connection: a FIN without a byte."""

    word: ClassVar[str] = "close"
    exposes: ClassVar[str] = "the same, and a stale keep-alive connection"

    async def apply(self, stage: Stage) -> None:
        """Send no byte."""
        stage.leave(Cut("close"))


@dataclass(frozen=True)
class Hang(Effect):
    """Send nothing until the client gives up."""

    word: ClassVar[str] = "hang"
    exposes: ClassVar[str] = "no timeout"

    async def apply(self, stage: Stage) -> None:
        """Send no byte."""
        stage.leave(Cut("hang"))


@dataclass(frozen=True)
class Truncate(Effect):
    """Send the whole head and a part of the body: ``at_bytes`` of it, or a ``fraction``; ``then`` end it.

    ``then`` is ``close``, ``reset`` or ``hang``, in Python also ``Reset()`` and so on. At least one byte is missing. An
    answer without a body is cut after its head."""

    word: ClassVar[str] = "truncate"
    exposes: ClassVar[str] = "takes a part for the whole"
    phases: ClassVar[tuple[Phase, ...]] = _AFTER
    at_bytes: int | None = None
    fraction: float | None = None
    then: Ending | Reset | Close | Hang = "close"

    def __post_init__(self) -> None:
        if self.at_bytes is not None and self.fraction is not None:
            raise FaultError("at_bytes and fraction exclude each other: give one of them")
        if self.at_bytes is not None:
            whole_in("at_bytes", self.at_bytes, 0, _BODY_LIMIT)
        if self.fraction is not None:
            number_in("fraction", self.fraction, 0, 1)
        if isinstance(self.then, Reset | Close | Hang):
            object.__setattr__(self, "then", self.then.word)
        choice("then", self.then, ("close", "reset", "hang"))

    async def apply(self, stage: Stage) -> None:
        """Send a part."""
        size = stage.body_size()
        part = int(size * (0.5 if self.fraction is None else self.fraction)) if self.at_bytes is None else self.at_bytes
        stage.leave(Cut(cast("Ending", self.then), max(0, min(part, size - 1))))


@dataclass(frozen=True)
class Drip(Effect):
    """Send the head at once and the body in so many ``chunks``, evenly over ``over_ms`` milliseconds."""

    word: ClassVar[str] = "drip"
    exposes: ClassVar[str] = "a timeout for each chunk only"
    phases: ClassVar[tuple[Phase, ...]] = _AFTER
    chunks: int = 5
    over_ms: float = 1000

    def __post_init__(self) -> None:
        whole_in("chunks", self.chunks, 1, 1000)
        number_in("over_ms", self.over_ms, 0, DELAY_LIMIT_MS)

    async def apply(self, stage: Stage) -> None:
        """Send slowly."""
        stage.leave(Slow(self.chunks, self.over_ms / self.chunks))


@dataclass(frozen=True)
class Garbage(Effect):
    """Send bytes that are no HTTP, and close."""

    word: ClassVar[str] = "garbage"
    exposes: ClassVar[str] = "the parser crashes"
    phases: ClassVar[tuple[Phase, ...]] = _AFTER

    async def apply(self, stage: Stage) -> None:
        """Send nonsense."""
        stage.leave(Noise(_NO_HTTP))
