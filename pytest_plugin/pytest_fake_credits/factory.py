"""The factory of a pytest session's sandboxes, and the changes in each during one test.

This module imports the fake, so only fixtures import it. PYTEST_DONT_REWRITE
"""

import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack, cast

from fake_credits.clock import wall_clock_ms
from fake_credits.contract import DEFAULT_CONTRACT
from fake_credits.fake import FakeCredits
from fake_credits.faults.active_rule import ActiveRule
from fake_credits.faults.faults import describe_unused_rule
from fake_credits.invariants import run_final_checks
from fake_credits.journal import JournalEntry
from fake_credits.ledger import LedgerInconsistency
from fake_credits.sandbox_options import FakeCreditsKwargs, SandboxOptions, check_id, check_lifetime, parse_options
from fake_credits.transports.shared_resources import SharedResources
from pytest_fake_credits.early_env import EarlyEnvironment
from pytest_fake_credits.marker import MARKER_OPTIONS

if TYPE_CHECKING:
    from fake_credits.explore.loop import ExploredCredits
    from fake_credits.transports.live import LiveServer

__all__ = ["Factory", "TrackedSandbox"]


class TrackedSandbox:
    """A sandbox with what is new in it since the running test started."""

    def __init__(self, fake: FakeCredits) -> None:
        self.fake = fake
        self.is_from_this_test = True
        self._exchanges_before = 0
        self._bugs_before = 0
        self._ledger_reported = False
        self._problems_before = 0
        self._rules_before: frozenset[ActiveRule] = frozenset()
        self.outlives_test = False

    def __repr__(self) -> str:
        return f"<TrackedSandbox {self.fake!r}>"

    def start_test(self) -> None:
        """Attribute everything so far to earlier tests."""
        self.is_from_this_test = False
        self._exchanges_before = self.fake.journal.total
        self._bugs_before = len(self.fake.sandbox.bugs)
        self._problems_before = len(self.fake.sandbox.problems)

    def start_call(self) -> None:
        """Ignore the rules so far if the sandbox outlives the test, as they may fire in a later test."""
        if self.outlives_test:
            self._rules_before = frozenset(self.fake.faults)

    def entries(self) -> tuple[JournalEntry, ...]:
        """Return the exchanges of this test, oldest first."""
        count = self.fake.journal.total - self._exchanges_before
        return self.fake.journal.entries()[-count:] if count else ()

    def bugs(self) -> list[BaseException]:
        """Return the fake's internal errors of this test."""
        return self.fake.sandbox.bugs[self._bugs_before :]

    def problems(self) -> list[str]:
        """Return the waits of this test that would never have ended: hangs, and gates at their limits."""
        return self.fake.sandbox.problems[self._problems_before :]

    def unused_rules(self) -> list[ActiveRule]:
        """Return the scripted rules of this test that stayed unused."""
        return [active for active in self.fake.sandbox.faults.unused_rules() if active not in self._rules_before]

    def inconsistency(self) -> LedgerInconsistency | None:
        """Return the inconsistency of the ledger, once, so that a shared sandbox fails only one test."""
        if self._ledger_reported:
            return None
        try:
            self.fake.sandbox.verify_ledger()
        except LedgerInconsistency as error:
            self._ledger_reported = True
            return error
        return None


