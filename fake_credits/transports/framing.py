"""HTTP framing: the live server's rules for requests, and a fast check for ordinary requests."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from fake_credits.api.access import HostPolicy
from fake_credits.errors import ApiError, MalformedRequest
from fake_credits.http_message import Headers, Request, Response

if TYPE_CHECKING:
    import httptools

MAX_HEAD_BYTES = 64 * 1024
"""The maximum size of a request's head, and of its trailers; httptools itself has no limit."""

_FRAMING_HEADERS = (b"content-length", b"transfer-encoding")

_MAX_PLAIN_BYTES = 16 * 1024
_PLAIN_METHODS = frozenset({"DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"})
_PLAIN_HOST = re.compile(rb"[A-Za-z0-9._~-]+(?::[0-9]{1,5})?")
_PLAIN_NAME = re.compile(rb"[-!#$%&'*+.^_`|~0-9a-z]+")
_PLAIN_VALUE = re.compile(rb"(?:[!-~]+(?: +[!-~]+)*)?")
_TARGET_CHARS = bytes(set(range(0x21, 0x7F)) - {ord("#")})
_UNUSUAL_HEADERS = frozenset({b"expect", b"upgrade"})


class ReceivedRequest(NamedTuple):
    """A parsed request, the error (if any) to reject it with, and whether the connection stays open afterwards."""

    request: Request
    error: ApiError | None = None
    keeps_alive: bool = True

    def finish(self, response: Response) -> Response:
        """Return the response, with ``Connection: close`` added if the connection won't stay open afterwards."""
        if response.status and not self.keeps_alive:
            response.headers.append((b"connection", b"close"))
        return response


def is_plain(request: Request, *, has_host: bool = True) -> bool:
    """Return whether every HTTP library would send this request unchanged and the live server would accept its framing.

    Header names must be in lower case. If ``has_host`` is false, the library has not added Host and Content-Length yet.
    """
    target, body = request.target, request.body
    framing = _plain_framing(tuple(request.headers), has_host)
    return (
        framing is not None
        and request.method in _PLAIN_METHODS
        and target.startswith(b"/")
        and len(target) < _MAX_PLAIN_BYTES
        and not target.translate(None, _TARGET_CHARS)
        and (
            not (body and has_host) if framing == b"" else framing == b"chunked" or framing == b"%d" % len(body or b"")
        )
    )


@lru_cache(maxsize=64)  # because a client keeps sending the same headers
def _plain_framing(headers: tuple[tuple[bytes, bytes], ...], has_host: bool) -> bytes | None:
    """Return the Content-Length, ``b"chunked"``, or ``b""`` if there is neither; None if any header is unusual."""
    fields = dict(headers)
    if len(fields) != len(headers) or not _are_plain(fields, has_host=has_host):
        return None
    length, coding = fields.get(b"content-length"), fields.get(b"transfer-encoding")
    if coding is None:
        return b"" if length is None else length if length.isdigit() else None
    return coding if length is None and coding == b"chunked" and has_host else None


def _are_plain(fields: Mapping[bytes, bytes], *, has_host: bool) -> bool:
    host = fields.get(b"host")
    return (
        _UNUSUAL_HEADERS.isdisjoint(fields)
        and fields.get(b"connection", b"keep-alive") == b"keep-alive"
        and (not has_host if host is None else _PLAIN_HOST.fullmatch(host) is not None)
        and sum(len(name) + len(value) for name, value in fields.items()) <= _MAX_PLAIN_BYTES
        and all(_PLAIN_NAME.fullmatch(name) and _PLAIN_VALUE.fullmatch(value) for name, value in fields.items())
    )


def _framing_error(version: str, target: bytes, headers: Headers, *, is_large: bool) -> MalformedRequest | None:
    """Return an error if the request is malformed in a way that the parser doesn't detect, else None."""
    problem = ""
    if is_large:
        problem = f"the head is larger than {MAX_HEAD_BYTES} bytes (64 KiB)"
    elif version not in ("1.0", "1.1"):
        problem = f"unsupported version HTTP/{version}; use HTTP/1.1"
    elif b"#" in target:
        problem = "the target must not have a fragment (RFC 9112, section 3.2)"
    elif not target.startswith((b"/", b"http://", b"https://")) and target != b"*":
        problem = f"the target {target[:60].decode('latin-1')!r} is neither a path nor a URL"
    elif b"transfer-encoding" in dict(headers):
        codings = [value for name, value in headers if name == b"transfer-encoding"]
        if [coding.lower() for coding in codings] != [b"chunked"]:
            problem = f"unsupported Transfer-Encoding {b', '.join(codings)[:60].decode('latin-1')!r}; use chunked"
    return MalformedRequest(f"malformed HTTP request: {problem}") if problem else None


def received_head(
    parser: "httptools.HttpRequestParser", target: bytes, headers: Headers, host_policy: HostPolicy, is_large: bool
) -> tuple[Request, ApiError | None, bool]:
    """Return the request, the error (if any) to reject it with, and whether the connection stays open.

    The head must be complete; the body has not been read yet.
    """
    version = parser.get_http_version()
    error: ApiError | None = _framing_error(version, target, headers, is_large=is_large)
    is_readable = error is None
    if is_readable and not target.startswith((b"/", b"*")):
        target, headers = _normalize_target(target, headers)
    request = Request(parser.get_method().decode("ascii"), target, headers, None)
    if is_readable and (version == "1.1" or any(name == b"host" for name, _ in headers)):
        error = host_policy.host_error(target, headers)
    return request, error, is_readable and version == "1.1" and parser.should_keep_alive()


def replay_framing(parser: "httptools.HttpRequestParser", headers: Headers) -> None:
    """Prepare a new parser to read a body that the previous parser skipped, mistaking it for another protocol."""
    framing = next(field for field in headers if field[0] in _FRAMING_HEADERS)
    parser.feed_data(b"POST / HTTP/1.1\r\nhost: x\r\n%b: %b\r\n\r\n" % framing)


def expects_continue(headers: Headers) -> bool:
    """Return whether the client waits for 100 Continue before it sends the body (RFC 9110, section 10.1.1)."""
    return any(name == b"expect" and value.lower() == b"100-continue" for name, value in headers)


def has_body(headers: Headers) -> bool:
    """Return whether the head declares a body."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and bool(value.strip(b"0")))
        for name, value in headers
    )


def _normalize_target(target: bytes, headers: Headers) -> tuple[bytes, Headers]:
    """Return an absolute target's path and query, and the headers with the target's authority as Host.

    See RFC 9112, section 3.2.2.
    """
    authority, slash, rest = target.partition(b"://")[2].partition(b"/")
    authority, question_mark, query = authority.partition(b"?")
    host = (b"host", authority.rpartition(b"@")[2])
    others = [(name, value) for name, value in headers if name != b"host"]
    return (slash + rest if slash else b"/" + question_mark + query), [host, *others]
