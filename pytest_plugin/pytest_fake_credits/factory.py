"""The factory of a pytest session's sandboxes, which tracks what happens in each of them during a test.

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
from fake_credits.faults.rule import Rule
from fake_credits.journal import JournalEntry
from fake_credits.sandbox_hooks import SandboxProblem
from fake_credits.sandbox_options import (
    FakeCreditsKwargs,
    OptionError,
    SandboxOptions,
    check_id,
    check_lifetime,
    parse_options,
)
from fake_credits.transports.shared_resources import SharedResources
from pytest_fake_credits.early_env import EarlyEnvironment
from pytest_fake_credits.marker import MARKER_OPTIONS

if TYPE_CHECKING:
    from fake_credits.explore.loop import ExploredCredits
    from fake_credits.transports.live import LiveServer

__all__ = ["Factory", "TrackedSandbox"]

_UNPROVEN = ("unrouted", "unused_rules")  # a test that passes despite these problems proves nothing
_NOT_HERE_HINTS = {"allow": "use allow= in the marker", "explore": "loop over fake_credits_factory.explore()"}


class TrackedSandbox:
    """A sandbox, and what has happened in it since the running test started."""

    def __init__(self, fake: FakeCredits) -> None:
        self.fake = fake
        self.is_from_this_test = True
        self.outlives_test = False
        self.example: int | None = None
        self._exchanges_before = self._exchanges_before_call = 0
        self._missed_before = 0
        self._is_ledger_reported = False
        self._earlier_sources: list[object] = []
        self._outer_rules: Sequence[Rule] = ()

    def __repr__(self) -> str:
        return f"<TrackedSandbox {self.fake!r}>"

    def start_test(self) -> None:
        """Attribute everything recorded so far to earlier tests."""
        self.is_from_this_test, self.example = False, None
        self._exchanges_before = self._exchanges_before_call = self.fake.journal.ended_count
        sandbox = self.fake.sandbox
        self._missed_before = sandbox.interception_log.total
        self._earlier_sources = [*sandbox.bugs, *sandbox.problems, *sandbox.problems_at_reset]
        self._earlier_sources += sandbox.faults.unused_rules()

    def start_call(self) -> None:
        """Mark the start of the test's call phase.

        If the sandbox outlives the test, existing rules are not reported as unused, because they may fire in a later
        test.
        """
        sandbox = self.fake.sandbox
        self._exchanges_before_call = self.fake.journal.ended_count
        self._earlier_sources += sandbox.problems_at_reset
        if self.outlives_test:
            self._earlier_sources += sandbox.faults
            self._outer_rules = sandbox.initial_rules  # a reset adds them again, as new objects

    def entries(self) -> tuple[JournalEntry, ...]:
        """Return this test's exchanges, oldest first."""
        count = self.fake.journal.ended_count - self._exchanges_before
        return self.fake.journal.entries()[-count:] if count else ()

    def missed_lines(self) -> list[str]:
        """Return report lines for this test's requests that were not intercepted."""
        return self.fake.sandbox.interception_log.lines(self._missed_before)

    def interception_hint(self) -> str:
        """Explain why none of this test's requests were intercepted; return an empty string if interception is off."""
        return self.fake.sandbox.interception_log.no_request_hint(self._missed_before)

    def set_up_filter(self) -> Callable[[JournalEntry], bool]:
        """Return a function that says whether an exchange belongs to the test's set-up rather than to the application.

        The set-up consists of the calls that fixtures make and, if the application uses other clients, the calls that
        the test makes with the sandbox's clients.
        """
        entries, own_ids = self.entries(), frozenset(self.fake.own_request_ids.copy())
        call_count = self.fake.journal.ended_count - self._exchanges_before_call
        of_call = entries[-call_count:] if call_count else ()
        of_fixtures = {entry.request_id for entry in entries[: len(entries) - len(of_call)]}
        if all(entry.request_id in own_ids for entry in of_call if entry.delivered):  # a lost response reveals no id
            own_ids = frozenset[str]()
        return lambda entry: entry.request_id in own_ids or entry.request_id in of_fixtures

    def problems(self) -> list[SandboxProblem]:
        """Return this test's problems, even those from before a reset; report an inconsistent ledger only once."""
        sandbox = self.fake.sandbox
        found = [*sandbox.problems_at_reset, *sandbox.find_problems()]
        found = [problem for problem in found if not self._is_from_outside(problem)]
        self._is_ledger_reported |= any(problem.kind == "ledger" for problem in found)
        return found

    def _is_from_outside(self, problem: SandboxProblem) -> bool:
        """Return whether a problem comes from an earlier test, or from a rule that is declared for several tests."""
        if problem.kind == "ledger":
            return self._is_ledger_reported
        source = problem.source or problem
        rule = source.rule if isinstance(source, ActiveRule) else None
        return any(source is earlier or problem is earlier for earlier in self._earlier_sources) or any(
            rule is outer for outer in self._outer_rules
        )


