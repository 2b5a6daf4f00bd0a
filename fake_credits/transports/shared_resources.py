"""Own what the sandboxes of one process can share: signing keys, worlds, an application and a server a contract."""

import itertools
import socket
import threading
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from fake_credits.api.app import CreditsApplication, create_app
from fake_credits.contract import Contract, ContractError
from fake_credits.sandbox import ForkGuard, Sandbox
from fake_credits.sandbox_options import LoadableWorld, SandboxOptions
from fake_credits.sandboxes import SandboxRegistry
from fake_credits.tokens.keys import SigningKeys

if TYPE_CHECKING:
    from fake_credits.transports.live import LiveServer
    from fake_credits.worlds import WorldLibrary

__all__ = ["SharedResources"]


class SharedResources:
    """Make sandboxes that are cheap because the dear parts are made once, on first use.

    Keys and ``kid`` stay the same from sandbox to sandbox, so an application that cached the JWKS keeps working.
    ``keys`` are new ones unless given.
    """

    def __init__(self, keys: SigningKeys | None = None) -> None:
        self._lock = threading.Lock()
        self._fork_guard = ForkGuard("the live server")
        self._keys = keys or SigningKeys()
        self._sandbox_numbers = itertools.count(1)
        self._contracts: dict[str | Path, Contract] = {}
        self._apps: list[tuple[Contract, CreditsApplication]] = []
        self._servers: list[LiveServer] = []

    def __repr__(self) -> str:
        return f"<SharedResources: {len(self._apps)} contracts, {len(self._servers)} live servers>"

    def new_sandbox(self, settings: SandboxOptions) -> Sandbox:
        """Return a fresh sandbox with a name of its own."""
        return Sandbox(settings, self._keys, f"s{next(self._sandbox_numbers)}")

    def world(self, name_or_world: str | Path | LoadableWorld, seed: int) -> LoadableWorld:
        """Return a world by its name or file, made once; a world that is one already is returned as it is.

        Raises ValueError for a name that is none and for a file that can't be read or used, TypeError for another type.
        """
        if isinstance(name_or_world, str | Path):
            return self._find_world(name_or_world, seed)
        if not callable(getattr(name_or_world, "load_into", None)):
            raise TypeError(f"world must be a name, a file or a World, not {type(name_or_world).__name__}")
        return name_or_world

    def _find_world(self, name: str | Path, seed: int) -> LoadableWorld:
        from fake_credits.worlds.world import UnknownWorld, WorldError

        try:
            return self._world_library.find(name, seed)
        except UnknownWorld:
            raise
        except WorldError as error:
            raise WorldError(f"world: {error}") from None

    def contract(self, file_or_contract: str | Path | Contract) -> Contract:
        """Return the contract of a file, read once; a contract that is one already is returned as it is.

        Raises ValueError for a file that can't be read or used, TypeError for another type.
        """
        if isinstance(file_or_contract, Contract):
            return file_or_contract
        if not isinstance(file_or_contract, str | Path) or not str(file_or_contract):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"contract must be a Contract, or the name of a contract file, not {file_or_contract!r:.80}"
            )
        from fake_credits.contract.loading import load_contract  # only who has a file pays for it

        with self._lock:
            if file_or_contract not in self._contracts:
                try:
                    self._contracts[file_or_contract] = load_contract(file_or_contract)
                except ContractError as error:
                    raise ContractError("contract", str(error)) from None
            return self._contracts[file_or_contract]

    @cached_property
    def _world_library(self) -> "WorldLibrary":
        from fake_credits.worlds import WorldLibrary  # only who wants a world pays for it

        return WorldLibrary()

    def app(self, contract: Contract) -> CreditsApplication:
        """Return the application for in-process use under a contract."""
        with self._lock:
            for app_contract, app in self._apps:
                if app_contract is contract or app_contract == contract:
                    return app
            app = create_app(contract)
            self._apps.append((contract, app))
            return app

    def server(self, contract: Contract, listener: socket.socket | None = None) -> "LiveServer":
        """Return the running live server for a contract; it starts on ``listener``, else at any free port of loopback.

        A bound ``listener`` is the server's from then on. Raises RuntimeError in a forked child, where none runs.
        """
        from fake_credits.control.app import ControlPlane
        from fake_credits.transports.live import LiveServer  # loads uvicorn and asyncio, which few suites need

        self._fork_guard.check()
        with self._lock:
            for server in self._servers:
                if server.contract == contract:
                    return server
            default_sandbox = self.new_sandbox(SandboxOptions(contract=contract))
            sandboxes = SandboxRegistry(default_sandbox)
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
