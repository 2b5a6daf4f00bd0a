"""The waits of a live server: what ends them, and what they cost who is woken in time."""

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


def test_who_is_woken_in_time_looks_for_no_debugger(monkeypatch: pytest.MonkeyPatch) -> None:
    """That walks the stacks of all threads: dear, and for nothing where the limit is no matter."""
    looks = list[bool]()
    monkeypatch.setattr(sockets, "is_debugger_open", lambda: looks.append(True))

    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, True)
        assert await PendingWaits().wait_until_done(future, LONG_S)

    asyncio.run(main())
    assert looks == []


def test_at_its_limit_a_wait_tells_that_nobody_ended_it() -> None:
    async def main() -> None:
        assert not await PendingWaits().wait_until_done(asyncio.get_running_loop().create_future(), 0.001)

    asyncio.run(main())


def test_a_limit_stands_still_while_a_is_debugger_open(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [True, True, False]
    monkeypatch.setattr(sockets, "is_debugger_open", lambda: answers.pop(0))

    async def main() -> None:
        assert not await PendingWaits().wait_until_done(asyncio.get_running_loop().create_future(), 0.001)

    asyncio.run(main())
    assert answers == []


def test_a_sleep_lasts_as_long_as_it_says_unless_it_is_over_before() -> None:
    async def main() -> None:
        over = asyncio.get_running_loop().create_future()
        begun_s = monotonic_s()
        await PendingWaits().sleep(0.003, over)
        assert monotonic_s() - begun_s >= 0.003
        asyncio.get_running_loop().call_soon(over.set_result, True)
        await asyncio.wait_for(PendingWaits().sleep(LONG_S, over), 5)

    asyncio.run(main())


def test_withdrawing_ends_every_wait_and_leaves_none() -> None:
    async def main() -> None:
        kept = PendingWaits()
        never = asyncio.get_running_loop().create_future()
        pending = [
            asyncio.ensure_future(wait) for wait in (kept.wait_until_done(never, LONG_S), kept.sleep(LONG_S, never))
        ]
        await asyncio.sleep(0)
        assert repr(kept) == "<PendingWaits: 2 pending>"
        kept.cancel_all()
        ended = await asyncio.gather(*pending, return_exceptions=True)
        assert [type(end) for end in ended] == [ServerStopping, ServerStopping]
        assert repr(kept) == "<PendingWaits: 0 pending>"

    asyncio.run(main())


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
    assert (kernel.is_established(), kernel.unsent_bytes()) == (True, 0)
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
    assert (kernel.is_established(), kernel.unsent_bytes()) == told
    kernel.detach()


def test_windows_can_not_be_asked(pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    client, served = pair
    kernel = KernelSocket(cast("asyncio.Transport", Transport(served)))
    client.close()
    assert (kernel.is_established(), kernel.unsent_bytes()) == (True, 0)
