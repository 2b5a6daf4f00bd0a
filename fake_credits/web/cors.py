"""Own what a browser may do with the API (row 23): read, with a user's token, never with the API key.

Starlette's CORSMiddleware answers a preflight that it refuses with plain text, and sits in the way of every request;
the contract wants one form of answer, and only browsers send an Origin.
"""

from fake_credits.contract import Contract, Operation
from fake_credits.web.answer import Answer, Headers

__all__ = ["CorsPolicy"]

_EXPOSED = b"X-Request-Id, X-Fake-Credits-Cause, Retry-After"
_MAX_AGE_S = b"600"


class CorsPolicy:
    """Answer preflights and mark answers, for the origins of a contract."""

    def __init__(self, contract: Contract) -> None:
        self._origins = tuple(origin.encode("latin-1") for origin in contract.cors_origins)
        reads = {contract.routes[operation].method for operation in Operation if not operation.server_only}
        self._methods = ", ".join(sorted(reads)).encode("ascii")
        self._headers = f"{contract.user_token.header}, Content-Type".encode("latin-1")

    def __repr__(self) -> str:
        return f"<CorsPolicy for {len(self._origins)} origins>"

    def origin(self, headers: Headers) -> bytes:
        """Return the value for Access-Control-Allow-Origin, b"" where the request gets none."""
        if not self._origins:
            return b""
        sent = next((value for name, value in headers if name == b"origin"), b"")
        if not sent or b"*" in self._origins:
            return b"*" if sent else b""
        return sent if sent in self._origins else b""

    def preflight(self, headers: Headers) -> Answer | None:
        """Return the answer to an OPTIONS request that is a preflight, None where it is none.

        It allows what the contract allows, whatever was asked for: the browser compares.
        """
        if not any(name == b"access-control-request-method" for name, _ in headers):
            return None
        origin = self.origin(headers)
        if not origin:
            return None
        allowed = [
            (b"access-control-allow-methods", self._methods),
            (b"access-control-allow-headers", self._headers),
            (b"access-control-max-age", _MAX_AGE_S),
        ]
        return Answer(204, b"", [*self._marks(origin), *allowed])

    def mark(self, headers: Headers, answer_headers: Headers) -> None:
        """Add to an answer's headers what lets a browser's script read it."""
        origin = self.origin(headers)
        if origin:
            answer_headers += [*self._marks(origin), (b"access-control-expose-headers", _EXPOSED)]

    def _marks(self, origin: bytes) -> Headers:
        marks = [(b"access-control-allow-origin", origin)]
        return marks if origin == b"*" else [*marks, (b"vary", b"Origin")]
