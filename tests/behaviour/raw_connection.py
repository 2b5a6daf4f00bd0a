"""Own a client that sees exactly what is on the wire: a bare socket, no HTTP library between."""

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from fake_credits.clock import monotonic_s
from fake_credits.fake import FakeCredits
from fake_credits.http_message import Outcome
from tests.behaviour.effect_cases import Asked, Seen

__all__ = ["LIMIT_S", "Wire", "until"]

LIMIT_S = 5.0
_SILENCE_S = 0.01


def until(condition: Callable[[], bool]) -> None:
    """Wait in steps of a millisecond until a condition of the server's thread holds."""
    pause, limit_s = threading.Event(), monotonic_s() + LIMIT_S
    while not condition():
        assert monotonic_s() < limit_s, "the server did not get there in time"
        pause.wait(0.001)


class Wire:
    """Be one connection to a sandbox's live server."""

    def __init__(self, fake: FakeCredits) -> None:
        self._fake = fake
        host, _, port = fake.base_url.removeprefix("http://").rpartition(":")
        self._host = f"{host}:{port}"
        self.socket = socket.create_connection((host, int(port)), timeout=LIMIT_S)
        self._got = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        self.socket.close()

    def warm(self) -> Self:
        """Use the connection once: faults don't touch the fake's own paths."""
        self.send(Asked("GET", "/_fake/livez"))
        assert self.read().status == 200
        return self

    def send(self, asked: Asked) -> None:
        """Send a request."""
        headers = [(b"host", self._host.encode()), (b"content-length", b"%d" % len(asked.body))]
        lines = b"".join(b"%b: %b\r\n" % header for header in (*headers, *asked.headers(self._fake)))
        self.socket.sendall(f"{asked.method} {asked.target} HTTP/1.1\r\n".encode() + lines + b"\r\n" + asked.body)

    def read(self, *, then_silence: int | None = None) -> Seen:
        """Read one answer, up to its end.

        ``then_silence`` says how many bytes of a body come before the answer stalls; with -1 there is no head either.
        """
        end: Outcome | None = None
        while end is None:
            end = self._end_now(then_silence) or self._receive()
        head, _, body = self._got.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 "):
            return Seen(0, {}, self._got, "garbage" if self._got else end)
        lines = head.split(b"\r\n")
        fields = dict(line.split(b": ", 1) for line in lines[1:])
        if end == "whole":
            size = int(fields.get(b"content-length", b"0"))
            body, self._got = body[:size], body[size:]
        return Seen(int(lines[0].split()[1]), fields, body, end)

    def _end_now(self, then_silence: int | None) -> Outcome | None:
        """Return how the answer has ended, None where more is to come."""
        head, gap, body = self._got.partition(b"\r\n\r\n")
        if then_silence == -1 or (gap and then_silence is not None and len(body) >= then_silence):
            self.socket.settimeout(_SILENCE_S)
            ended = self._receive()
            self.socket.settimeout(LIMIT_S)
            return ended or "whole"
        sizes = [int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")]
        whole = bool(gap) and (b" 204 " in head[:13] or (bool(sizes) and len(body) >= sizes[0]))
        return "whole" if whole else None

    def _receive(self) -> Outcome | None:
        """Read what has come, and return how the connection has ended, None where it has not."""
        try:
            chunk = self.socket.recv(65536)
        except TimeoutError:
            return "timeout"
        except ConnectionResetError:
            return "reset"
        self._got += chunk
        return None if chunk else "closed"

    def reset(self) -> None:
        """Close with an RST, as a client that is killed does."""
        linger = (1).to_bytes(4, "little") + bytes(4)
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.socket.close()
