"""A raw socket client that sees every byte, FIN and RST."""

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from fake_credits.clock import monotonic_s
from fake_credits.fake import FakeCredits
from fake_credits.http_message import Outcome
from tests.behaviour.effect_cases import ReceivedResponse, RequestSpec

__all__ = ["TIMEOUT_S", "RawConnection", "wait_until"]

TIMEOUT_S = 5.0
_STALL_CHECK_S = 0.01


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll every millisecond until a condition in the server thread holds."""
    pause, deadline_s = threading.Event(), monotonic_s() + TIMEOUT_S
    while not condition():
        assert monotonic_s() < deadline_s, "the condition did not hold in time"
        pause.wait(0.001)


class RawConnection:
    """A connection to the live server of a sandbox."""

    def __init__(self, fake: FakeCredits) -> None:
        self._fake = fake
        host, _, port = fake.base_url.removeprefix("http://").rpartition(":")
        self._host = f"{host}:{port}"
        self.socket = socket.create_connection((host, int(port)), timeout=TIMEOUT_S)
        self._received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        self.socket.close()

    def warm_up(self) -> Self:
        """Send a health check, which no fault affects, over the connection."""
        self.send(RequestSpec("GET", "/_fake/livez"))
        assert self.read().status == 200
        return self

    def send(self, request: RequestSpec) -> None:
        headers = [(b"host", self._host.encode()), (b"content-length", b"%d" % len(request.body))]
        lines = b"".join(b"%b: %b\r\n" % header for header in (*headers, *request.headers(self._fake)))
        self.socket.sendall(f"{request.method} {request.target} HTTP/1.1\r\n".encode() + lines + b"\r\n" + request.body)

    def read(self, *, stall_after: int | None = None) -> ReceivedResponse:
        """Read one response, up to its end.

        ``stall_after`` is the number of body bytes before the response stalls; -1 means that no head is sent either.
        """
        outcome: Outcome | None = None
        while outcome is None:
            outcome = self._detect_outcome(stall_after) or self._receive()
        head, _, body = self._received.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 "):
            return ReceivedResponse(0, {}, self._received, "garbage" if self._received else outcome)
        lines = head.split(b"\r\n")
        fields = dict(line.split(b": ", 1) for line in lines[1:])
        if outcome == "whole":
            size = int(fields.get(b"content-length", b"0"))
            body, self._received = body[:size], body[size:]
        return ReceivedResponse(int(lines[0].split()[1]), fields, body, outcome)

    def _detect_outcome(self, stall_after: int | None) -> Outcome | None:
        """Return how the response ended, or None if it is still incomplete."""
        head, gap, body = self._received.partition(b"\r\n\r\n")
        if stall_after == -1 or (gap and stall_after is not None and len(body) >= stall_after):
            self.socket.settimeout(_STALL_CHECK_S)
            outcome = self._receive()
            self.socket.settimeout(TIMEOUT_S)
            return outcome or "whole"
        sizes = [int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")]
        whole = bool(gap) and (b" 204 " in head[:13] or (bool(sizes) and len(body) >= sizes[0]))
        return "whole" if whole else None

    def _receive(self) -> Outcome | None:
        """Receive data, and return how the connection ended, or None if it is still open."""
        try:
            chunk = self.socket.recv(65536)
        except TimeoutError:
            return "timeout"
        except ConnectionResetError:
            return "reset"
        self._received += chunk
        return None if chunk else "closed"

    def reset(self) -> None:
        """Close the connection with an RST, like a client that was killed."""
        linger = (1).to_bytes(4, "little") + bytes(4)
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.socket.close()
