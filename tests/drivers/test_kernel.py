"""Test what the kernel is asked about a connection: on Linux itself, and as macOS and Windows would answer."""

import asyncio
import socket
import sys
from collections.abc import Iterator
from typing import Any, cast

import pytest

from fake_credits.drivers.kernel import KernelSocket

LIMIT_S = 5.0


class Transport:
    """Have a socket, as a transport does."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def get_extra_info(self, name: str) -> socket.socket:
        assert name == "socket"
        return self._connection


class MacSocket(socket.socket):
    """Know the options of macOS (xnu: netinet/tcp.h, netinet/tcp_fsm.h, sys/socket.h) and no others."""

    state = 4
    unsent = 7

    def getsockopt(self, level: int, option: int, size: int = 0) -> Any:
        if (level, option, size) == (socket.IPPROTO_TCP, 0x106, 1) and self.state:  # TCP_CONNECTION_INFO
            return bytes([self.state])
        if (level, option, size) == (socket.SOL_SOCKET, 0x1024, 0) and self.state:  # SO_NWRITE
            return self.unsent
        raise OSError(22, "Invalid argument")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), timeout=LIMIT_S)
        served, _ = listener.accept()
    with client, served:
        yield client, served


@pytest.fixture
def kernel(pair: tuple[socket.socket, socket.socket]) -> Iterator[KernelSocket]:
    kernel = KernelSocket(cast("asyncio.Transport", Transport(pair[1])))
    yield kernel
    kernel.detach()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux itself")
def test_linux_knows_who_hung_up(kernel: KernelSocket, pair: tuple[socket.socket, socket.socket]) -> None:
    client, served = pair
    assert (kernel.is_established(), kernel.unsent()) == (True, 0)
    client.close()
    served.settimeout(LIMIT_S)
    assert served.recv(1) == b""
    assert not kernel.is_established()


@pytest.mark.parametrize(
    ("state", "told"),
    [(4, (True, 7)), (5, (False, 7)), (0, (False, 0))],
    ids=["ESTABLISHED", "CLOSE_WAIT", "reset"],
)
def test_macos_knows_who_hung_up(
    state: int,
    told: tuple[bool, int],
    pair: tuple[socket.socket, socket.socket],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(socket, "socket", MacSocket)
    monkeypatch.setattr(MacSocket, "state", state)
    kernel = KernelSocket(cast("asyncio.Transport", Transport(pair[1])))
    assert (kernel.is_established(), kernel.unsent()) == told
    kernel.detach()


def test_windows_can_not_be_asked(pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    client, served = pair
    kernel = KernelSocket(cast("asyncio.Transport", Transport(served)))
    client.close()
    assert (kernel.is_established(), kernel.unsent()) == (True, 0)
