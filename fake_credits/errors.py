"""Own every refusal of the Credits API and every failure of a call; know nothing of HTTP libraries.

The server raises these classes and the clients raise the same ones, so a test catches what it would catch
against the real API::

    FakeCreditsError
    ├── ApiError                      the API answered with a refusal (or with an unknown code)
    │   ├── MalformedRequest  MalformedJson  ValidationError  InvalidCursor
    │   ├── BalanceLimitExceeded  AmbiguousCredentials
    │   ├── MissingCredentials  InvalidApiKey  InvalidToken  TokenExpired
    │   ├── InsufficientCredits
    │   ├── Forbidden  InsufficientScope
    │   ├── UserNotFound  ApplicationNotFound  RouteNotFound  MethodNotAllowed
    │   ├── PayloadTooLarge  UnsupportedMediaType  HostNotAllowed  RateLimited
    │   └── ServerError  BadGateway  Unavailable  GatewayTimeout  InternalError
    ├── TransportFailure              no usable answer: whether the call took effect is unknown
    │   ├── Timeout
    │   ├── ConnectionLost
    │   └── InvalidResponse
    ├── ControlError                  the control plane refused a call
    ├── WouldHangForever              nothing would ever end the call: it fails the test even where it is swallowed
    └── GateTimeout                     nobody released a gate, or too few arrived at it, in time
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

__all__ = [
    "CONTROL_ERRORS",
    "ERRORS",
    "AmbiguousCredentials",
    "ApiError",
    "ApplicationNotFound",
    "BadGateway",
    "BalanceLimitExceeded",
    "ConnectionLost",
    "ControlError",
    "FakeCreditsError",
    "Forbidden",
    "GateTimeout",
    "GatewayTimeout",
    "HostNotAllowed",
    "InsufficientCredits",
    "InsufficientScope",
    "InternalError",
    "InvalidApiKey",
    "InvalidCursor",
    "InvalidResponse",
    "InvalidToken",
    "MalformedJson",
    "MalformedRequest",
    "MethodNotAllowed",
    "MissingCredentials",
    "PayloadTooLarge",
    "Problem",
    "RateLimited",
    "RouteNotFound",
    "ServerError",
    "Timeout",
    "TokenExpired",
    "TransportFailure",
    "Unavailable",
    "UnsupportedMediaType",
    "UserNotFound",
    "ValidationError",
    "WouldHangForever",
    "did_you_mean",
]


@dataclass(frozen=True, slots=True)
class Problem:
    """Name one field of a request that breaks a rule, and the rule."""

    field: str
    problem: str


class FakeCreditsError(Exception):
    """Be the root of everything this package raises about a call."""


class ApiError(FakeCreditsError):
    """Report a refusal by the API.

    ``code`` and ``status`` are the contract's (README, "Errors"); ``status`` is the one that was sent when
    a client raises it. ``auth_reason`` is why a credential was refused, as in ``X-Fake-Credits-Cause: auth:<why>``;
    ``fault`` is the rule that gave it, as in ``fault:<rule>``. ``retry_after_s`` is Retry-After in seconds (RFC 9110,
    section 10.2.3), None where there was none that can be read.
    """

    code: str = "unknown"
    default_status: ClassVar[int] = 500
    cause: ClassVar[str] = "domain"

    def __init__(self, message: str, *, details: tuple[Problem, ...] = (), auth_reason: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.details = details
        self.auth_reason = auth_reason
        self.fault = ""
        self.retry_after_s: int | None = None
        self.status = self.default_status
        self.request_id = ""

    def __str__(self) -> str:
        trailer = f" (request {self.request_id})" if self.request_id else ""
        return f"{self.status} {self.code}: {self.message}{trailer}"


class MalformedRequest(ApiError):
    """Refuse what is no HTTP, or a path that does not decode."""

    code, default_status, cause = "malformed_request", 400, "validation"


class MalformedJson(ApiError):
    """Refuse a body that is no JSON (RFC 8259), or has duplicate members."""

    code, default_status, cause = "malformed_json", 400, "validation"


class ValidationError(ApiError):
    """Refuse a well-formed request that breaks a rule; ``details`` name field and rule."""

    code, default_status, cause = "validation_error", 400, "validation"


class InvalidCursor(ApiError):
    """Refuse a cursor that this list did not give out."""

    code, default_status, cause = "invalid_cursor", 400, "validation"


class BalanceLimitExceeded(ApiError):
    """Refuse a grant that would lift a balance over the ceiling."""

    code, default_status, cause = "balance_limit_exceeded", 400, "domain"


class AmbiguousCredentials(ApiError):
    """Refuse a request that bears both credentials, or one of them twice."""

    code, default_status, cause = "ambiguous_credentials", 400, "auth"


class MissingCredentials(ApiError):
    """Refuse a request without a credential."""

    code, default_status, cause = "missing_credentials", 401, "auth"


class InvalidApiKey(ApiError):
    """Refuse an API key that this API does not know."""

    code, default_status, cause = "invalid_api_key", 401, "auth"


class InvalidToken(ApiError):
    """Refuse a user's token; ``auth_reason`` names the failed check."""

    code, default_status, cause = "invalid_token", 401, "auth"


