"""Own the effects that answer in the API's place: refusals, rate limits, and a proxy's pages."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from fake_credits.errors import ERRORS, ApiError, InternalError, RateLimited, did_you_mean
from fake_credits.faults.checks import FaultError, choice, number_in, whole_in
from fake_credits.faults.effects.base import Effect, Phase
from fake_credits.faults.stage import Stage

__all__ = ["NotJson", "RateLimit", "Status"]

RetryAfterForm = Literal["", "seconds", "date", "garbage", "absent"]
_FORMS = ("", "seconds", "date", "garbage", "absent")
_DAY_S = 86_400
_NEAR = 0.85
"""How alike, of 1, a code must be to one of the API's to be taken for a slip of the pen."""

_CODES: Mapping[int, str] = {
    400: "validation_error",
    401: "invalid_token",
    402: "insufficient_credits",
    403: "forbidden",
    404: "user_not_found",
    405: "method_not_allowed",
    413: "payload_too_large",
    415: "unsupported_media_type",
    421: "host_not_allowed",
    429: "rate_limited",
    500: "server_error",
    502: "bad_gateway",
    503: "unavailable",
    504: "gateway_timeout",
}


@dataclass(frozen=True)
class Status(Effect):
    """Answer with a ``status`` and the contract's error body. After the decision, a write stands.

    ``code`` is the status's own unless given: another's, or a word that is no code of the API. ``retry_after_s`` adds
    Retry-After in ``retry_after_form``: ``seconds``,
    ``date``, ``garbage`` or ``absent``; the contract's form unless given (README, "What is a guess", row 22).
    """

    word: ClassVar[str] = "status"
    exposes: ClassVar[str] = "retries a refusal; retries a committed write"
    status: int
    code: str = ""
    retry_after_s: float | None = None
    retry_after_form: RetryAfterForm = ""

    def __post_init__(self) -> None:
        whole_in("status", self.status, 400, 599)
        if not self.code:
            code = _CODES.get(self.status, "server_error" if self.status >= 500 else "rejected")
            object.__setattr__(self, "code", code)
        if not isinstance(self.code, str) or not self.code.isidentifier() or len(self.code) > 64:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise FaultError(f"code is {self.code!r}: a code is a word such as 'rate_limited'")
        _check_spelling(self.code)
        if self.code == InternalError.code:
            raise FaultError(f"code is {self.code!r}, which tells a bug of the fake: take 'server_error'")
        if self.retry_after_s is not None:
            number_in("retry_after_s", self.retry_after_s, 0, _DAY_S)
        choice("retry_after_form", self.retry_after_form, _FORMS)
        if self.retry_after_s is None and self.retry_after_form in ("seconds", "date"):
            raise FaultError(f"retry_after_form is {self.retry_after_form!r}, and retry_after_s is missing")

    async def apply(self, stage: Stage) -> None:
        """Refuse."""
        error = ERRORS.get(self.code, ApiError)(f"the API has a bad day: {self.status} {self.code}")
        error.code = self.code
        says_when = self.retry_after_s is not None or self.retry_after_form == "garbage"
        header = stage.retry_after(self.retry_after_s or 0, self.retry_after_form) if says_when else ""
        stage.refuse(error, status=self.status, retry_after=header)


def _check_spelling(code: str) -> None:
    """Refuse a code that is nearly one of the API's; one that is far from all of them is meant to be unknown."""
    if code in ERRORS or code in _CODES.values() or code == "rejected":
        return
    hint = did_you_mean(code, ERRORS, likeness=_NEAR)
    if hint:
        raise FaultError(f"code is {code!r}{hint} An unknown code must be further from it")


@dataclass(frozen=True)
class RateLimit(Effect):
    """Admit ``limit`` matching calls in any ``window_s`` seconds of the sandbox's clock; answer 429 to the others.

    The window is (t - w, t]: waiting exactly Retry-After is admitted, and a refused call does not count.
    """

    word: ClassVar[str] = "rate_limit"
    exposes: ClassVar[str] = "a stampede; ignores Retry-After"
    phases: ClassVar[tuple[Phase, ...]] = ("before",)
    remembers: ClassVar[bool] = True
    limit: int
    window_s: float

    def __post_init__(self) -> None:
        whole_in("limit", self.limit, 0, 1_000_000)
        number_in("window_s", self.window_s, 0.001, _DAY_S)

    def due(self, memory: deque[int], now_ms: int) -> Effect | None:
        """Return the refusal of a call that finds the window full."""
        window_ms = round(self.window_s * 1000)
        oldest_ms = memory[0] if memory else now_ms
        left_ms = oldest_ms + window_ms - now_ms
        if len(memory) < self.limit or left_ms <= 0:
            return None
        return _Limited(self.limit, self.window_s, wait_s=left_ms / 1000)

    def passed(self, memory: deque[int], now_ms: int) -> None:
        """Count a call, and forget what is no more in the way of the next."""
        memory.append(now_ms)
        while len(memory) > self.limit:
            memory.popleft()


@dataclass(frozen=True)
class _Limited(Effect):
    limit: int
    window_s: float
    wait_s: float

    async def apply(self, stage: Stage) -> None:
        error = RateLimited(f"more than {self.limit} calls in {self.window_s:g} s")
        stage.refuse(error, retry_after=stage.retry_after(self.wait_s, ""))


_PAGE = b"<!DOCTYPE html>\n<html><head><title>%d</title></head><body><h1>%d</h1><p>proxy</p></body></html>\n"


@dataclass(frozen=True)
class NotJson(Effect):
    """Answer as a proxy does that knows nothing of the API.

    ``body`` is ``html``, ``empty``, ``wrong_content_type`` (JSON that calls itself text) or ``bom`` (JSON behind a byte
    order mark).
    """

    word: ClassVar[str] = "not_json"
    exposes: ClassVar[str] = "a parse error hides the status"
    status: int = 502
    body: Literal["html", "empty", "wrong_content_type", "bom"] = "html"

    def __post_init__(self) -> None:
        whole_in("status", self.status, 200, 599)
        if self.status in (204, 205, 304):
            raise FaultError(f"status is {self.status}, which has no body at all")
        choice("body", self.body, ("html", "empty", "wrong_content_type", "bom"))

    async def apply(self, stage: Stage) -> None:
        """Answer with a page."""
        pages: dict[str, tuple[bytes, str]] = {
            "html": (_PAGE % (self.status, self.status), "text/html; charset=utf-8"),
            "empty": (b"", "text/plain"),
            "wrong_content_type": (b'{"message":"proxy"}', "text/plain"),
            "bom": (b'\xef\xbb\xbf{"message":"proxy"}', "application/json"),
        }
        stage.answer(self.status, *pages[self.body])
