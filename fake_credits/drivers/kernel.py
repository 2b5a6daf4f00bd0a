"""Own what the kernel knows of a connection, and how it is told to end it; know nothing of what is said on it."""

import asyncio
import contextlib
import socket
import struct
import sys
from typing import Any

if sys.platform != "win32":
    import fcntl
    import termios

__all__ = ["KernelSocket"]

_ESTABLISHED = 1  # Linux' TCP_ESTABLISHED
_TCP_CONNECTION_INFO, _TCPS_ESTABLISHED, _SO_NWRITE = 0x106, 4, 0x1024  # macOS; Python's socket has no names for them


class KernelSocket:
    """Be the socket below a transport, which stays the loop's to close: ``detach`` once it is lost."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._whole: Any = transport.get_extra_info("socket")
        self._watched: socket.socket | None = None
        if self._whole is not None and sys.platform in ("linux", "darwin"):
            # One object for the connection's life: uvloop makes one, with two system calls, for each question.
            whole = self._whole
            self._watched = socket.socket(whole.family, whole.type, whole.proto, whole.fileno())

    def __repr__(self) -> str:
        return f"<KernelSocket of {self._whole!r}>"

    def detach(self) -> None:
        """Let go of the socket."""
        watched, self._watched = self._watched, None
        if watched is not None:
            watched.detach()

    def unsent(self) -> int:
        """Return how many bytes the client's machine has not taken yet, 0 where that can't be asked."""
        if self._watched is None:
            return 0
        if sys.platform == "darwin":
            with contextlib.suppress(OSError):  # a connection that was reset has no answer
                return self._watched.getsockopt(socket.SOL_SOCKET, _SO_NWRITE)
            return 0
        return int.from_bytes(fcntl.ioctl(self._watched, termios.TIOCOUTQ, bytes(4)), sys.byteorder)

    def is_established(self) -> bool:
        """Tell whether the connection is open in both directions, where that can be asked."""
        if self._watched is None:
            return True
        try:
            # The state is the first byte of the answer on both.
            if sys.platform == "darwin":
                return self._watched.getsockopt(socket.IPPROTO_TCP, _TCP_CONNECTION_INFO, 1)[0] == _TCPS_ESTABLISHED
            return self._watched.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED
        except OSError:
            return False

    def linger_not(self) -> None:
        """Let the end of the connection be a RST."""
        if self._whole is not None:
            self._whole.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