class Factory:
    """A factory of sandboxes for fixtures of any scope: ``with fake_credits_factory(balance=100) as credits``.

    The options are those of `FakeCredits`, plus ``live`` and ``intercept``. Ids, seed and mode default to the
    session's. By default, each sandbox gets a new API key: the configured one is reserved for the ``fake_credits``
    fixture, because sandboxes can't share a key.
    """

    def __init__(
        self, options: Callable[[], Mapping[str, object]], early_environment: EarlyEnvironment | None = None
    ) -> None:
        self._find_options = options
        self._shared = SharedResources(early_environment.keys if early_environment else None)
        self._listener = early_environment.listener if early_environment else None
        self._tracked: list[TrackedSandbox] = []
        self._server: LiveServer | None = None
        self._example_count: int | None = None  # None before a test's call phase
        self._is_serving = early_environment is not None  # the environment already has the server's URL

    def __repr__(self) -> str:
        return f"<Factory: sandboxes={len(self._tracked)}>"

    @property
    def options(self) -> Mapping[str, object]:
        """Return the default options for the running test, without those of its markers."""
        return self._find_options()

    def __call__(
        self, *, live: bool | None = None, intercept: str | Sequence[str] = (), **options: Unpack[FakeCreditsKwargs]
    ) -> FakeCredits:
        """Return a `FakeCredits` with a new sandbox; use it in a ``with`` block, or call ``close``.

        Raises TypeError for an unknown option or a wrong type, and ValueError for an invalid value.
        """
        own: dict[str, object] = {"intercept": intercept} if live is None else {"intercept": intercept, "live": live}
        overrides = {**options, **parse_options(own, MARKER_OPTIONS, "fake_credits_factory")}
        fake = self.make(self._override(overrides))
        self._tracked[-1].outlives_test = True
        return fake

    def explore(
        self,
        explore: object = True,
        *,
        orders: bool = False,
        live: bool | None = None,
        **options: Unpack[FakeCreditsKwargs],
    ) -> "Iterator[ExploredCredits]":
        """Explore the body of a ``for`` loop by yielding a new sandbox for each run.

        A run ends when its sandbox's ``with`` block exits. ``explore`` takes the same values as in the marker; with
        ``orders``, concurrent calls are also made in every order that can make a difference. Raises ValueError for an
        invalid option, and AssertionError after the last run if a finding is red.
        """
        from fake_credits.explore.loop import ExploredCredits, explore_loop
        from fake_credits.explore.options import ExploreOptions, parse_explore

        explore_options = parse_explore(explore, ExploreOptions())
        if explore_options is None:
            raise ValueError("explore must not be False in a loop; omit it to use the defaults")
        if orders:
            explore_options = explore_options.updated({"orders": orders})
        overrides: dict[str, object] = {**options} if live is None else {**options, "live": live}
        sandbox_options = self._override(overrides)
        code = sys._getframe(1).f_code  # pyright: ignore[reportPrivateUsage]

        def is_judged(fake: FakeCredits) -> bool:
            return isinstance(fake, ExploredCredits) and fake.sandbox.is_closed and not fake.sandbox.bugs

        def make() -> ExploredCredits:
            self._tracked = [each for each in self._tracked if not is_judged(each.fake)]
            return cast("ExploredCredits", self.make(sandbox_options, ExploredCredits))

        return explore_loop(make, explore_options, code)

    def _override(self, overrides: Mapping[str, object]) -> dict[str, object]:
        for name, hint in _NOT_HERE_HINTS.items():
            if name in overrides:
                raise OptionError(f"fake_credits_factory has no option {name!r}; {hint}", name)
        return {**self.options, "api_key": "", **overrides}

    def make(self, options: Mapping[str, object], kind: type[FakeCredits] = FakeCredits) -> FakeCredits:
        """Return a `FakeCredits` with these options, adding no defaults; raise ValueError for an invalid option."""
        sandbox_options: dict[str, Any] = {**options}
        live, urls = sandbox_options.pop("live", False), sandbox_options.pop("intercept", ())
        sandbox_options.pop("allow", None)
        sandbox_options.pop("explore", None)
        if self._is_serving:
            self._start_server()  # first, because a server that the sandbox starts would not use the listener
        fake = kind(mode="live" if live else "in-process", shared=self._shared, **sandbox_options)
        try:
            if urls:
                fake.intercept(*urls)
            if self._is_serving:
                fake.serve()
        except BaseException:
            fake.close()  # otherwise its API key would stay reserved
            raise
        tracked = TrackedSandbox(fake)
        if self._example_count is not None:
            is_nested = any(other.example is not None for other in self.open_sandboxes())
            tracked.example = self._example_count = self._example_count + (not is_nested)
        self._tracked.append(tracked)
        return fake

    def token(self, user_id: str | None = None, *, expires_in_s: int = 24 * 3600) -> str:
        """Return a user's token for fixtures of any scope; it names no sandbox, so each test's sandbox accepts it."""
        names = ("user_id", "auth_provider", "issuer")
        options: Any = {name: value for name, value in self.options.items() if name in names}
        sandbox = self._shared.new_sandbox(SandboxOptions(**options))
        if sandbox.options.issuer == "server":
            sandbox.set_server_url(self.server().base_url)
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

    def tracked_sandboxes(self, *, only_last_example: bool = False) -> list[TrackedSandbox]:
        """Return the sandboxes that the running test may have used.

        With ``only_last_example``, sandboxes that a Hypothesis test created are included only if they are from its last
        example. An example starts when the test creates a sandbox while none of its other sandboxes is open.
        """
        return [
            tracked
            for tracked in self._tracked
            if not only_last_example or tracked.example in (None, self._example_count)
        ]

    def open_sandboxes(self) -> list[TrackedSandbox]:
        """Return the sandboxes that are still open."""
        return [tracked for tracked in self._tracked if not tracked.fake.sandbox.is_closed]

    def start_test(self) -> None:
        """Forget closed sandboxes, and start tracking the others for a new test."""
        self._tracked = self.open_sandboxes()
        self._example_count = None
        for tracked in self._tracked:
            tracked.start_test()

    def start_call(self) -> None:
        """Mark the start of the test's call phase, to distinguish its calls and rules from those of fixtures."""
        self._example_count = 0
        for tracked in self._tracked:
            tracked.start_call()

    def problems(self, allowed: Callable[[], Any]) -> tuple[list[str], BaseException | None]:
        """Return the paragraphs of the failure message for a passing test, and the underlying exception, if any.

        The list is empty if there are no problems. ``allowed`` returns the checks that are turned off; it is called
        only if there are problems.
        """
        found = [problem for tracked in self._tracked for problem in tracked.problems()]
        off = allowed() if found else ()
        kept = [problem for problem in found if problem.kind not in off]
        if not kept:
            return [], None
        errors = (problem.source for problem in kept if isinstance(problem.source, BaseException))
        first, *others = map(_describe_problem, kept)
        is_unproven = all(problem.kind in _UNPROVEN for problem in kept)
        verdict = f"The test passed{' but proves nothing, so' if is_unproven else ', but'} fake-credits failed it."
        return [first, f"{verdict}{' Other problems:' if others else ''}", *others], next(errors, None)

    def close(self) -> None:
        """Close the open sandboxes, and stop the live servers."""
        for tracked in self.open_sandboxes():
            tracked.fake.close()
        self._shared.close()


def _describe_problem(problem: SandboxProblem) -> str:
    """Return a problem's message, with a traceback or a remedy if there is one."""
    if problem.kind == "internal_errors" and isinstance(problem.source, BaseException):
        return f"{problem.text}\n{''.join(traceback.format_exception(problem.source)).rstrip()}"
    if problem.kind == "unrouted":
        return f'{problem.text}. If this is intended, pass allow="unrouted" to the fake_credits marker.'
    return problem.text
