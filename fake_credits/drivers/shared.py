"""Own what the sandboxes of one process can share: signing keys, worlds, an application and a server a contract."""

import itertools
import socket
import threading
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from fake_credits.auth.keys import SigningKeys
from fake_credits.contract import Contract, ContractError
from fake_credits.sandbox import Sandbox, Sandboxes, SandboxSettings, StartingWorld
from fake_credits.sandbox.home import Home
from fake_credits.web.app import CreditsApplication, create_app

if TYPE_CHECKING:
    from fake_credits.drivers.live import LiveServer
    from fake_credits.seeding.making import Worlds

__all__ = ["Shared"]


class Shared:
    """Make sandboxes that are cheap because the dear parts are made once, on first use.

    Keys and ``kid`` stay the same from sandbox to sandbox, so an application that cached the JWKS keeps working.
    ``keys`` are new ones unless given.
    """

    def __init__(self, keys: SigningKeys | None = None) -> None:
        self._lock = threading.Lock()
        self._home = Home("the live server")
        self._keys = keys or SigningKeys()
        self._names = itertools.count(1)
        self._contracts: dict[str | Path, Contract] = {}
        self._apps: list[tuple[Contract, CreditsApplication]] = []
        self._servers: list[LiveServer] = []

    def __repr__(self) -> str:
        return f"<Shared: {len(self._apps)} contracts, {len(self._servers)} live servers>"

    def new_sandbox(self, settings: SandboxSettings) -> Sandbox:
        """Return a fresh sandbox with a name of its own."""
        return Sandbox(settings, self._keys, f"s{next(self._names)}")

    def world(self, name: str | Path | StartingWorld, seed: int) -> StartingWorld:
        """Return a world by its name or file, made once; a world that is one already is returned as it is.

        Raises ValueError for a name that is none and for a file that can't be read or used, TypeError for another type.
        """
        if isinstance(name, str | Path):
            return self._world(name, seed)
        if not callable(getattr(name, "load_into", None)):
            raise TypeError(f"world must be a name, a file or a World, not {type(name).__name__}")
        return name

    def _world(self, name: str | Path, seed: int) -> StartingWorld:
        from fake_credits.seeding.errors import UnknownWorld, WorldError

        try:
            return self._worlds.find(name, seed)
        except UnknownWorld:
            raise
        except WorldError as error:
            raise WorldError(f"world: {error}") from None

    def contract(self, named: str | Path | Contract) -> Contract:
        """Return the contract of a file, read once; a contract that is one already is returned as it is.

        Raises ValueError for a file that can't be read or used, TypeError for another type.
        """
        if isinstance(named, Contract):
            return named
        if not isinstance(named, str | Path) or not str(named):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"contract must be a Contract, or the name of a contract file, not {named!r:.80}")
        from fake_credits.contract.loading import load_contract  # only who has a file pays for it

        with self._lock:
            if named not in self._contracts:
                try:
                    self._contracts[named] = load_contract(named)
                except ContractError as error:
                    raise ContractError("contract", str(error)) from None
            return self._contracts[named]

    @cached_property
    def _worlds(self) -> "Worlds":
        from fake_credits.seeding.making import Worlds  # only who wants a world pays for it

        return Worlds()

    def app(self, contract: Contract) -> CreditsApplication:
        """Return the application for in-process use under a contract."""
        with self._lock:
            for known, app in self._apps:
                if known is contract or known == contract:
                    return app
            app = create_app(contract)
            self._apps.append((contract, app))
            return app

    def server(self, contract: Contract, listener: socket.socket | None = None) -> "LiveServer":
        """Return the running live server for a contract; it starts on ``listener``, else at any free port of loopback.

        A bound ``listener`` is the server's from then on. Raises RuntimeError in a forked child, where none runs.
        """
        from fake_credits.drivers.live import LiveServer  # loads uvicorn and asyncio, which few suites need
        from fake_credits.web.control.plane import ControlPlane

        self._home.check()
        with self._lock:
            for known in self._servers:
                if known.contract == contract:
                    return known
            base = self.new_sandbox(SandboxSettings(contract=contract))
            sandboxes = Sandboxes(base)
            control = ControlPlane(sandboxes, self.new_sandbox)
            server = LiveServer(contract, sandboxes, listener=listener, control=control)
            server.start()
            self._servers.append(server)
            return server

    def close(self) -> None:
        """Stop the live servers; asked for again, they start anew at other ports."""
        with self._lock:
            servers, self._servers = self._servers, []
        for server in servers:
            server.stop()
