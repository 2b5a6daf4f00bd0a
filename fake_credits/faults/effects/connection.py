"""Own the effects on the connection: it breaks, stalls, drips, or carries what is no HTTP."""

from dataclasses import dataclass
from typing import ClassVar, cast

from fake_credits.faults.checks import FaultError, check_choice, check_int, check_number
from fake_credits.faults.context import Effect, FaultContext, Phase
from fake_credits.faults.deliveries import Abort, CloseMode, DripBody, RawBytes
from fake_credits.faults.effects.timing import MAX_DELAY_MS

__all__ = ["Close", "Drip", "Garbage", "Hang", "Reset", "Truncate"]

_AFTER_ONLY: tuple[Phase, ...] = ("after",)
_MAX_BODY_BYTES = 2**31
_INVALID_HTTP = b"\x16\x03\x01\x02\x00SSH-2.0-nonsense\r\n\x00\xff\xfe\r\n\r\n"


@dataclass(frozen=True)
class Reset(Effect):
    """Reset the connection: a TCP RST instead of an answer."""

    effect_name: ClassVar[str] = "reset"
    needs_connection: ClassVar[bool] = True
    reveals: ClassVar[str] = "retries a POST blindly: a double charge"

    async def apply(self, context: FaultContext) -> None:
        """Send no byte."""
        context.set_delivery(Abort("reset"))


@dataclass(frozen=True)
class Close(Effect):
    """Close the connection: a FIN without a byte."""

    effect_name: ClassVar[str] = "close"
    needs_connection: ClassVar[bool] = True
    reveals: ClassVar[str] = "the same, and a stale keep-alive connection"

    async def apply(self, context: FaultContext) -> None:
        """Send no byte."""
        context.set_delivery(Abort("close"))


@dataclass(frozen=True)
class Hang(Effect):
    """Send nothing until the client gives up."""

    effect_name: ClassVar[str] = "hang"
    needs_connection: ClassVar[bool] = True
    reveals: ClassVar[str] = "no timeout"

    async def apply(self, context: FaultContext) -> None:
        """Send no byte."""
        context.set_delivery(Abort("hang"))


@dataclass(frozen=True)
class Truncate(Effect):
    """Send the whole head and a part of the body: ``at_bytes`` of it, or a ``fraction``; ``then`` end it.

    ``then`` is ``close``, ``reset`` or ``hang``, in Python also ``Reset()`` and so on. At least one byte is missing. An
    answer without a body is cut after its head."""

    effect_name: ClassVar[str] = "truncate"
    needs_connection: ClassVar[bool] = True
    reveals: ClassVar[str] = "takes a part for the whole"
    phases: ClassVar[tuple[Phase, ...]] = _AFTER_ONLY
    at_bytes: int | None = None
    fraction: float | None = None
    then: CloseMode | Reset | Close | Hang = "close"

    def __post_init__(self) -> None:
        if self.at_bytes is not None and self.fraction is not None:
            raise FaultError("at_bytes and fraction exclude each other: give one of them")
        if self.at_bytes is not None:
            check_int("at_bytes", self.at_bytes, 0, _MAX_BODY_BYTES)
        if self.fraction is not None:
            check_number("fraction", self.fraction, 0, 1)
        if isinstance(self.then, Reset | Close | Hang):
            object.__setattr__(self, "then", self.then.effect_name)
        check_choice("then", self.then, ("close", "reset", "hang"))

    async def apply(self, context: FaultContext) -> None:
        """Send a part."""
        body_size = context.body_size()
        sent_bytes = (
            int(body_size * (0.5 if self.fraction is None else self.fraction))
            if self.at_bytes is None
            else self.at_bytes
        )
        context.set_delivery(Abort(cast("CloseMode", self.then), max(0, min(sent_bytes, body_size - 1))))


@dataclass(frozen=True)
class Drip(Effect):
    """Send the head at once and the body in so many ``chunks``, evenly over ``over_ms`` milliseconds."""

    effect_name: ClassVar[str] = "drip"
    reveals: ClassVar[str] = "a timeout for each chunk only"
    phases: ClassVar[tuple[Phase, ...]] = _AFTER_ONLY
    chunks: int = 5
    over_ms: float = 1000

    def __post_init__(self) -> None:
        check_int("chunks", self.chunks, 1, 1000)
        check_number("over_ms", self.over_ms, 0, MAX_DELAY_MS)

    async def apply(self, context: FaultContext) -> None:
        """Send slowly."""
        context.set_delivery(DripBody(self.chunks, self.over_ms / self.chunks))


@dataclass(frozen=True)
class Garbage(Effect):
    """Send bytes that are no HTTP, and close."""

    effect_name: ClassVar[str] = "garbage"
    needs_connection: ClassVar[bool] = True
    reveals: ClassVar[str] = "the parser crashes"
    phases: ClassVar[tuple[Phase, ...]] = _AFTER_ONLY

    async def apply(self, context: FaultContext) -> None:
        """Send nonsense."""
        context.set_delivery(RawBytes(_INVALID_HTTP))
