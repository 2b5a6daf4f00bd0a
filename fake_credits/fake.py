"""The façade for test authors: a sandbox, the drivers that reach it, and clients that work at once."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, overload

from anyio.lowlevel import checkpoint

from fake_credits.assertions import JournalAssertions
from fake_credits.client.server import AsyncServerClient, ServerClient
from fake_credits.client.user import AsyncUserClient, UserClient
from fake_credits.clock import Clock, from_ms
from fake_credits.faults.declarations import rule_from
from fake_credits.faults.effects import HoldAtGate
from fake_credits.faults.faults import Faults, RuleCriteria
from fake_credits.faults.gates import Gate
from fake_credits.faults.rule import RuleOperation
from fake_credits.http_message import AsyncTransport, Transport
from fake_credits.intercept import Interception, intercept
from fake_credits.invariants import Invariants
from fake_credits.models import User
from fake_credits.sandbox import Sandbox
from fake_credits.sandbox_options import FakeCreditsKwargs, LoadableWorld, MintOptions, SandboxOptions, check_id
from fake_credits.sandboxes import drain, find_problems
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

__all__ = ["ClientMode", "FakeCredits"]

ClientMode = Literal["in-process", "live"]


class FakeCredits(Invariants):
    """A private Credits Management API, with clients that already work.

    The words are those of `SandboxOptions`: ``balance=100`` is one grant to the default user, ``users={"ada": 100}``
    one grant each, ``world="demo"`` users with histories (README, "Demo data"). ``mode`` says how its own clients
    reach it; any other client reaches it over ``base_url``.
    ``shared`` is for those who make many: what it holds (signing keys, a live server) is then theirs to close.

    Raises TypeError for an unknown word, ValueError for a value that can't be.
    """

    def __init__(
        self,
        *,
        mode: ClientMode = "in-process",
        shared: SharedResources | None = None,
        **options: Unpack[FakeCreditsKwargs],
    ) -> None:
        if mode not in ("in-process", "live"):
            raise ValueError(f"mode is {mode!r}: choose 'in-process' or 'live'")
        self._owns_shared = shared is None
        self._shared = shared or SharedResources()
        self._mode = mode
        self.sandbox = self._shared.new_sandbox(self._build_options(options))
        self._driver = InProcessDriver(self._shared.app(self.sandbox.contract), self.sandbox)
        self._lock = threading.RLock()  # threads of one test may be the first to ask, all at once
        self._server: LiveServer | None = None
        self._transports: tuple[Transport, AsyncTransport] | None = None
        self._interceptions: list[Interception] = []

    def _build_options(self, options: FakeCreditsKwargs) -> SandboxOptions:
        if "contract" in options:
            options["contract"] = self._shared.contract(options["contract"])
        world = options.pop("world", None)
        built = SandboxOptions(**options)
        return built if world is None else replace(built, world=self._shared.world(world, built.seed))

    def __repr__(self) -> str:
        return f"<FakeCredits {self._mode}: {self.sandbox!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        self.close()

    # ------------------------------------------------------------ how to reach it

    @property
    def base_url(self) -> str:
        """Return the URL of the live server, starting it on first use.

        From then on every request with this sandbox's API key or tokens, from any process, arrives here, and so do
        requests whose credential names no sandbox. Raises RuntimeError once this object is closed, unless it was
        attached before.
        """
        return self._attach_to_server().base_url

    def serve(self) -> str:
        """Start answering over a socket, and return the base URL."""
        return self.base_url

    def bind(self, issuer: str, user_id: str) -> None:
        """Bind a foreign issuer's tokens of a user to this sandbox on the live server.

        Raises ValueError for an issuer that is not trusted (the word ``trust``), and where they name another sandbox.
        """
        if issuer not in self.sandbox.issuer_urls:
            trusted = ", ".join(map(repr, self.sandbox.issuer_urls))
            raise ValueError(f"{issuer!r} is not trusted here: name its keys with trust=... (trusted: {trusted})")
        self._attach_to_server().sandboxes.bind_token_subject(self.sandbox, issuer, user_id)

    def _attach_to_server(self) -> "LiveServer":
        if self._server is not None:
            return self._server
        self.sandbox.fork_guard.check()
        with self._lock:
            if self._server is None:
                if self.sandbox.is_closed:
                    raise RuntimeError(f"{self!r} is closed: its test is over")
                server = self._shared.server(self.sandbox.contract)
                server.sandboxes.attach(self.sandbox)
                self._server = server
            return self._server

    @property
    def api_key(self) -> str:
        """Return the API key for a ``ServerClient``."""
        return self.sandbox.api_key

    @property
    def application_id(self) -> str:
        """Return the id of the default application."""
        return self.sandbox.options.application_id

    @property
    def user_id(self) -> str:
        """Return the id of the default user; it exists where a balance was given."""
        return self.sandbox.options.user_id

    @overload
    def transport(self, library: Literal["httpx2"]) -> "Httpx2Transport": ...
    @overload
    def transport(self, library: Literal["httpx"]) -> "HttpxTransport": ...
    def transport(self, library: str) -> Any:
        """Return an in-process transport for an application's own client of a library: ``httpx2`` or ``httpx``.

        It is sync and async at once. Any host of the application's URLs is answered by this sandbox.
        """
        if library not in ("httpx", "httpx2"):
            raise ValueError(f"there is no transport for {library!r}: choose 'httpx2' or 'httpx', or use base_url")
        from fake_credits.transports.httpx import new_httpx_transport

        return new_httpx_transport(library, self._driver)

    def intercept(self, *base_urls: str) -> Interception:
        """Answer the requests of this process to some base URLs, whatever library sends them, until its ``with`` ends.

        It begins at once, and ends with this object at the latest. Of two sandboxes that intercept one URL the later
        one answers. Raises TypeError or ValueError for what is no base URL, and for none; RuntimeError once this
        object is closed.
        """
        if self.sandbox.is_closed:
            raise RuntimeError(f"{self!r} is closed: its test is over")
        interception = intercept(base_urls, self._driver, self.sandbox.clock)
        self._interceptions.append(interception)
        return interception

    @property
    def intercepted(self) -> tuple[str, ...]:
        """Return the base URLs that are intercepted now."""
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
        """Return a `UserClient` for a user, by default the default one; its token is minted anew once it expires."""
        token = _RefreshingToken(self.sandbox, self._user_id_or_default(user_id))
        transport, contract = self._client_transports()[0], self.sandbox.contract
        return UserClient(self._client_url, self.application_id, token, contract=contract, transport=transport)

    def async_user_client(self, user_id: str | None = None) -> AsyncUserClient:
        """Return the async twin of `user_client`, for any event loop."""
        token = _RefreshingToken(self.sandbox, self._user_id_or_default(user_id))
        transport, contract = self._client_transports()[1], self.sandbox.contract
        return AsyncUserClient(self._client_url, self.application_id, token, contract=contract, transport=transport)

    def _user_id_or_default(self, user_id: str | None) -> str:
        """Return an id that can be a user's, or the default one: an empty text is no way to say the latter."""
        if user_id is None:
            return self.user_id
        check_id("user", user_id)
        return user_id

    def _application_id_or_default(self, application_id: str | None) -> str:
        if application_id is None:
            return self.application_id
        check_id("application", application_id)
        return application_id

    @property
    def _client_url(self) -> str:
        return IN_PROCESS_BASE_URL if self._mode == "in-process" else self.base_url

    def _client_transports(self) -> tuple[Transport, AsyncTransport]:
        with self._lock:
            if self._transports is None:
                if self._mode == "in-process":
                    self._transports = InProcessTransport(self._driver), AsyncInProcessTransport(self._driver)
                else:
                    from fake_credits.client.http import network_transports  # loads httpx2

                    self._transports = network_transports(self.base_url)
            return self._transports

    def wrap_live_transports(
        self, wrap: Callable[[tuple[Transport, AsyncTransport]], tuple[Transport, AsyncTransport]]
    ) -> None:
        """Replace the transports of the live clients that are created from now on."""
        if self._mode == "live":
            self._transports = wrap(self._client_transports())

    # ------------------------------------------------------------ what it holds

    def user(self, user_id: str, *, balance: int | None = None, application_id: str | None = None) -> User:
        """Make a user exist and return it, without an exchange.

        Where ``balance`` is given, one grant (or consumption) brings the balance to it. ``application_id`` is the
        default one unless given. Raises ValueError or TypeError for an id or a balance that can't be.
        """
        account = self.sandbox.set_balance(
            user_id, balance, application_id=self._application_id_or_default(application_id)
        )
        return User(account.application_id, account.user_id, from_ms(account.created_at_ms))

    def load_world(self, world: str | Path | LoadableWorld) -> tuple[str, ...]:
        """Add a world's users with their histories, back-dated over the last year; return their ids.

        ``world`` is a name (README, "Demo data") or a file. `reset` forgets it, unlike the word ``world``. Raises
        ValueError, and adds nobody, for a world that can't be, or does not fit the contract or the users there are.
        """
        return self.sandbox.load_world(self._shared.world(world, self.sandbox.seed))

    def balance(self, user_id: str | None = None, *, application_id: str | None = None) -> int:
        """Return a user's balance in credits, without an exchange; raise `UserNotFound` where there is no such user.

        User and application are the default ones unless given. Raises ValueError or TypeError for an id that can't be.
        """
        application = self._application_id_or_default(application_id)
        return self.sandbox.account(self._user_id_or_default(user_id), application_id=application).balance

    def token(
        self,
        user_id: str | None = None,
        *,
        bad: "BadTokenKind | None" = None,
        expires_in_s: int | None = None,
        claims: Mapping[str, object] | None = None,
        clock: Literal["sandbox", "wall"] = "sandbox",
    ) -> str:
        """Return a user's token, as the provider of the setting ``auth_provider`` would shape it.

        ``bad`` names a kind of token that must be refused (README, "Bad tokens"). ``expires_in_s`` is a life in
        seconds, by default the provider's. ``clock="wall"`` is for an application whose own middleware verifies.
        Raises ValueError or TypeError for an unknown kind, and for an id, a life or claims that can't be.
        """
        if clock not in ("sandbox", "wall"):
            raise ValueError(f"clock is {clock!r}: choose 'sandbox' or 'wall'")
        options = MintOptions(
            bad=bad, expires_in_s=expires_in_s, claims={} if claims is None else claims, use_wall_clock=clock == "wall"
        )
        return self.sandbox.token(self._user_id_or_default(user_id), options)

    @property
    def clock(self) -> Clock:
        """Return the sandbox's clock: ``freeze``, ``advance``, ``travel``."""
        self.sandbox.fork_guard.check()
        return self.sandbox.clock

    @property
    def faults(self) -> Faults:
        """Return the rules that say what goes wrong, and when: ``add``, ``load``; or ``with credits.faults(...)``."""
        sandbox = self.sandbox
        return Faults(sandbox.faults, sandbox.add_fault)

    def hold(self, operation: RuleOperation = "*", *, name: str = "", **criteria: Unpack[RuleCriteria]) -> Gate:
        """Hold the calls of a rule at a gate; return the gate: ``wait_for`` or ``async_wait_for``, then ``release``.

        The words are those of `Rule`, such as ``user="ada"`` and ``phase="after"``. Raises FaultError for a bad one.
        """
        with self.sandbox.lock:
            effect = HoldAtGate(name or self.sandbox.new_gate_name())
            return self.sandbox.hold(rule_from(effect, operation=operation, **criteria))

    def settle(self) -> int:
        """Run all scheduled actions, moving the clock as far as needed; return how many there were.

        These are late writes, and writes whose client has timed out.
        """
        return self.clock.run_pending()

    def sleep(self, seconds: float) -> None:
        """Advance the sandbox's clock: a ``sleep`` to inject into an application's back-off."""
        self.clock.advance(seconds=seconds)

    async def async_sleep(self, seconds: float) -> None:
        """Advance the clock as `sleep` does, with a checkpoint for other tasks."""
        self.clock.advance(seconds=seconds)
        await checkpoint()

    @property
    def journal(self) -> JournalAssertions:
        """Return the record of this sandbox's exchanges, with questions and assertions on calls."""
        self.sandbox.fork_guard.check()
        return self.sandbox.journal

    def reset(self) -> None:
        """Return to how this sandbox started: users, balances, clock, an empty journal."""
        self.sandbox.reset()

    # ------------------------------------------------------------ the end

    def problems(self) -> list[str]:
        """Return what makes a test that passed prove nothing.

        A ledger that contradicts itself, a bug that answered 500, a call that would have hung for ever, a gate that
        nobody released, a scripted rule that stayed unused.
        """
        return find_problems(self.sandbox)

    def close(self) -> list[str]:
        """Leave the live server and refuse further calls; return what was still under way after a second.

        A second call does nothing, and neither does one in a forked child: the API is its parent's to close.
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


class _RefreshingToken:
    """A user's token, minted anew when the sandbox's clock is outside its lifetime, also after a reset."""

    def __init__(self, sandbox: Sandbox, user_id: str) -> None:
        self._sandbox = sandbox
        self._user_id = user_id
        self._token = ""
        self._valid_from_ms = self._valid_until_ms = 0
        self._generation = -1

    def __call__(self) -> str:
        sandbox = self._sandbox
        now_ms = sandbox.clock.now_ms()
        is_valid = self._valid_from_ms <= now_ms < self._valid_until_ms
        if not is_valid or self._generation != sandbox.keys.generation:
            self._token = sandbox.token(self._user_id)
            self._valid_from_ms = now_ms
            self._valid_until_ms = now_ms + sandbox.minter.provider.lifetime_s * 1000
            self._generation = sandbox.keys.generation
        return self._token