class Factory:
    """A factory of sandboxes for fixtures of any scope: ``with fake_credits_factory(balance=100) as credits``.

    The options are those of `FakeCredits`, ``live`` and ``intercept``. Ids, seed and mode default to the session's. The
    API key is new by default: the constant one belongs to the fixture ``fake_credits``, and sandboxes can't share it.
    """

    def __init__(
        self, options: Callable[[], Mapping[str, object]], early_environment: EarlyEnvironment | None = None
    ) -> None:
        self._find_options = options
        self._shared = SharedResources(early_environment.keys if early_environment else None)
        self._listener = early_environment.listener if early_environment else None
        self._tracked: list[TrackedSandbox] = []
        self._server: LiveServer | None = None
        self._is_serving = early_environment is not None  # the environment already has the server's URL

    def __repr__(self) -> str:
        return f"<Factory of {len(self._tracked)} sandboxes>"

    @property
    def options(self) -> Mapping[str, object]:
        """Return the default options for the running test, without those of its markers."""
        return self._find_options()

    def __call__(
        self, *, live: bool | None = None, intercept: str | Sequence[str] = (), **options: Unpack[FakeCreditsKwargs]
    ) -> FakeCredits:
        """Return a `FakeCredits` with a new sandbox; use it in a ``with`` block, or call ``close``.

        Raises TypeError for an unknown option or a wrong type, ValueError for an invalid value.
        """
        own: dict[str, object] = {"intercept": intercept} if live is None else {"intercept": intercept, "live": live}
        overrides = {**options, **parse_options(own, MARKER_OPTIONS, "fake_credits_factory")}
        fake = self.make({**self.options, "api_key": "", **overrides})
        self._tracked[-1].outlives_test = True
        return fake

    def explore(
        self, explore: object = True, *, live: bool | None = None, **options: Unpack[FakeCreditsKwargs]
    ) -> "Iterator[ExploredCredits]":
        """Explore the block of a ``for`` loop: yield a fresh sandbox for each run, as ``with credits:`` ends one.

        ``explore`` is as in the marker. Raises ValueError for an invalid one, and AssertionError at the end of the loop
        for what is red.
        """
        from fake_credits.explore.loop import ExploredCredits, explore_loop
        from fake_credits.explore.options import ExploreOptions, parse_explore

        explore_options = parse_explore(explore, ExploreOptions())
        if explore_options is None:
            raise ValueError("explore is False, but a loop explores: iterate over nothing else, or leave it out")
        overrides: dict[str, object] = {**options} if live is None else {**options, "live": live}
        sandbox_options = {**self.options, "api_key": "", **overrides}
        code = sys._getframe(1).f_code  # pyright: ignore[reportPrivateUsage]
        return explore_loop(
            lambda: cast("ExploredCredits", self.make(sandbox_options, ExploredCredits)), explore_options, code
        )

    def make(self, options: Mapping[str, object], kind: type[FakeCredits] = FakeCredits) -> FakeCredits:
        """Return a `FakeCredits` with exactly these options of the marker; raise ValueError for invalid ones."""
        sandbox_options: dict[str, Any] = {**options}
        live, urls = sandbox_options.pop("live", False), sandbox_options.pop("intercept", ())
        sandbox_options.pop("allow", None)
        sandbox_options.pop("explore", None)
        if self._is_serving:
            self._start_server()  # before the sandbox's own server, which may have another contract
        fake = kind(mode="live" if live else "in-process", shared=self._shared, **sandbox_options)
        try:
            if urls:
                fake.intercept(*urls)
            if self._is_serving:
                fake.serve()
        except BaseException:
            fake.close()  # otherwise it would keep its API key
            raise
        self._tracked.append(TrackedSandbox(fake))
        return fake

    def token(self, user_id: str | None = None, *, expires_in_s: int = 24 * 3600) -> str:
        """Return a user's token for fixtures of any scope; it names no sandbox, so that each test's accepts it."""
        names = ("user_id", "auth_provider")
        options: Any = {name: value for name, value in self.options.items() if name in names}
        sandbox = self._shared.new_sandbox(SandboxOptions(**options))
        user_id = sandbox.options.user_id if user_id is None else user_id
        check_id("user", user_id)
        check_lifetime(expires_in_s)
        return sandbox.minter.mint(user_id, now_ms=wall_clock_ms(), expires_in_s=expires_in_s)

    def server(self) -> "LiveServer":
        """Return the session's live server, started on first use, which serves every open sandbox."""
        self._is_serving = True
        server = self._start_server()
        for tracked in self.open_sandboxes():
            tracked.fake.serve()
        return server

    def _start_server(self) -> "LiveServer":
        if self._server is None:
            contract: Any = self.options.get("contract", DEFAULT_CONTRACT)
            self._server = self._shared.server(self._shared.contract(contract), self._listener)
        return self._server

    def tracked_sandboxes(self) -> list[TrackedSandbox]:
        """Return the sandboxes that the running test may have used."""
        return list(self._tracked)

    def open_sandboxes(self) -> list[TrackedSandbox]:
        """Return the sandboxes that are not closed."""
        return [tracked for tracked in self._tracked if not tracked.fake.sandbox.is_closed]

    def start_test(self) -> None:
        """Forget closed sandboxes, and start tracking the others anew."""
        self._tracked = self.open_sandboxes()
        for tracked in self._tracked:
            tracked.start_test()

    def start_call(self) -> None:
        """Tell rules of fixtures apart from those of the test."""
        for tracked in self._tracked:
            tracked.start_call()

    def problems(self, allowed: Callable[[], Any]) -> tuple[list[str], BaseException | None]:
        """Return the problems that fail a test that passed otherwise, and the first exception among them.

        ``allowed`` returns the checks that are turned off; it is called only if there are problems.
        """
        found: list[tuple[str, str, BaseException | None]] = []
        for tracked in self._tracked:
            run_final_checks(tracked.fake.sandbox)
            for bug in tracked.bugs():
                trace = "".join(traceback.format_exception(bug)).rstrip()
                found.append(("internal_errors", f"a bug in fake-credits caused a 500 response: {bug!r}\n{trace}", bug))
            if (error := tracked.inconsistency()) is not None:
                found.append(("", f"the ledger is inconsistent: {error}", error))
            found += [("", problem, None) for problem in tracked.problems()]
            found += [("unused_rules", describe_unused_rule(active), None) for active in tracked.unused_rules()]
        off = allowed() if found else ()
        texts = [text for kind, text, _ in found if kind not in off]
        return texts, next((error for kind, _, error in found if error is not None and kind not in off), None)

    def close(self) -> None:
        """Close the open sandboxes, and stop the live server."""
        for tracked in self.open_sandboxes():
            tracked.fake.close()
        self._shared.close()
