"""The parts of uvicorn's private API that the adapter uses, with the oldest and newest versions allowed."""

import asyncio
import inspect
from collections.abc import Iterator

import httptools
import pytest
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import Server, ServerState

from fake_credits.transports.live import BindOptions, bind
from fake_credits.transports.sockets import PendingWaits
from fake_credits.transports.uvicorn_adapter import UvicornProtocol, UvicornServer


class RecordingTransport(asyncio.Transport):
    """A transport that records calls to its methods."""

    def __init__(self) -> None:
        super().__init__({"sockname": ("127.0.0.1", 80), "peername": ("127.0.0.1", 1234)})
        self.calls: list[str] = []

    def pause_reading(self) -> None:
        self.calls.append("pause_reading")

    def resume_reading(self) -> None:
        self.calls.append("resume_reading")

    def close(self) -> None:
        self.calls.append("close")

    def is_closing(self) -> bool:
        return "close" in self.calls


async def no_app(_scope: object, _receive: object, _send: object) -> None:
    """Do nothing."""


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def new_protocol(loop: asyncio.AbstractEventLoop) -> UvicornProtocol:
    config = Config(no_app, http=UvicornProtocol, ws="none", lifespan="off", log_config=None)
    config.load()
    state = ServerState()
    state.default_headers = [(b"date", b"today")]
    return UvicornProtocol(config=config, server_state=state, app_state={}, _loop=loop)


def test_a_protocol_has_the_attributes_that_the_adapter_uses(loop: asyncio.AbstractEventLoop) -> None:
    protocol = new_protocol(loop)
    assert protocol.loop is loop
    assert protocol.tasks is protocol.server_state.tasks
    assert protocol.connections is protocol.server_state.connections
    assert isinstance(protocol.parser, httptools.HttpRequestParser)
    assert protocol.timeout_keep_alive_task is None
    assert protocol.timeout_keep_alive > 0
    assert protocol.access_log is False
    assert protocol.date == b"today"


def test_a_connection_is_registered_with_the_server_until_it_is_lost(loop: asyncio.AbstractEventLoop) -> None:
    protocol, transport = new_protocol(loop), RecordingTransport()
    protocol.connection_made(transport)
    assert protocol.connections == {protocol}
    assert protocol.transport is transport
    assert (protocol.scheme, protocol.server, protocol.client) == ("http", ("127.0.0.1", 80), ("127.0.0.1", 1234))
    protocol.restart_keep_alive_timer()
    protocol.connection_lost(None)
    assert protocol.connections == set()
    assert protocol.timeout_keep_alive_task is None


def test_reading_is_paused_and_resumed_once(loop: asyncio.AbstractEventLoop) -> None:
    protocol, transport = new_protocol(loop), RecordingTransport()
    protocol.connection_made(transport)
    for is_paused in (False, True, True, False, False):
        protocol.set_reading(is_paused=is_paused)
        assert protocol.is_read_paused is is_paused
    assert transport.calls == ["pause_reading", "resume_reading"]


def test_the_transport_pauses_and_resumes_writing(loop: asyncio.AbstractEventLoop) -> None:
    protocol = new_protocol(loop)
    protocol.connection_made(RecordingTransport())
    assert protocol.is_write_paused is False
    protocol.pause_writing()
    assert protocol.is_write_paused is True
    protocol.resume_writing()
    assert protocol.is_write_paused is False


@pytest.mark.parametrize("is_idle", [True, False])
def test_the_keep_alive_timer_closes_only_an_idle_connection(loop: asyncio.AbstractEventLoop, is_idle: bool) -> None:
    async def wait_out_timer() -> list[str]:
        protocol, transport = new_protocol(loop), RecordingTransport()
        protocol.timeout_keep_alive = 0
        protocol.connection_made(transport)
        protocol.is_idle = lambda: is_idle  # type: ignore[method-assign]
        protocol.restart_keep_alive_timer()
        for _ in range(3):
            await asyncio.sleep(0.001)
        protocol.connection_lost(None)
        return transport.calls

    assert loop.run_until_complete(wait_out_timer()) == ["close"] * (2 if is_idle else 1)


def test_a_task_is_tracked_until_it_is_done(loop: asyncio.AbstractEventLoop) -> None:
    protocol = new_protocol(loop)

    async def run() -> None:
        protocol.create_task(asyncio.sleep(0))
        assert len(protocol.server_state.tasks) == 1
        while protocol.server_state.tasks:
            await asyncio.sleep(0)

    loop.run_until_complete(run())


def test_new_parser_replaces_the_parser(loop: asyncio.AbstractEventLoop) -> None:
    protocol = new_protocol(loop)
    protocol.connection_made(RecordingTransport())
    first = protocol.parser
    protocol.new_parser()
    assert protocol.parser is not first


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (HttpToolsProtocol.__init__, {"config", "server_state", "app_state", "_loop"}),
        (Server.startup, {"sockets"}),
        (Server.__init__, {"config"}),
    ],
)
def test_uvicorns_functions_have_the_parameters_that_the_adapter_uses(function: object, parameters: set[str]) -> None:
    assert parameters <= inspect.signature(function).parameters.keys()  # type: ignore[arg-type]


def test_a_server_starts_on_a_given_socket_and_shuts_down(loop: asyncio.AbstractEventLoop) -> None:
    listener = bind(BindOptions())

    async def run() -> None:
        server = UvicornServer(no_app, UvicornProtocol, PendingWaits())
        await server.start(listener, None)
        assert server.started
        assert len(server.servers) == 1
        _, writer = await asyncio.open_connection(*listener.getsockname())
        while not server.server_state.connections:
            await asyncio.sleep(0)
        server.refresh_date()
        ((name, value),) = server.server_state.default_headers
        assert (name, value[-4:]) == (b"date", b" GMT")
        await server.shut_down()
        assert server.server_state.connections == set()
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    loop.run_until_complete(run())
    assert listener.fileno() == -1
