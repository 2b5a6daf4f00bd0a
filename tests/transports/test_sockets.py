"""Test the live server's pending waits and its view of the kernel's socket state."""

import asyncio
import socket
import sys
from collections.abc import Iterator
from typing import Any, cast

import pytest

from fake_credits.clock import monotonic_s
from fake_credits.faults.waits import ServerStopping
from fake_credits.transports import sockets
from fake_credits.transports.sockets import KernelSocket, PendingWaits

LONG_S = 30.0


def test_wait_that_ends_in_time_does_not_check_for_debugger(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check walks the stacks of all threads, so it runs only at the timeout."""
    debugger_checks = list[bool]()
    monkeypatch.setattr(sockets, "is_debugger_open", lambda: debugger_checks.append(True))

    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, True)
        assert await PendingWaits().wait_until_done(future, LONG_S)

    asyncio.run(main())
    assert debugger_checks == []


def test_wait_returns_false_at_timeout() -> None:
    async def main() -> None:
        assert not await PendingWaits().wait_until_done(asyncio.get_running_loop().create_future(), 0.001)

    asyncio.run(main())


def test_timeout_pauses_while_debugger_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    debugger_states = [True, True, False]
    monkeypatch.setattr(sockets, "is_debugger_open", lambda: debugger_states.pop(0))

    async def main() -> None:
        assert not await PendingWaits().wait_until_done(asyncio.get_running_loop().create_future(), 0.001)

    asyncio.run(main())
    assert debugger_states == []


def test_sleep_lasts_until_timeout_or_future_is_done() -> None:
    async def main() -> None:
        done_future = asyncio.get_running_loop().create_future()
        started_s = monotonic_s()
        await PendingWaits().sleep(0.003, done_future)
        assert monotonic_s() - started_s >= 0.003
        asyncio.get_running_loop().call_soon(done_future.set_result, True)
        await asyncio.wait_for(PendingWaits().sleep(LONG_S, done_future), 5)

    asyncio.run(main())


def test_cancel_all_ends_every_pending_wait() -> None:
    async def main() -> None:
        waits = PendingWaits()
        future = asyncio.get_running_loop().create_future()
        pending = [
            asyncio.ensure_future(wait) for wait in (waits.wait_until_done(future, LONG_S), waits.sleep(LONG_S, future))
        ]
        await asyncio.sleep(0)
        assert repr(waits) == "<PendingWaits: 2 pending>"
        waits.cancel_all()
        results = await asyncio.gather(*pending, return_exceptions=True)
        assert [type(end) for end in results] == [ServerStopping, ServerStopping]
        assert repr(waits) == "<PendingWaits: 0 pending>"

    asyncio.run(main())


LIMIT_S = 5.0


class StubTransport:
    """A transport with a socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def get_extra_info(self, name: str) -> socket.socket:
        assert name == "socket"
        return self._connection


class MacSocket(socket.socket):
    """A socket that supports only macOS's options (xnu: netinet/tcp.h, netinet/tcp_fsm.h, sys/socket.h)."""

    state = 4
    unsent_bytes = 7

    def getsockopt(self, level: int, option: int, size: int = 0) -> Any:
        if (level, option, size) == (socket.IPPROTO_TCP, 0x106, 1) and self.state:  # TCP_CONNECTION_INFO
            return bytes([self.state])
        if (level, option, size) == (socket.SOL_SOCKET, 0x1024, 0) and self.state:  # SO_NWRITE
            return self.unsent_bytes
        raise OSError(22, "Invalid argument")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), timeout=LIMIT_S)
        server_side, _ = listener.accept()
    with client, server_side:
        yield client, server_side


@pytest.fixture
def kernel(pair: tuple[socket.socket, socket.socket]) -> Iterator[KernelSocket]:
    kernel = KernelSocket(cast("asyncio.Transport", StubTransport(pair[1])))
    yield kernel
    kernel.detach()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's TCP_INFO")
def test_linux_detects_disconnected_client(kernel: KernelSocket, pair: tuple[socket.socket, socket.socket]) -> None:
    client, server_side = pair
    assert (kernel.is_established(), kernel.unsent_bytes()) == (True, 0)
    client.close()
    server_side.settimeout(LIMIT_S)
    assert server_side.recv(1) == b""
    assert not kernel.is_established()


@pytest.mark.parametrize(
    ("state", "expected"),
    [(4, (True, 7)), (5, (False, 7)), (0, (False, 0))],
    ids=["ESTABLISHED", "CLOSE_WAIT", "reset"],
)
def test_macos_detects_disconnected_client(
    state: int,
    expected: tuple[bool, int],
    pair: tuple[socket.socket, socket.socket],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(socket, "socket", MacSocket)
    monkeypatch.setattr(MacSocket, "state", state)
    kernel = KernelSocket(cast("asyncio.Transport", StubTransport(pair[1])))
    assert (kernel.is_established(), kernel.unsent_bytes()) == expected
    kernel.detach()


def test_windows_always_reports_established_connection(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    client, server_side = pair
    kernel = KernelSocket(cast("asyncio.Transport", StubTransport(server_side)))
    client.close()
    assert (kernel.is_established(), kernel.unsent_bytes()) == (True, 0)
