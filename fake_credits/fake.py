"""The façade for test authors: a sandbox with its transports and ready-made clients."""

import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, overload

from anyio.lowlevel import checkpoint

from fake_credits.api.app import create_app
from fake_credits.arguments import keyword_hint
from fake_credits.assertions import JournalAssertions
from fake_credits.client.server import AsyncServerClient, ServerClient
from fake_credits.client.user import AsyncUserClient, UserClient
from fake_credits.clock import Clock
from fake_credits.contract.types import OperationSelector
from fake_credits.faults.declarations import rule_from
from fake_credits.faults.effects import HoldAtGate
from fake_credits.faults.faults import Faults, RuleCriteria
from fake_credits.faults.gates import Gate
from fake_credits.http_message import AsyncTransport, Transport
from fake_credits.intercept import Interception, intercept
from fake_credits.invariants import Invariants
from fake_credits.journal import MAX_JOURNAL_ENTRIES
from fake_credits.sandbox_options import FakeCreditsKwargs, LoadableWorld, MintOptions, SandboxOptions
from fake_credits.sandbox_users import RefreshingToken, SandboxUsers
from fake_credits.sandboxes import SandboxRegistry, drain
from fake_credits.transports.in_process import (
    IN_PROCESS_BASE_URL,
    AsyncInProcessTransport,
    InProcessDriver,
    InProcessTransport,
)
from fake_credits.transports.shared_resources import SharedResources

if TYPE_CHECKING:
    from fake_credits.tokens.bad_tokens import BadTokenKind
    from fake_credits.transports.httpx import Httpx2Transport, HttpxTransport
    from fake_credits.transports.live import LiveServer

ClientMode = Literal["in-process", "live"]


