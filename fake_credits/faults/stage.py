"""Own what an effect may do to an exchange, as a protocol: so that effects know neither ledger nor HTTP."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from fake_credits.errors import ApiError

__all__ = ["Cut", "Ending", "Noise", "PageTrick", "Slow", "Stage", "Wire"]

Ending = Literal["close", "reset", "hang"]
PageTrick = Literal["repeat", "cycle", "expired", "empty_page"]


@dataclass(frozen=True, slots=True)
class Cut:
    """Break an answer off: nothing of it, or its head and ``body_bytes`` of its body, and then the ``ending``."""

    ending: Ending
    body_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Noise:
    """Send bytes that are no HTTP, and close."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Slow:
    """Send the head at once and the body in pieces, each after a gap in milliseconds."""

    pieces: int
    gap_ms: float


Wire = Cut | Noise | Slow
"""How an answer leaves where it does not leave whole and at once."""


class Stage(Protocol):
    """Be an exchange as an effect sees it.

    What gives an answer before the decision takes the decision's place; after it, only the answer is another.
    """

    def draw(self) -> float:
        """Return the next number from 0 up to 1 that is keyed by seed, rule and whose call this is."""
        ...

    async def sleep(self, ms: float) -> None:
        """Let milliseconds pass."""
        ...

    async def hold(self, name: str) -> None:
        """Wait until the gate of this name lets the exchange go; raise GatewayTimeout at the gate's limit."""
        ...

    def refuse(self, error: ApiError, *, status: int | None = None, retry_after: str = "") -> None:
        """Answer with a refusal in the contract's error body."""
        ...

    def answer(self, status: int, body: bytes, media_type: str) -> None:
        """Answer with bytes."""
        ...

    def edit(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the members of a success's body, by the contract's names."""
        ...

    def name_of(self, member: str) -> str:
        """Return how the contract calls a member of a body."""
        ...

    def body_size(self) -> int:
        """Return the size of the answer's body in bytes."""
        ...

    def retry_after(self, seconds: float, form: str) -> str:
        """Return the value of Retry-After in a form, or in the contract's where the form is empty."""
        ...

    def leave(self, wire: Wire) -> None:
        """Say how the answer leaves; before the decision, instead of one."""
        ...

    def read_as_of(self, *, by_ms: int, by_writes: int) -> None:
        """Read balance and history without the user's newest writes."""
        ...

    def write_again(self) -> None:
        """Apply the write twice."""
        ...

    def defer(self, after_ms: int) -> None:
        """Check the write now; answer a refusal, else let the client hang and apply the write later."""
        ...

    def turn_pages(self, trick: PageTrick) -> None:
        """Play a trick with the list's cursor."""
        ...

    def check_credential_at(self, skew_s: int) -> None:
        """Judge the token's life by a clock that is so many seconds fast."""
        ...
