"""Own the live server: uvicorn on a socket that we bound, in a background thread or as the process."""

import asyncio
import contextlib
import errno
import ipaddress
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from typing import Any

from uvicorn import Config
from uvicorn.server import Server

from fake_credits.api.access import HostPolicy
from fake_credits.api.app import create_app
from fake_credits.api.contract_runtime import ContractRuntime
from fake_credits.clock import monotonic_s, wall_clock_ms
from fake_credits.contract import Contract
from fake_credits.control.app import ControlPlane
from fake_credits.sandboxes import SandboxRegistry
from fake_credits.transports.protocol import CreditsProtocol, ServerContext
from fake_credits.transports.sockets import PendingWaits, TlsListener

__all__ = ["BindOptions", "LiveServer", "ServerRunner", "TlsOptions", "bind", "new_event_loop", "reachable_host"]

_STOP_TIMEOUT_S = 5.0
_DATE_REFRESH_INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """Say how a server answers over https; the base URL has the name, or the server's address where that is empty."""

    ssl_context: ssl.SSLContext
    host: str = ""


@dataclass(frozen=True, slots=True)
class BindOptions:
    """Say where a live server listens and which hosts it answers to; port 0 means any free one.

    A ``host`` beyond loopback needs ``expose=True``. Without ``tls`` it is http.
    """

    host: str = "127.0.0.1"
    port: int = 0
    allow_hosts: tuple[str, ...] = ()
    expose: bool = False
    tls: TlsOptions | None = None


def bind(options: BindOptions) -> socket.socket:
    """Return a bound, listening-ready socket; raise OSError where the address can't be had."""
    family, _, _, _, socket_address = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)[0]
    _check_exposure(options, str(socket_address[0]))
    # IPPROTO_TCP by name: without it asyncio leaves Nagle's algorithm on, 44 ms a keep-alive request.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if sys.platform == "win32":  # SO_REUSEADDR would share the port with whoever listens there
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(socket_address)
    except BaseException:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


class ServerRunner:
    """Run uvicorn on one socket until told to stop, and then withdraw at once."""

    def __init__(
        self,
        contract: Contract,
        sandboxes: SandboxRegistry,
        options: BindOptions,
        listener: socket.socket,
        control: ControlPlane | None = None,
    ) -> None:
        pending_waits = PendingWaits()
        server_context = ServerContext(
            ContractRuntime(contract),
            sandboxes,
            HostPolicy(options.allow_hosts, is_exposed=options.expose),
            pending_waits,
        )
        config = Config(
            create_app(contract, sandboxes, control),
            http=partial(CreditsProtocol, server_context=server_context),  # type: ignore[arg-type]
            interface="asgi3",
            ws="none",
            lifespan="off",
            proxy_headers=False,
            access_log=True,  # False would silence the whole process's "uvicorn.access"; our protocol writes none
            log_config=None,
            server_header=False,
            date_header=False,
        )
        config.load()
        self._server = _UvicornServer(config)
        self._server.pending_waits = pending_waits
        self._listener = listener
        self._tls = options.tls
        self.base_url = _base_url(listener, options.tls)

    def __repr__(self) -> str:
        return f"<Runner at {self.base_url}>"

    async def run(self, stop: asyncio.Event, on_ready: Callable[[], None]) -> None:
        """Serve until ``stop`` is set; call ``ready`` once requests are answered."""
        server = self._server
        server.refresh_date()
        await server.start(self._listener, self._tls)
        on_ready()
        try:
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), _DATE_REFRESH_INTERVAL_S)
                server.refresh_date()
        finally:
            await server.shut_down()


