"""A log of requests that were sent to an intercepted host but matched none of the intercepted base URLs."""

from collections import deque

import msgspec

_MAX_MISSED_REQUESTS = 100
_MAX_LISTED_REQUESTS = 5


class MissedRequest(msgspec.Struct, frozen=True):
    """A request that was sent to an intercepted host, but was not intercepted.

    ``url`` omits the query, which may contain secrets. ``error`` is the message of the connection error that the
    request raised, or empty if the request was sent to the network.
    """

    method: str
    url: str
    error: str = ""

    def __str__(self) -> str:
        return self.error or f"{self.method} {self.url} was not intercepted and went to the network"


class InterceptionLog:
    """The base URLs that a sandbox currently intercepts, and the last 100 requests that matched none of them."""

    def __init__(self) -> None:
        self.base_urls: tuple[str, ...] = ()
        self.total = 0
        self._missed: deque[MissedRequest] = deque(maxlen=_MAX_MISSED_REQUESTS)

    def __repr__(self) -> str:
        return f"<InterceptionLog of {', '.join(self.base_urls) or 'no base URL'}: missed={self.total}>"

    def add(self, missed: MissedRequest) -> None:
        """Add a request that matched none of the base URLs."""
        self._missed.append(missed)
        self.total += 1

    def clear(self) -> None:
        """Remove all requests."""
        self._missed.clear()

    def missed(self, after: int = 0) -> list[MissedRequest]:
        """Return the missed requests, oldest first, skipping the first ``after`` ever logged."""
        count = min(len(self._missed), self.total - after)
        return list(self._missed)[-count:] if count else []

    def lines(self, after: int = 0) -> list[str]:
        """Return report lines for the last five distinct requests that matched none of the base URLs."""
        counts: dict[MissedRequest, int] = {}
        for request in self.missed(after):
            counts[request] = counts.pop(request, 0) + 1
        return [
            f"{request} ({count} times)" if count > 1 else str(request)
            for request, count in list(counts.items())[-_MAX_LISTED_REQUESTS:]
        ]

    def no_request_hint(self, after: int = 0) -> str:
        """Explain why no request reached the sandbox; return an empty string if interception is off."""
        if not self.base_urls:
            return ""
        urls = ", ".join(self.base_urls[:_MAX_LISTED_REQUESTS])
        if self.missed(after):
            return f"The requests listed below are outside the intercepted base URLs: {urls}"
        return f"This process sent no requests to the intercepted base URLs: {urls}"
