"""Own the effect on credentials: a 401 that is nobody's mistake."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from fake_credits.errors import InvalidApiKey, InvalidToken
from fake_credits.faults.checks import FaultError, choice, whole_in
from fake_credits.faults.effects.base import Effect, Phase
from fake_credits.faults.stage import Stage

__all__ = ["Unauthorized"]

_WEEK_S = 7 * 86_400  # a token of a day, and its leeway, must be able to be over


@dataclass(frozen=True)
class Unauthorized(Effect):
    """Answer 401 to a good credential.

    ``kind``: ``revoked`` is an API key that was withdrawn; ``rotated`` a token whose key is no longer published;
    ``clock_skew`` judges a token's life by a clock that is ``clock_skew_s`` seconds fast, and is meant where that is
    given; else it is ``revoked``.
    """

    word: ClassVar[str] = "unauthorized"
    exposes: ClassVar[str] = "a loop of refreshes"
    phases: ClassVar[tuple[Phase, ...]] = ("before",)
    kind: Literal["", "revoked", "rotated", "clock_skew"] = ""
    clock_skew_s: int = 0

    def __post_init__(self) -> None:
        choice("kind", self.kind, ("", "revoked", "rotated", "clock_skew"))
        whole_in("clock_skew_s", self.clock_skew_s, -_WEEK_S, _WEEK_S)
        if not self.kind:
            object.__setattr__(self, "kind", "clock_skew" if self.clock_skew_s else "revoked")
        if (self.kind == "clock_skew") is (self.clock_skew_s == 0):
            raise FaultError(
                f"kind is {self.kind!r} and clock_skew_s {self.clock_skew_s}: the skew is that kind's alone"
            )

    @property
    def client(self) -> Literal["server", "user", ""]:
        """Return whose credential it is."""
        return "server" if self.kind == "revoked" else "user"

    async def apply(self, stage: Stage) -> None:
        """Refuse the credential, or judge it by a fast clock."""
        if self.kind == "revoked":
            stage.refuse(InvalidApiKey("this API key was revoked", why="revoked"))
        elif self.kind == "rotated":
            stage.refuse(InvalidToken("no published key has this token's kid: the keys were rotated", why="rotated"))
        else:
            stage.check_credential_at(self.clock_skew_s)
