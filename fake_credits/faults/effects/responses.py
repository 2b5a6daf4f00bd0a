"""Effects that respond in place of the API: error statuses, rate limits, rejected credentials and proxy pages."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from fake_credits.errors import ERRORS, ApiError, InternalError, InvalidApiKey, InvalidToken, RateLimited, did_you_mean
from fake_credits.faults.effects.base import (
    Effect,
    FaultContext,
    FaultError,
    check_choice,
    check_int,
    check_number,
    invalid_value,
)

RetryAfterFormat = Literal["", "seconds", "date", "garbage", "absent"]
_SECONDS_PER_DAY = 86_400
_TYPO_SIMILARITY = 0.85
"""The minimum similarity, from 0 to 1, for a code to be considered a misspelling of one of the API's codes."""

_DEFAULT_CODES: Mapping[int, str] = {
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


@dataclass(frozen=True, repr=False)
class Status(Effect):
    """Respond with ``status`` and the contract's error body. In the ``after`` phase, a write remains committed.

    ``code`` defaults to the status's usual code; it may be one that the API does not have, unless it looks like a
    misspelling of a real one. ``retry_after_s`` adds a Retry-After header in the form given by ``retry_after_form``
    (``seconds``, ``date``, ``garbage`` or ``absent``), which defaults to the contract's form
    (docs/reference/contract.md, row 22).
    """

    reveals = "a retry of a permanent error or of a committed write"
    status: int
    code: str = ""
    retry_after_s: float | None = None
    retry_after_form: RetryAfterFormat = ""

    def __post_init__(self) -> None:
        check_int("status", self.status, 400, 599)
        self._imply(code=_DEFAULT_CODES.get(self.status, "server_error" if self.status >= 500 else "rejected"))
        if not isinstance(self.code, str) or not self.code.isidentifier() or len(self.code) > 64:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise invalid_value("code", self.code, "it must be an identifier such as 'rate_limited'")
        hint = did_you_mean(self.code, ERRORS, min_similarity=_TYPO_SIMILARITY)
        if hint and self.code not in ERRORS and self.code != "rejected":
            advice = "to inject an unknown code, use one that doesn't resemble a real one"
            raise FaultError(f"code is {self.code!r}{hint} ({advice})")
        if self.code == InternalError.code:
            raise invalid_value("code", self.code, "it is reserved for bugs in the fake; use 'server_error'")
        if self.retry_after_s is not None:
            check_number("retry_after_s", self.retry_after_s, 0, _SECONDS_PER_DAY)
        check_choice("retry_after_form", self.retry_after_form, get_args(RetryAfterFormat))
        if self.retry_after_s is None and self.retry_after_form in ("seconds", "date"):
            raise FaultError(f"retry_after_form is {self.retry_after_form!r}, but retry_after_s is missing")

    async def apply(self, context: FaultContext) -> None:
        """Respond with the error."""
        error = ERRORS.get(self.code, ApiError)(f"injected fault: {self.status} {self.code}")
        error.code = self.code
        retry_after = ""
        if self.retry_after_s is not None or self.retry_after_form == "garbage":
            retry_after = context.format_retry_after(self.retry_after_s or 0, self.retry_after_form)
        context.respond_with_error(error, status=self.status, retry_after=retry_after)


@dataclass(frozen=True, repr=False)
class RateLimit(Effect):
    """Allow up to ``limit`` matching calls in any ``window_s`` seconds on the sandbox's clock; reject others with 429.

    For a call at time t, the window is (t - ``window_s``, t], so a call made exactly when Retry-After has elapsed is
    allowed. Rejected calls do not count.
    """

    reveals = "a stampede of retries that ignore Retry-After"
    phases = ("before",)
    counts_passes = True
    limit: int
    window_s: float

    def __post_init__(self) -> None:
        check_int("limit", self.limit, 0, 1_000_000)
        check_number("window_s", self.window_s, 0.001, _SECONDS_PER_DAY)

    def effect_for(self, pass_times_ms: deque[int], now_ms: int) -> Effect | None:
        """Return an effect that rejects the call, or None if the window isn't full."""
        window_ms = round(self.window_s * 1000)
        oldest_ms = pass_times_ms[0] if pass_times_ms else now_ms
        remaining_ms = oldest_ms + window_ms - now_ms
        if len(pass_times_ms) < self.limit or remaining_ms <= 0:
            return None
        return _RejectOverLimit(self.limit, self.window_s, retry_after_s=remaining_ms / 1000)

    def record_pass(self, pass_times_ms: deque[int], now_ms: int) -> None:
        """Record the time of a call that passed, keeping only the last ``limit`` times."""
        pass_times_ms.append(now_ms)
        while len(pass_times_ms) > self.limit:
            pass_times_ms.popleft()


@dataclass(frozen=True, repr=False)
class _RejectOverLimit(Effect):
    limit: int
    window_s: float
    retry_after_s: float

    async def apply(self, context: FaultContext) -> None:
        error = RateLimited(f"more than {self.limit} calls in {self.window_s:g} s")
        context.respond_with_error(error, retry_after=context.format_retry_after(self.retry_after_s, ""))


_ProxyPage = Literal["html", "empty", "wrong_content_type", "bom"]
_HTML_PAGE = b"<!DOCTYPE html>\n<html><head><title>%d</title></head><body><h1>%d</h1><p>proxy</p></body></html>\n"


@dataclass(frozen=True, repr=False)
class NotJson(Effect):
    """Respond like a proxy in front of the API.

    ``body`` is ``html``, ``empty``, ``wrong_content_type`` (JSON as text/plain) or ``bom`` (JSON after a byte order
    mark).
    """

    reveals = "a parse error that hides the status"
    status: int = 502
    body: _ProxyPage = "html"

    def __post_init__(self) -> None:
        check_int("status", self.status, 200, 599)
        if self.status in (204, 205, 304):
            raise FaultError(f"status is {self.status}, which never has a body")
        check_choice("body", self.body, get_args(_ProxyPage))

    async def apply(self, context: FaultContext) -> None:
        """Respond with a page."""
        pages: dict[str, tuple[bytes, str]] = {
            "html": (_HTML_PAGE % (self.status, self.status), "text/html; charset=utf-8"),
            "empty": (b"", "text/plain"),
            "wrong_content_type": (b'{"message":"proxy"}', "text/plain"),
            "bom": (b'\xef\xbb\xbf{"message":"proxy"}', "application/json"),
        }
        context.respond(self.status, *pages[self.body])


_UnauthorizedKind = Literal["", "revoked", "rotated", "clock_skew"]
_MAX_CLOCK_SKEW_S = 7 * 86_400  # longer than the lifetime of any provider's token


@dataclass(frozen=True, repr=False)
class Unauthorized(Effect):
    """Respond with 401 to a valid credential.

    ``kind``: ``revoked`` rejects an API key as revoked, ``rotated`` rejects a token as if its key were no longer
    published, and ``clock_skew`` verifies a token against a clock that is ``clock_skew_s`` seconds fast. The default is
    ``clock_skew`` if ``clock_skew_s`` is set, otherwise ``revoked``.
    """

    reveals = "an endless loop of token refreshes"
    phases = ("before",)
    kind: _UnauthorizedKind = ""
    clock_skew_s: int = 0

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, get_args(_UnauthorizedKind))
        check_int("clock_skew_s", self.clock_skew_s, -_MAX_CLOCK_SKEW_S, _MAX_CLOCK_SKEW_S)
        self._imply(kind="clock_skew" if self.clock_skew_s else "revoked")
        object.__setattr__(self, "only_client", "server" if self.kind == "revoked" else "user")
        if self.kind == "clock_skew" and self.clock_skew_s == 0:
            raise FaultError("clock_skew_s is missing: kind 'clock_skew' requires a number of seconds, such as 3600")
        if self.kind != "clock_skew" and self.clock_skew_s:
            raise FaultError(
                f"clock_skew_s is {self.clock_skew_s}, which requires kind 'clock_skew', but kind is {self.kind!r}"
            )

    async def apply(self, context: FaultContext) -> None:
        """Reject the credential, or verify it against a skewed clock."""
        if self.kind == "revoked":
            context.respond_with_error(InvalidApiKey("this API key was revoked", auth_reason="revoked"))
        elif self.kind == "rotated":
            context.respond_with_error(
                InvalidToken("no published key has this token's kid: the keys were rotated", auth_reason="rotated")
            )
        else:
            context.skew_token_clock(self.clock_skew_s)