class _UvicornServer(Server):
    """Start and stop uvicorn without its main loop, which looks for a stop ten times a second only."""

    pending_waits: PendingWaits
    listener: socket.socket
    tls_listeners: tuple[TlsListener, ...] = ()

    async def start(self, listener: socket.socket, tls: TlsOptions | None) -> None:
        self.listener = listener
        self.lifespan = self.config.lifespan_class(self.config)
        self.servers = []
        if tls is None:
            await self.startup(sockets=[listener])
            return
        protocol_class: Any = self.config.http_protocol_class
        protocol_kwargs = {"config": self.config, "server_state": self.server_state, "app_state": self.lifespan.state}
        tls_listener = TlsListener(
            listener, tls.ssl_context, partial(protocol_class, **protocol_kwargs), self.server_state.tasks
        )
        tls_listener.start()
        self.tls_listeners = (tls_listener,)

    def refresh_date(self) -> None:
        date = formatdate(wall_clock_ms() / 1000, usegmt=True).encode("ascii")
        self.server_state.default_headers = [(b"date", date)]

    async def shut_down(self) -> None:
        """Close the listeners, cut every connection, and let the requests in them end by themselves.

        Cancelling would make uvicorn log each as an error of the application.
        """
        # What asyncio has accepted it makes a connection in its next turn, and can't once the listener is closed.
        with contextlib.suppress(NotImplementedError):  # Windows' loop
            asyncio.get_running_loop().remove_reader(self.listener)
        await asyncio.sleep(0)
        for server in self.servers:
            server.close()
        for listener in self.tls_listeners:
            listener.close()
        await asyncio.sleep(0)  # uvloop sends what was written just now at the end of a turn, and an abort drops it
        deadline_s = monotonic_s() + _STOP_TIMEOUT_S
        while (self.server_state.connections or self.server_state.tasks) and monotonic_s() < deadline_s:
            # Each time round: a connection that was accepted just before the end is only made after it.
            for connection in list(self.server_state.connections):
                connection.transport.abort()
            if not self.server_state.connections:
                self.pending_waits.cancel_all()
            await asyncio.sleep(0.0005)


class LiveServer:
    """Serve sandboxes over a socket from a background thread.

    ``start`` returns when requests are answered; ``stop`` when the port is free again. Both may be called twice.
    A bound ``listener`` serves the first start, in place of the address. ``control`` is the server's control plane
    (README, "The control plane"), and ``control_token`` is what opens it; without one both are empty.
    """

    def __init__(
        self,
        contract: Contract,
        sandboxes: SandboxRegistry,
        options: BindOptions | None = None,
        *,
        listener: socket.socket | None = None,
        control: ControlPlane | None = None,
    ) -> None:
        self.contract = contract
        self.sandboxes = sandboxes
        self._options = options or BindOptions()
        self._listener = listener
        self._control = control
        self.control_token = "" if control is None else control.token
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._failure: BaseException | None = None
        self.base_url = ""

    def __repr__(self) -> str:
        return f"<LiveServer at {self.base_url or 'no address yet'}>"

    def start(self) -> None:
        """Start serving; raise OSError where the address can't be had."""
        if self._thread is not None:
            return
        self._failure = self._loop = self._stop = None
        listener, self._listener = self._listener or bind(self._options), None
        runner = ServerRunner(self.contract, self.sandboxes, self._options, listener, self._control)
        started = threading.Event()
        self._thread = threading.Thread(
            target=self._run_event_loop, args=(runner, started), name="fake-credits-server", daemon=True
        )
        self._thread.start()
        started.wait()
        if self._failure is not None:
            self._thread.join()
            listener.close()
            self._thread = None
            raise self._failure
        self.base_url = runner.base_url

    def stop(self) -> None:
        """Stop serving: connections are cut, requests in them end, and the port is free.

        Raises what ended the server before, where something did.
        """
        thread, self._thread = self._thread, None
        if thread is None or self._loop is None or self._stop is None:
            return
        if self._failure is None:
            self._loop.call_soon_threadsafe(self._stop.set)
        thread.join()
        if self._failure is not None:
            raise self._failure

    def _run_event_loop(self, runner: ServerRunner, started: threading.Event) -> None:
        async def main() -> None:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            await runner.run(self._stop, started.set)

        try:
            with asyncio.Runner(loop_factory=new_event_loop) as asyncio_runner:
                asyncio_runner.run(main())
        except BaseException as failure:  # noqa: BLE001 - raised again by start(), in the caller's thread
            self._failure = failure
        finally:
            started.set()


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return uvloop's loop where it exists, asyncio's elsewhere."""
    try:
        import uvloop
    except ImportError:
        loop = asyncio.new_event_loop()
        setattr(loop, "time", monotonic_s)  # noqa: B010 - a method; its own would stop with freezegun's clock
        return loop
    return uvloop.new_event_loop()


def reachable_host(listener: socket.socket) -> str:
    """Return the address at which this machine reaches a listener."""
    host = str(listener.getsockname()[0])
    if ipaddress.ip_address(host).is_unspecified:
        return "::1" if ":" in host else "127.0.0.1"
    return host


def _base_url(listener: socket.socket, tls: TlsOptions | None) -> str:
    host, port = (tls and tls.host) or reachable_host(listener), listener.getsockname()[1]
    return f"{'http' if tls is None else 'https'}://{f'[{host}]' if ':' in host else host}:{port}"


def _check_exposure(options: BindOptions, host: str) -> None:
    if not options.expose and not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
        raise PermissionError(errno.EPERM, f"{options.host} is beyond loopback: that needs the explicit flag --expose")
