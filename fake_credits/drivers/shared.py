"""Own what the sandboxes of one process can share: signing keys, an application and a live server a contract."""

import itertools
import socket
import threading

from starlette.types import ASGIApp

from fake_credits.auth.keys import SigningKeys
from fake_credits.contract import Contract
from fake_credits.drivers.live import LiveServer
from fake_credits.sandbox import Sandbox, Sandboxes, SandboxSettings
from fake_credits.web.app import create_app

__all__ = ["Shared"]


class Shared:
    """Make sandboxes that are cheap because the dear parts are made once, on first use.

    Keys and ``kid`` stay the same from sandbox to sandbox, so an application that cached the JWKS keeps working.
    ``keys`` are new ones unless given.
    """

    def __init__(self, keys: SigningKeys | None = None) -> None:
        self._lock = threading.Lock()
        self._keys = keys or SigningKeys()
        self._names = itertools.count(1)
        self._apps: list[tuple[Contract, ASGIApp]] = []
        self._servers: list[LiveServer] = []

    def __repr__(self) -> str:
        return f"<Shared: {len(self._apps)} contracts, {len(self._servers)} live servers>"

    def new_sandbox(self, settings: SandboxSettings) -> Sandbox:
        """Return a fresh sandbox with a name of its own."""
        return Sandbox(settings, self._keys, f"s{next(self._names)}")

    def app(self, contract: Contract) -> ASGIApp:
        """Return the application for in-process use under a contract."""
        with self._lock:
            for known, app in self._apps:
                if known is contract or known == contract:
                    return app
            app = create_app(contract)
            self._apps.append((contract, app))
            return app

    def server(self, contract: Contract, listener: socket.socket | None = None) -> LiveServer:
        """Return the running live server for a contract; it starts on ``listener``, else at any free port of loopback.

        A bound ``listener`` is the server's from then on.
        """
        with self._lock:
            for known in self._servers:
                if known.contract == contract:
                    return known
            base = self.new_sandbox(SandboxSettings(contract=contract))
            server = LiveServer(contract, Sandboxes(base), listener=listener)
            server.start()
            self._servers.append(server)
            return server

    def close(self) -> None:
        """Stop the live servers; asked for again, they start anew at other ports."""
        with self._lock:
            servers, self._servers = self._servers, []
        for server in servers:
            server.stop()