class TokenExpired(ApiError):
    """Refuse a genuine token whose ``exp`` has passed."""

    code, default_status, cause = "token_expired", 401, "auth"


class InsufficientCredits(ApiError):
    """Refuse a transaction that would take the balance below the floor; nothing was written."""

    code, default_status, cause = "insufficient_credits", 402, "domain"


class Forbidden(ApiError):
    """Refuse another user's data, or an application that the key may not touch."""

    code, default_status, cause = "forbidden", 403, "auth"


class InsufficientScope(ApiError):
    """Refuse a user's token on a write or on listUsers."""

    code, default_status, cause = "insufficient_scope", 403, "auth"


class UserNotFound(ApiError):
    """Report that the application has no such user."""

    code, default_status, cause = "user_not_found", 404, "domain"


class ApplicationNotFound(ApiError):
    """Report an application outside the contract's closed list."""

    code, default_status, cause = "application_not_found", 404, "domain"


class RouteNotFound(ApiError):
    """Report a path that is no operation; the message names the nearest one."""

    code, default_status, cause = "route_not_found", 404, "routing"


class MethodNotAllowed(ApiError):
    """Report a path that exists with other methods; ``allow`` lists them."""

    code, default_status, cause = "method_not_allowed", 405, "routing"

    def __init__(self, message: str, *, details: tuple[Problem, ...] = (), allow: str = "") -> None:
        super().__init__(message, details=details)
        self.allow = allow


class PayloadTooLarge(ApiError):
    """Refuse a body over the limit (64 KiB)."""

    code, default_status, cause = "payload_too_large", 413, "limit"


class UnsupportedMediaType(ApiError):
    """Refuse a body whose Content-Type is not JSON."""

    code, default_status, cause = "unsupported_media_type", 415, "validation"


class HostNotAllowed(ApiError):
    """Refuse a Host header outside the allow-list."""

    code, default_status, cause = "host_not_allowed", 421, "host"


class RateLimited(ApiError):
    """Report too many requests; only a fault gives it."""

    code, default_status, cause = "rate_limited", 429, "limit"


class ServerError(ApiError):
    """Report a 500 that a fault gave."""

    code, default_status, cause = "server_error", 500, "fault"


class BadGateway(ApiError):
    """Report a 502 that a fault gave."""

    code, default_status, cause = "bad_gateway", 502, "fault"


class Unavailable(ApiError):
    """Report a 503 that a fault gave."""

    code, default_status, cause = "unavailable", 503, "fault"


class GatewayTimeout(ApiError):
    """Report a 504 that a fault gave."""

    code, default_status, cause = "gateway_timeout", 504, "fault"


class InternalError(ApiError):
    """Report a bug of the fake itself, never a fault."""

    code, default_status, cause = "internal_error", 500, "bug"


