"""The errors of the httpx family for a response that broke off, with the messages that its libraries use."""

import errno
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from fake_credits.http_message import Outcome, Response

__all__ = ["httpx_error"]

_FailureKind = Literal["timeout", "read", "protocol"]

_FAILURE_KINDS: Mapping[Outcome, _FailureKind] = {
    "timeout": "timeout",
    "reset": "read",
    "closed": "protocol",
    "garbage": "protocol",
}
_ERROR_NAMES: Mapping[_FailureKind, str] = {
    "timeout": "ReadTimeout",
    "read": "ReadError",
    "protocol": "RemoteProtocolError",
}


class _ConnectionFailure(NamedTuple):
    """A failure of a connection: its kind and message."""

    kind: _FailureKind
    message: str


def httpx_error(library: Any, response: Response) -> Exception:
    """Return what a library raises for a response that broke off."""
    kind, message = _failure_of(response)
    error: Exception = getattr(library, _ERROR_NAMES[kind])(message)
    return error


def _failure_of(response: Response) -> _ConnectionFailure:
    """Return the failure of a response that is not whole."""
    kind = _FAILURE_KINDS[response.outcome]
    if response.outcome == "reset":
        return _ConnectionFailure(kind, f"[Errno {errno.ECONNRESET}] Connection reset by peer")
    if response.outcome == "garbage":
        return _ConnectionFailure(kind, "illegal status line")
    if response.outcome == "timeout":
        return _ConnectionFailure(kind, "timed out")
    if not response.status:
        return _ConnectionFailure(kind, "Server disconnected without sending a response.")
    content_length = response.header(b"content-length") or "more"
    received = f"received {len(response.body)} bytes, expected {content_length}"
    return _ConnectionFailure(kind, f"peer closed connection without sending complete message body ({received})")
