"""The exceptions raised for calls to the Credits API.

Server and clients share these classes::

    FakeCreditsError
    ├── ApiError                      the API responded with an error
    │   ├── MalformedRequest  MalformedJson  ValidationError  InvalidCursor
    │   ├── BalanceLimitExceeded  AmbiguousCredentials
    │   ├── MissingCredentials  InvalidApiKey  InvalidToken  TokenExpired
    │   ├── InsufficientCredits
    │   ├── Forbidden  InsufficientScope
    │   ├── UserNotFound  ApplicationNotFound  RouteNotFound  MethodNotAllowed
    │   ├── PayloadTooLarge  UnsupportedMediaType  HostNotAllowed  RateLimited
    │   └── ServerError  BadGateway  Unavailable  GatewayTimeout  InternalError
    ├── TransportFailure              no valid response: whether the call took effect is unknown
    │   ├── Timeout
    │   ├── ConnectionLost
    │   └── InvalidResponse
    ├── ControlError                  the control plane responded with an error
    ├── WouldHangForever              no response and no timeout; fails the test even if it is caught
    └── GateTimeout                   too few calls arrived at a gate before the timeout
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

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
    "PicklableError",
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
    """An invalid field of a request, and what is wrong with it."""

    field: str
    problem: str


class PicklableError(Exception):
    """An exception that can be pickled, whatever arguments its ``__init__`` takes."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore_error, (type(self), self.args, self.__dict__)


def _restore_error(error_type: type[PicklableError], args: tuple[object, ...], state: dict[str, object]) -> object:
    error = error_type.__new__(error_type, *args)
    error.__dict__.update(state)
    return error


class FakeCreditsError(PicklableError):
    """The base class of all errors that calls raise."""


class ApiError(FakeCreditsError):
    """An error response from the API.

    ``code`` and ``status`` are listed in the docs ("Errors"); on a client, ``status`` is the actual status of the
    response. ``auth_reason`` says why a credential was rejected, and ``fault`` names the rule that injected the error;
    the header ``X-Fake-Credits-Cause`` contains them as ``auth:<why>`` and ``fault:<rule>``. ``retry_after_s`` is the
    value of the Retry-After header in seconds (RFC 9110, section 10.2.3), or None if the header is missing or invalid.
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
    """The request is not valid HTTP, or its path can't be decoded."""

    code, default_status, cause = "malformed_request", 400, "validation"


class MalformedJson(ApiError):
    """The body is not valid JSON (RFC 8259), or has duplicate members."""

    code, default_status, cause = "malformed_json", 400, "validation"


class ValidationError(ApiError):
    """The request is well-formed but invalid; ``details`` lists the fields and what is wrong with each."""

    code, default_status, cause = "validation_error", 400, "validation"


class InvalidCursor(ApiError):
    """The cursor was not issued for this list."""

    code, default_status, cause = "invalid_cursor", 400, "validation"


class BalanceLimitExceeded(ApiError):
    """The transaction would raise the balance above the ceiling; nothing was written."""

    code, default_status, cause = "balance_limit_exceeded", 400, "domain"


class AmbiguousCredentials(ApiError):
    """The request carries both an API key and a token, or either of them twice."""

    code, default_status, cause = "ambiguous_credentials", 400, "auth"


class MissingCredentials(ApiError):
    """The request has no credentials."""

    code, default_status, cause = "missing_credentials", 401, "auth"


class InvalidApiKey(ApiError):
    """The API key is unknown."""

    code, default_status, cause = "invalid_api_key", 401, "auth"


class InvalidToken(ApiError):
    """The user's token is invalid; ``auth_reason`` names the failed check."""

    code, default_status, cause = "invalid_token", 401, "auth"


class TokenExpired(ApiError):
    """The token is genuine, but its ``exp`` has passed."""

    code, default_status, cause = "token_expired", 401, "auth"


class InsufficientCredits(ApiError):
    """The transaction would lower the balance below the floor; nothing was written."""

    code, default_status, cause = "insufficient_credits", 402, "domain"


class Forbidden(ApiError):
    """The credential does not grant access to this user's data or to this application."""

    code, default_status, cause = "forbidden", 403, "auth"


class InsufficientScope(ApiError):
    """A user's token was used for a write or for listUsers."""

    code, default_status, cause = "insufficient_scope", 403, "auth"


class UserNotFound(ApiError):
    """The application has no such user."""

    code, default_status, cause = "user_not_found", 404, "domain"


class ApplicationNotFound(ApiError):
    """The application is not in the contract's list."""

    code, default_status, cause = "application_not_found", 404, "domain"


class RouteNotFound(ApiError):
    """No operation has this path; the message contains a hint."""

    code, default_status, cause = "route_not_found", 404, "routing"


class MethodNotAllowed(ApiError):
    """The path does not support this method; ``allow`` lists the supported ones."""

    code, default_status, cause = "method_not_allowed", 405, "routing"

    def __init__(self, message: str, *, details: tuple[Problem, ...] = (), allow: str = "") -> None:
        super().__init__(message, details=details)
        self.allow = allow