ERRORS: dict[str, type[ApiError]] = {
    error.code: error
    for error in (
        MalformedRequest,
        MalformedJson,
        ValidationError,
        InvalidCursor,
        BalanceLimitExceeded,
        AmbiguousCredentials,
        MissingCredentials,
        InvalidApiKey,
        InvalidToken,
        TokenExpired,
        InsufficientCredits,
        Forbidden,
        InsufficientScope,
        UserNotFound,
        ApplicationNotFound,
        RouteNotFound,
        MethodNotAllowed,
        PayloadTooLarge,
        UnsupportedMediaType,
        HostNotAllowed,
        RateLimited,
        ServerError,
        BadGateway,
        Unavailable,
        GatewayTimeout,
        InternalError,
    )
}
"""Every code of the contract with its class: README, "Errors"."""


class TransportFailure(FakeCreditsError):
    """Report a call without a usable answer; whether it took effect is unknown.

    The HTTP library's own exception is the ``__cause__``.
    """


class Timeout(TransportFailure):
    """Report that no answer came within ``timeout_s``."""


class ConnectionLost(TransportFailure):
    """Report that the connection could not be made, or broke before the answer was whole."""


class InvalidResponse(TransportFailure):
    """Report an answer that is not what the contract promises; ``status`` is its HTTP status."""

    def __init__(self, message: str, *, status: int, request_id: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.request_id = request_id


class ControlError(FakeCreditsError):
    """Report a refusal by the control plane: ``code`` and ``status`` are a row of `CONTROL_ERRORS`."""

    def __init__(self, code: str, message: str, *, details: tuple[Problem, ...] = (), allow: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details
        self.allow = allow
        self.status = CONTROL_ERRORS[code][0] if code in CONTROL_ERRORS else InternalError.default_status

    def __str__(self) -> str:
        return f"{self.status} {self.code}: {self.message}"


CONTROL_ERRORS: Mapping[str, tuple[int, str]] = {
    "malformed_request": (400, "The path does not decode, or the body did not come whole."),
    "malformed_json": (400, "The body is no JSON."),
    "validation_error": (400, "A member or parameter breaks a rule; `details` name it."),
    "control_token_required": (401, "The header `X-Fake-Credits-Control` is missing, or holds another token."),
    "origin_not_allowed": (403, "A page of another origin asks."),
    "route_not_found": (404, "There is no such path."),
    "sandbox_not_found": (404, "There is no sandbox of this name, or it is closed."),
    "user_not_found": (404, "The sandbox has no such user."),
    "rule_not_found": (404, "The sandbox has no rule of this name."),
    "gate_not_found": (404, "The sandbox has no gate of this name."),
    "method_not_allowed": (405, "The path takes other methods; `Allow` lists them."),
    "conflict": (409, "An API key is taken, or the server's first sandbox was to be closed."),
    "gate_limit": (409, "Too few calls came to a gate within the limit."),
    "sandbox_limit": (409, "The server has as many sandboxes as `--sandbox-limit` allows."),
    "payload_too_large": (413, "The body has more than 1 MiB."),
    "unsupported_media_type": (415, "The body's Content-Type is not JSON."),
    "internal_error": (500, "A bug of fake-credits; please report it."),
}
"""Every code of the control plane with its status and meaning: README, "The control plane"."""


def did_you_mean(word: str, candidates: Iterable[str], *, prefix: str = ": ", min_similarity: float = 0.6) -> str:
    """Return a question after the known word that is nearest to a misspelt one; nothing where none is near.

    ``min_similarity`` is how alike, of 1, the two must be at least.
    """
    from difflib import get_close_matches  # for those who misspell

    return "".join(
        f"{prefix}did you mean {match!r}?" for match in get_close_matches(word, tuple(candidates), 1, min_similarity)
    )


class WouldHangForever(FakeCreditsError, AssertionError):
    """Report a call in process that nothing would ever end: no answer comes, and its client has no timeout."""


class GateTimeout(FakeCreditsError, AssertionError):
    """Report a gate that nobody released, or at which too few arrived, within its limit."""
