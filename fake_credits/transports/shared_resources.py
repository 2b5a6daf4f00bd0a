"""Resources shared by a process's sandboxes: signing keys, worlds, and one application and server per contract."""

import itertools
import socket
import threading
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from fake_credits.api.app import CreditsApplication, create_app
from fake_credits.concurrency import ForkGuard
from fake_credits.contract import Contract, ContractError
from fake_credits.sandbox import Sandbox
from fake_credits.sandbox_options import LoadableWorld, SandboxOptions
from fake_credits.sandboxes import SandboxRegistry
from fake_credits.tokens.keys import SigningKeys

if TYPE_CHECKING:
    from fake_credits.transports.live import LiveServer
    from fake_credits.worlds import WorldLibrary


class SharedResources:
    """A factory for sandboxes that creates the expensive shared parts once, on first use.

    All sandboxes have the same keys and ``kid``, so an application that has cached the JWKS keeps working. By default,
    new ``keys`` are generated.
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
        return f"<SharedResources: contracts={len(self._apps)}, live servers={len(self._servers)}>"

    def new_sandbox(self, settings: SandboxOptions) -> Sandbox:
        """Return a new sandbox with a unique name."""
        return Sandbox(settings, self._keys, f"s{next(self._sandbox_numbers)}")

    def world(self, name_or_world: str | Path | LoadableWorld, seed: int) -> LoadableWorld:
        """Return the world for a profile name or a file; return a `World` unchanged.

        Raises ValueError for an unknown name or an unreadable or invalid file, and TypeError for any other type.
        """
        if not isinstance(name_or_world, str | Path):
            if not callable(getattr(name_or_world, "load_into", None)):
                raise TypeError(f"world must be a name, a file or a World, not {type(name_or_world).__name__}")
            return name_or_world
        from fake_credits.worlds.world import UnknownWorld, WorldError

        try:
            return self._world_library.find(name_or_world, seed)
        except UnknownWorld:
            raise
        except WorldError as error:
            raise WorldError(f"world: {error}") from None

    def contract(self, file_or_contract: str | Path | Contract) -> Contract:
        """Return the contract in a file, which is loaded only once; return a `Contract` unchanged.

        Raises ValueError for an unreadable or invalid file, and TypeError for any other type.
        """
        if isinstance(file_or_contract, Contract):
            return file_or_contract
        from fake_credits.contract.loading import load_contract  # needed only for a contract file

        with self._lock:
            if file_or_contract not in self._contracts:
                try:
                    self._contracts[file_or_contract] = load_contract(file_or_contract)
                except ContractError as error:
                    raise ContractError("contract", str(error)) from None
            return self._contracts[file_or_contract]

    @cached_property
    def _world_library(self) -> "WorldLibrary":
        from fake_credits.worlds import WorldLibrary  # needed only for a world

        return WorldLibrary()

    def app(self, contract: Contract) -> CreditsApplication:
        """Return the in-process application for a contract."""
        with self._lock:
            for app_contract, app in self._apps:
                if app_contract is contract or app_contract == contract:
                    return app
            app = create_app(contract)
            self._apps.append((contract, app))
            return app

    def server(self, contract: Contract, listener: socket.socket | None = None) -> "LiveServer":
        """Return the live server for a contract, starting it on ``listener`` or a free loopback port if needed.

        A new server takes over ``listener``, which must be bound. Raises RuntimeError in a forked child process.
        """
        from fake_credits.control.app import ControlPlane
        from fake_credits.transports.live import LiveServer  # loads uvicorn, needed only for a live server

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
        """Stop the live servers. A later call to `server` starts a new one, usually on a different port."""
        with self._lock:
            servers, self._servers = self._servers, []
        for server in servers:
            server.stop()