class FakeCredits(SandboxUsers, Invariants):
    """A private Credits Management API, with ready-made clients.

    The options are those of `SandboxOptions`: for example, ``balance=100`` grants 100 credits to the default user,
    ``users={"ada": 100}`` grants 100 to ada, and ``world="demo"`` adds users with histories. ``mode``
    selects how the ready-made clients reach the API; any other client can use ``base_url``. ``shared`` holds resources
    for several instances; the caller must close it.

    Raises TypeError for an unknown option, and ValueError for an invalid value.
    """

    def __init__(
        self,
        *,
        mode: ClientMode = "in-process",
        shared: SharedResources | None = None,
        **options: Unpack[FakeCreditsKwargs],
    ) -> None:
        if mode not in ("in-process", "live"):
            raise ValueError(f"mode must be 'in-process' or 'live', not {mode!r}")
        self._owns_shared = shared is None
        self._shared = shared or SharedResources()
        self._mode = mode
        super().__init__(self._shared.new_sandbox(self._build_options(options)))
        self._driver = InProcessDriver(self._shared.app(self.sandbox.contract), self.sandbox)
        self._lock = threading.RLock()  # a test may access the server or the clients from several threads
        self._server: LiveServer | None = None
        self._transports: tuple[Transport, AsyncTransport] | None = None
        self._interceptions: list[Interception] = []
        self.own_request_ids: deque[str] = deque(maxlen=MAX_JOURNAL_ENTRIES)

    def _build_options(self, options: FakeCreditsKwargs) -> SandboxOptions:
        built = SandboxOptions(**options)
        loaded: dict[str, Any] = {}
        if "contract" in options:
            loaded["contract"] = self._shared.contract(built.contract)
        if built.world is not None:
            loaded["world"] = self._shared.world(built.world, built.seed)
        return replace(built, **loaded) if loaded else built

    def __repr__(self) -> str:
        return f"<FakeCredits {self._mode}: {self.sandbox!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        self.close()

    # ------------------------------------------------------------ access

    @property
    def base_url(self) -> str:
        """Return the URL of the live server, starting it on first use.

        From then on, requests from any process reach this sandbox if they carry its API key, one of its tokens, a
        credential that selects no sandbox, or no credentials at all. Raises RuntimeError if this object was closed
        before it was ever attached to the server.
        """
        return self._attach_to_server().base_url

    def serve(self) -> str:
        """Start serving over a socket, and return the base URL."""
        return self.base_url

    def asgi_app(self) -> Callable[[Any, Any, Any], Awaitable[None]]:
        """Return this sandbox's API as an ASGI application, to mount in another one or to run on any ASGI server.

        After this call, the sandbox rejects faults that ASGI can't produce. Raises FaultError if it already has one.
        """
        self.sandbox.fork_guard.check()
        return create_app(self.sandbox.contract, SandboxRegistry(self.sandbox))

    def bind(self, issuer: str, user_id: str) -> None:
        """Make the live server route a foreign issuer's tokens for a user to this sandbox.

        Raises ValueError if the issuer is not trusted (see the ``trust`` option), or if another sandbox has bound the
        user.
        """
        self.sandbox.fork_guard.check()
        self._attach_to_server().sandboxes.bind_token_subject(self.sandbox, issuer, user_id)

    def _attach_to_server(self) -> "LiveServer":
        if self._server is not None:
            return self._server
        self.sandbox.fork_guard.check()
        with self._lock:
            if self._server is None:
                if self.sandbox.is_closed:
                    raise RuntimeError(f"{self!r} is closed (its test is over)")
                server = self._shared.server(self.sandbox.contract)
                server.sandboxes.attach(self.sandbox)
                self._server = server
            return self._server

    @property
    def is_served(self) -> bool:
        """Return whether this sandbox is attached to the live server."""
        return self._server is not None and not self.sandbox.is_closed

    @property
    def api_key(self) -> str:
        """Return the API key for a ``ServerClient``."""
        return self.sandbox.api_key

    @overload
    def transport(self, library: Literal["httpx2"]) -> "Httpx2Transport": ...
    @overload
    def transport(self, library: Literal["httpx"]) -> "HttpxTransport": ...
    def transport(self, library: str) -> Any:
        """Return an in-process transport for an application's own ``httpx2`` or ``httpx`` clients, sync or async.

        All requests go to this sandbox, whatever the host in their URLs.
        """
        if library not in ("httpx", "httpx2"):
            raise ValueError(f"library must be 'httpx2' or 'httpx', not {library!r}; for others, use base_url")
        from fake_credits.transports.httpx import new_httpx_transport

        return new_httpx_transport(library, self._driver)

    def intercept(self, *base_urls: str) -> Interception:
        """Intercept this process's requests to ``base_urls`` via any supported library until the ``with`` block ends.

        Interception starts immediately, and ends no later than when this object is closed. If several sandboxes
        intercept a URL, the one whose interception started last handles the request. A request to a base URL's host
        that looks like an operation, but is not under any of the base URLs, raises the library's connection error;
        other requests are sent to the network.

        Raises TypeError or ValueError if a base URL is invalid or none is passed, and RuntimeError if this object is
        closed or a library can't be intercepted.
        """
        self.sandbox.fork_guard.check()
        if self.sandbox.is_closed:
            raise RuntimeError(f"{self!r} is closed (its test is over)")
        interception = intercept(base_urls, self._driver, self.sandbox.clock, self.sandbox.interception_log)
        self._interceptions.append(interception)
        return interception

    @property
    def intercepted(self) -> tuple[str, ...]:
        """Return the base URLs that are currently intercepted."""
        return tuple(url for interception in self._interceptions for url in interception.base_urls)

    # ------------------------------------------------------------ clients

    @cached_property
    def server_client(self) -> ServerClient:
        """Return a `ServerClient` with this sandbox's API key."""
        transport = self._client_transports()[0]
        return ServerClient(self._client_url, self.api_key, contract=self.sandbox.contract, transport=transport)

    @cached_property
    def async_server_client(self) -> AsyncServerClient:
        """Return an `AsyncServerClient` with this sandbox's API key, for any event loop."""
        transport = self._client_transports()[1]
        return AsyncServerClient(self._client_url, self.api_key, contract=self.sandbox.contract, transport=transport)

    def user_client(self, user_id: str | None = None) -> UserClient:
        """Return a `UserClient` for the given or the default user; the client replaces expired tokens."""
        token = RefreshingToken(self.sandbox, self._user_id_or_default(user_id))
        transport, contract = self._client_transports()[0], self.sandbox.contract
        return UserClient(self._client_url, self.application_id, token, contract=contract, transport=transport)

    def async_user_client(self, user_id: str | None = None) -> AsyncUserClient:
        """Return an `AsyncUserClient` for a user, for any event loop; see `user_client`."""
        token = RefreshingToken(self.sandbox, self._user_id_or_default(user_id))
        transport, contract = self._client_transports()[1], self.sandbox.contract
        return AsyncUserClient(self._client_url, self.application_id, token, contract=contract, transport=transport)

    @property
    def _client_url(self) -> str:
        return IN_PROCESS_BASE_URL if self._mode == "in-process" else self.base_url

    def _client_transports(self) -> tuple[Transport, AsyncTransport]:
        with self._lock:
            if self._transports is None:
                ids = self.own_request_ids
                if self._mode == "in-process":
                    self._transports = (
                        InProcessTransport(self._driver, ids),
                        AsyncInProcessTransport(self._driver, ids),
                    )
                else:
                    from fake_credits.client.http import (  # loads httpx2
                        AsyncRecordedTransport,
                        RecordedTransport,
                        network_transports,
                    )

                    transport, async_transport = network_transports(self.base_url)
                    self._transports = self.sandbox.hooks.wrap_live_transports(
                        (RecordedTransport(transport, ids), AsyncRecordedTransport(async_transport, ids))
                    )
            return self._transports

    # ------------------------------------------------------------ state

    def load_world(self, world: str | Path | LoadableWorld) -> tuple[str, ...]:
        """Add a world's users with their histories, which cover the last year, and return their ids.

        ``world`` is a name (see the docs, "Demo data"), a file or a loaded world. `reset` removes these users, unlike
        those of the ``world`` option. Raises ValueError, without adding any users, if the world is invalid or breaks a
        rule of the contract, or if one of its users already exists.
        """
        return self.sandbox.load_world(self._shared.world(world, self.sandbox.seed))

    @keyword_hint("bad")
    def token(
        self,
        user_id: str | None = None,
        *,
        bad: "BadTokenKind | None" = None,
        expires_in_s: int | None = None,
        claims: Mapping[str, object] | None = None,
        clock: Literal["sandbox", "wall"] = "sandbox",
    ) -> str:
        """Return a token for a user, in the format of the provider selected by the ``auth_provider`` option.

        ``bad`` is a kind of token that must be rejected (see the docs, "Tokens"). ``expires_in_s`` is the lifetime in
        seconds, by default the provider's. Use ``clock="wall"`` if the application's own middleware verifies the token.
        Raises ValueError or TypeError for an unknown kind, or an invalid id, lifetime or claim.
        """
        if clock not in ("sandbox", "wall"):
            raise ValueError(f"clock must be 'sandbox' or 'wall', not {clock!r}")
        options = MintOptions(
            bad=bad, expires_in_s=expires_in_s, claims={} if claims is None else claims, use_wall_clock=clock == "wall"
        )
        return self.sandbox.token(self._user_id_or_default(user_id), options)

    @property
    def clock(self) -> Clock:
        """Return the sandbox's clock, with methods such as ``freeze``, ``advance`` and ``travel``."""
        self.sandbox.fork_guard.check()
        return self.sandbox.clock

    @property
    def faults(self) -> Faults:
        """Return the sandbox's fault rules: use ``add``, ``load`` or ``with credits.faults(...)``."""
        self.sandbox.fork_guard.check()
        return Faults(self.sandbox.faults, self.sandbox.add_fault)

    def hold(self, operation: OperationSelector = "*", *, name: str = "", **criteria: Unpack[RuleCriteria]) -> Gate:
        """Hold matching calls at a gate, and return the gate.

        Use its ``wait_for`` or ``async_wait_for``, then its ``release``. The criteria are those of `Rule`, such as
        ``user="ada"`` and ``phase="after"``. Raises FaultError for an invalid criterion.
        """
        with self.sandbox.lock:
            effect = HoldAtGate(name or self.sandbox.new_gate_name())
            return self.sandbox.hold(rule_from(effect, operation=operation, **criteria))

    def settle(self) -> int:
        """Run all scheduled actions, moving the clock as far as needed, and return how many ran.

        Scheduled actions are late writes and those delayed calls whose clients have timed out.
        """
        return self.clock.run_pending()

    def sleep(self, seconds: float) -> None:
        """Advance the sandbox's clock; inject this as the ``sleep`` function of an application's retry code."""
        self.clock.advance(seconds=seconds)

    async def async_sleep(self, seconds: float) -> None:
        """Advance the clock like `sleep`, and yield to other tasks."""
        self.clock.advance(seconds=seconds)
        await checkpoint()

    @property
    def journal(self) -> JournalAssertions:
        """Return the record of this sandbox's exchanges, with queries and assertions on calls."""
        self.sandbox.fork_guard.check()
        return self.sandbox.journal

    def reset(self) -> list[str]:
        """Restore the initial users, balances, clock and rules, and empty the journal.

        Returns the `problems` so far; in pytest, they fail the test.
        """
        return [problem.text for problem in self.sandbox.reset()]

    # ------------------------------------------------------------ closing

    def problems(self) -> list[str]:
        """Return the problems that should fail an otherwise passing test.

        These include an inconsistent ledger, a bug that caused a 500, a call that would have hung forever, a gate that
        held no call or was never released, a rule that no call used, and a request that matched no operation.
        """
        self.sandbox.fork_guard.check()
        return [problem.text for problem in self.sandbox.find_problems()]

    def close(self) -> list[str]:
        """Detach from the live server, reject further calls, and report any calls still in progress after a second.

        Closing this object again does nothing. Closing it in a forked child does nothing either, because the sandbox
        belongs to the parent.
        """
        if self.sandbox.is_closed or self.sandbox.fork_guard.in_child:
            return []
        for interception in self._interceptions:
            interception.close()
        unfinished: list[str] = []
        if self._server is not None:
            unfinished = drain(self.sandbox)
            self._server.sandboxes.detach(self.sandbox)
        self.sandbox.close()
        if self._transports is not None:
            self._transports[0].close()
        if self._owns_shared:
            self._shared.close()
        return unfinished
