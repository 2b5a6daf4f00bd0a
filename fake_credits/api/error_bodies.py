"""Responses to refused requests: the contract's error body, status and headers."""

import http

import msgspec

from fake_credits.contract import Contract
from fake_credits.errors import ApiError, MethodNotAllowed
from fake_credits.http_message import Headers, Response, reason_phrase

__all__ = ["error_cause", "error_response"]

_CHALLENGE_ERRORS = {
    "invalid_api_key": ', error="invalid_token"',
    "invalid_token": ', error="invalid_token"',
    "token_expired": ', error="invalid_token"',
    "insufficient_scope": ', error="insufficient_scope"',
}


def error_response(contract: Contract, error: ApiError, request_id: str, *, status: int | None = None) -> Response:
    """Return an error response in the contract's error body (row 18), with its status (row 19) unless one is given."""
    status = contract.status_of(error) if status is None else status
    response = Response(
        status, _error_body(contract, error, status, request_id), _error_headers(contract, error, status)
    )
    if contract.error_body == "problem":
        response.media_type = b"application/problem+json"
    return response


def error_cause(error: ApiError) -> str:
    """Return the value of ``X-Fake-Credits-Cause``."""
    if error.fault:
        return f"fault:{error.fault}"
    return f"{error.cause}:{error.auth_reason or error.code}" if error.cause == "auth" else error.cause


def _error_body(contract: Contract, error: ApiError, status: int, request_id: str) -> bytes:
    fields: dict[str, object] = {"code": error.code, "message": error.message}
    if contract.error_body == "problem":
        title = reason_phrase(status) or error.code
        fields = {"type": "about:blank", "title": title, "status": status, "detail": error.message, "code": error.code}
    if contract.error_body != "flat":
        fields["requestId"] = request_id
        if error.details:
            fields["details"] = [{"field": detail.field, "problem": detail.problem} for detail in error.details]
    return msgspec.json.encode({"error": fields} if contract.error_body == "nested" else fields)


def _error_headers(contract: Contract, error: ApiError, status: int) -> Headers:
    headers: Headers = [(b"x-fake-credits-cause", error_cause(error).encode("ascii", "replace"))]
    if status == http.HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", _www_authenticate(contract, error)))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", error.allow.encode("ascii")))
    return headers


def _www_authenticate(contract: Contract, error: ApiError) -> bytes:
    """Return RFC 6750's challenge in the contract's scheme, with an error only where a credential was refused (3.1).

    It belongs to the status, not to the code: a 401 must have one, whichever refusal the contract sends as one.
    """
    scheme = contract.user_token.scheme or contract.api_key.scheme or "Bearer"
    return f'{scheme} realm="credits"{_CHALLENGE_ERRORS.get(error.code, "")}'.encode("ascii")
