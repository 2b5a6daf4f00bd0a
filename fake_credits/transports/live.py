"""The live server: uvicorn on a socket that is already bound, in a background thread or in the main thread."""

import _thread
import asyncio
import contextlib
import errno
import ipaddress
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from functools import partial
from types import BuiltinFunctionType

import msgspec

from fake_credits.api.access import HostPolicy
from fake_credits.api.app import CreditsApplication
from fake_credits.clock import monotonic_s
from fake_credits.contract import Contract
from fake_credits.control.app import ControlPlane
from fake_credits.sandboxes import SandboxRegistry
from fake_credits.transports.live_connection import ServerContext
from fake_credits.transports.protocol import CreditsProtocol
from fake_credits.transports.sockets import PendingWaits
from fake_credits.transports.uvicorn_adapter import UvicornServer

_DATE_REFRESH_INTERVAL_S = 1.0


class TlsOptions(msgspec.Struct, frozen=True):
    """A server's TLS context, and the host in its base URL (by default, the server's address)."""

    ssl_context: ssl.SSLContext
    host: str = ""


class BindOptions(msgspec.Struct, frozen=True):
    """The address that a live server listens on, and the host names that it accepts in requests.

    Port 0 selects a free port. A non-loopback ``host`` requires ``expose=True``. Without ``tls``, the server uses HTTP.
    """

    host: str = "127.0.0.1"
    port: int = 0
    allow_hosts: tuple[str, ...] = ()
    expose: bool = False
    tls: TlsOptions | None = None


def bind(options: BindOptions) -> socket.socket:
    """Return a bound socket; raise OSError if the address is unavailable or requires ``expose``."""
    family, _, _, _, socket_address = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)[0]
    address = ipaddress.ip_address(str(socket_address[0]).partition("%")[0])
    if not options.expose and not address.is_loopback:
        raise PermissionError(errno.EPERM, f"{options.host} is not a loopback address: add --expose to allow it")
    # Unless IPPROTO_TCP is explicit, asyncio leaves Nagle's algorithm on, which costs 44 ms per keep-alive request.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if sys.platform == "win32":  # SO_REUSEADDR would let another listener share the port
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
    """A runner that serves on one socket until it is stopped, and then aborts all connections."""

    def __init__(
        self,
        contract: Contract,
        sandboxes: SandboxRegistry,
        options: BindOptions,
        listener: socket.socket,
        control: ControlPlane | None = None,
    ) -> None:
        pending_waits = PendingWaits()
        app = CreditsApplication(contract, sandboxes, control)
        server_context = ServerContext(
            app, sandboxes, HostPolicy(options.allow_hosts, is_exposed=options.expose), pending_waits
        )
        self._server = UvicornServer(app, partial(CreditsProtocol, server_context=server_context), pending_waits)
        self._listener = listener
        self._tls = options.tls
        self.base_url = _base_url(listener, options.tls)
        sandboxes.set_server_url(self.base_url)

    async def run(self, stop: asyncio.Event, on_ready: Callable[[], None]) -> None:
        """Serve until ``stop`` is set; call ``on_ready`` once the server accepts requests."""
        server = self._server
        server.refresh_date()
        await server.start(self._listener, None if self._tls is None else self._tls.ssl_context)
        on_ready()
        try:
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), _DATE_REFRESH_INTERVAL_S)
                server.refresh_date()
        finally:
            await server.shut_down()


class LiveServer:
    """A server that runs in a background thread and serves sandboxes over a socket.

    ``start`` returns once requests are accepted, and ``stop`` once the port is free again. Starting a running server or
    stopping a stopped one does nothing. If ``listener`` (a bound socket) is given, the first start uses it instead of
    the address in ``options``. ``control`` is the server's control plane (docs/reference/control-plane.md), and
    ``control_token`` grants access to it; without a control plane, the token is empty.
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
        return f"<LiveServer: {self.base_url or 'not started'}>"

    def start(self) -> None:
        """Start serving.

        Raises OSError if the address is unavailable, and RuntimeError if gevent has patched threads.
        """
        if self._thread is not None:
            return
        if not isinstance(_thread.start_new_thread, BuiltinFunctionType):
            raise RuntimeError(
                "the live server can't run in this process, because gevent's monkey.patch_all() has patched threads: "
                "use intercept(...) or the in-process clients, start the server with `fake-credits run -- COMMAND`, or "
                "call patch_all(thread=False)"
            )
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
        """Stop serving: abort all connections, end their requests, and free the port.

        If the server has failed, raise its exception.
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
        except BaseException as failure:  # noqa: BLE001 - re-raised by start() in the caller's thread
            self._failure = failure
        finally:
            started.set()


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a uvloop event loop if uvloop is installed, else an asyncio event loop."""
    try:
        import uvloop
    except ImportError:
        loop = asyncio.new_event_loop()
        setattr(loop, "time", monotonic_s)  # noqa: B010 - it is a method; the loop's own clock would stop under freezegun
        return loop
    return uvloop.new_event_loop()


def reachable_host(listener: socket.socket) -> str:
    """Return the address at which a listener is reachable from this machine."""
    host = str(listener.getsockname()[0])
    if ipaddress.ip_address(host).is_unspecified:
        return "::1" if ":" in host else "127.0.0.1"
    return host


def _base_url(listener: socket.socket, tls: TlsOptions | None) -> str:
    host, port = (tls and tls.host) or reachable_host(listener), listener.getsockname()[1]
    return f"{'http' if tls is None else 'https'}://{f'[{host}]' if ':' in host else host}:{port}"