class PayloadTooLarge(ApiError):
    """The body is larger than 64 KiB."""

    code, default_status, cause = "payload_too_large", 413, "limit"


class UnsupportedMediaType(ApiError):
    """The Content-Type of the body is not JSON."""

    code, default_status, cause = "unsupported_media_type", 415, "validation"


class HostNotAllowed(ApiError):
    """The Host header is not in the allow-list."""

    code, default_status, cause = "host_not_allowed", 421, "host"


class RateLimited(ApiError):
    """Too many requests; only an injected fault causes this."""

    code, default_status, cause = "rate_limited", 429, "limit"


class ServerError(ApiError):
    """A 500 injected by a fault, or caused by a rule whose predicate raised an exception."""

    code, default_status, cause = "server_error", 500, "fault"


class BadGateway(ApiError):
    """A 502 injected by a fault."""

    code, default_status, cause = "bad_gateway", 502, "fault"


class Unavailable(ApiError):
    """A 503 injected by a fault."""

    code, default_status, cause = "unavailable", 503, "fault"


class GatewayTimeout(ApiError):
    """A 504 injected by a fault, or caused by a gate that was not released before the timeout."""

    code, default_status, cause = "gateway_timeout", 504, "fault"


class InternalError(ApiError):
    """A bug in the fake itself, never an injected fault."""

    code, default_status, cause = "internal_error", 500, "bug"


ERRORS = {error.code: error for error in ApiError.__subclasses__()}
"""The error codes of the API (docs, "Errors"), with their classes."""


class TransportFailure(FakeCreditsError):
    """A call got no valid response, but may have taken effect.

    ``__cause__`` is the HTTP library's exception, if it raised one.
    """


class Timeout(TransportFailure):
    """The connection or the response stalled for longer than ``timeout_s`` seconds."""


class ConnectionLost(TransportFailure):
    """The connection failed, or was lost before the response was complete."""


class InvalidResponse(TransportFailure):
    """The response violates the contract; ``status`` is its HTTP status.

    ``retry_after_s`` is the value of the Retry-After header in seconds, or None; proxies may send this header in
    responses whose bodies violate the contract.
    """

    def __init__(self, message: str, *, status: int, request_id: str = "", retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.request_id = request_id
        self.retry_after_s = retry_after_s


class ControlError(FakeCreditsError):
    """An error response from the control plane; ``code`` and ``status`` are listed in `CONTROL_ERRORS`."""

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
    "malformed_request": (400, "The path can't be decoded, or the body is incomplete."),
    "malformed_json": (400, "The body is not valid JSON."),
    "validation_error": (400, "A member or parameter is invalid; `details` names it."),
    "control_token_required": (401, "The header `X-Fake-Credits-Control` is missing, or its token is wrong."),
    "origin_not_allowed": (403, "The request comes from a page on another origin."),
    "route_not_found": (404, "The path does not exist."),
    "sandbox_not_found": (404, "There is no open sandbox with this name."),
    "user_not_found": (404, "The sandbox has no such user."),
    "rule_not_found": (404, "The sandbox has no rule with this name."),
    "gate_not_found": (404, "The sandbox has no gate with this name."),
    "method_not_allowed": (405, "The path does not support this method; `Allow` lists the supported ones."),
    "conflict": (409, "The API key is already in use, or the request would close the server's first sandbox."),
    "gate_limit": (409, "Too few calls arrived at a gate before the timeout."),
    "sandbox_limit": (409, "The server already has as many sandboxes as `--sandbox-limit` allows."),
    "payload_too_large": (413, "The body is larger than 1 MiB."),
    "unsupported_media_type": (415, "The body's Content-Type is not JSON."),
    "internal_error": (500, "A bug in fake-credits; please report it."),
    "not_ready": (503, "`serve` has not yet written its ready file and printed its variables; try again."),
}
"""The error codes of the control plane (docs, "Control plane"), each with its status and meaning."""


def did_you_mean(word: str, candidates: Iterable[str], *, prefix: str = ": ", min_similarity: float = 0.6) -> str:
    """Return ``prefix`` and a hint with the closest match for ``word``, or an empty string if there is none.

    ``min_similarity`` is from 0 to 1, like ``cutoff`` in `difflib.get_close_matches`.
    """
    from difflib import get_close_matches  # rarely needed, and slow to import

    return "".join(
        f"{prefix}did you mean {match!r}?" for match in get_close_matches(word, tuple(candidates), 1, min_similarity)
    )


class WouldHangForever(FakeCreditsError, AssertionError):
    """An in-process call would never return, because it gets no response and its client has no timeout."""


class GateTimeout(FakeCreditsError, AssertionError):
    """Too few calls arrived at a gate before the timeout, or before the sandbox was closed or reset."""
