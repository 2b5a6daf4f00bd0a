"""Own the shape of an answer on its way out; know nothing of what it says."""

from collections.abc import MutableMapping
from typing import Any

import msgspec

__all__ = ["Answer", "Headers", "Message"]

Message = MutableMapping[str, Any]
Headers = list[tuple[bytes, bytes]]


class Answer(msgspec.Struct):
    """Be what goes back to the client; ``headers`` come on top of those that every answer bears."""

    status: int
    body: bytes
    headers: Headers = []
    media_type: bytes = b"application/json"

    def all_headers(self, request_id: str) -> Headers:
        """Return the headers as they go out."""
        headers = [(b"x-request-id", request_id.encode("latin-1")), (b"cache-control", b"no-store"), *self.headers]
        if self.status != 204:  # RFC 9110, section 8.6: a 204 has no Content-Length
            headers += [(b"content-type", self.media_type), (b"content-length", b"%d" % len(self.body))]
        return headers

    def as_lines(self, request_id: str) -> bytes:
        """Return the same headers as lines of HTTP/1.1, at once: every live answer passes here."""
        own = b"".join([b"%b: %b\r\n" % header for header in self.headers]) if self.headers else b""
        common = b"x-request-id: %b\r\ncache-control: no-store\r\n%b" % (request_id.encode("latin-1"), own)
        if self.status == 204:
            return common
        return b"%bcontent-type: %b\r\ncontent-length: %d\r\n" % (common, self.media_type, len(self.body))
