"""Own what it means for an HTTP library that an answer broke off; know none of the libraries."""

import errno
from collections.abc import Mapping
from typing import Literal, NamedTuple

from fake_credits.drivers.in_process import Reply
from fake_credits.drivers.steps import End

__all__ = ["Break", "Broken", "break_of"]

Break = Literal["timeout", "read", "protocol"]
"""The kinds of failure that the httpx family tells apart."""

_KINDS: Mapping[End, Break] = {"timeout": "timeout", "reset": "read", "closed": "protocol", "garbage": "protocol"}


class Broken(NamedTuple):
    """Be a failure: its kind, and what to say."""

    kind: Break
    message: str


def break_of(reply: Reply) -> Broken:
    """Return the failure of an answer that is not whole."""
    kind = _KINDS[reply.end]
    if reply.end == "reset":
        return Broken(kind, f"[Errno {errno.ECONNRESET}] Connection reset by peer")
    if reply.end == "garbage":
        return Broken(kind, "illegal status line")
    if reply.end == "timeout":
        return Broken(kind, "timed out")
    if not reply.status:
        return Broken(kind, "Server disconnected without sending a response.")
    whole = next((value.decode() for name, value in reply.headers if name == b"content-length"), "more")
    received = f"received {len(reply.body)} bytes, expected {whole}"
    return Broken(kind, f"peer closed connection without sending complete message body ({received})")
