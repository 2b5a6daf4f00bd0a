"""Own the sandboxes of one pytest session: made, watched from test to test, and closed; know nothing of pytest's hooks.

Imports the fake, so only fixtures import this. PYTEST_DONT_REWRITE
"""

import traceback
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack, cast

from fake_credits.clock import wall_ms
from fake_credits.contract import DEFAULT, Contract
from fake_credits.drivers.shared import Shared
from fake_credits.fake import FakeCredits, SettingWords
from fake_credits.faults.desk import unused_text
from fake_credits.faults.plan import ActiveRule
from fake_credits.journal import Entry
from fake_credits.ledger import Inconsistency
from fake_credits.sandbox import SandboxSettings
from fake_credits.sandbox.checks import check_id, check_life
from pytest_fake_credits.early import Early

if TYPE_CHECKING:
    from fake_credits.drivers.live import LiveServer

__all__ = ["Factory", "Watched"]


_NOT_THE_SANDBOXS = ("allow", "intercept", "live")


class Watched:
    """Be a sandbox seen from the test that runs now: what is new since it began."""

    def __init__(self, fake: FakeCredits) -> None:
        self.fake = fake
        self.is_new = True
        self._exchanges_before = 0
        self._bugs_before = 0
        self._ledger_told = False
        self._problems_before = 0
        self._rules_before: frozenset[ActiveRule] = frozenset()
        self.lives_on = False

    def __repr__(self) -> str:
        return f"<Watched {self.fake!r}>"

    def begin(self) -> None:
        """Take what has been so far as another test's."""
        self.is_new = False
        self._exchanges_before = self.fake.journal.total
        self._bugs_before = len(self.fake.sandbox.bugs)
        self._problems_before = len(self.fake.sandbox.problems)

    def begin_call(self) -> None:
        """Take the rules so far as of a longer life than the test's, where the sandbox is: they may fire later."""
        if self.lives_on:
            self._rules_before = frozenset(self.fake.faults)

    def entries(self) -> tuple[Entry, ...]:
        """Return the exchanges of this test, oldest first."""
        count = self.fake.journal.total - self._exchanges_before
        return self.fake.journal.entries()[-count:] if count else ()

    def bugs(self) -> list[BaseException]:
        """Return the fake's internal errors of this test."""
        return self.fake.sandbox.bugs[self._bugs_before :]

    def problems(self) -> list[str]:
        """Return what this test's calls ran into that would never end: a hang, a gate at its limit."""
        return self.fake.sandbox.problems[self._problems_before :]

    def unused_rules(self) -> list[ActiveRule]:
        """Return the scripted rules of this test that stayed unused."""
        return [active for active in self.fake.sandbox.faults.unused() if active not in self._rules_before]

    def inconsistency(self) -> Inconsistency | None:
        """Return how the ledger contradicts itself, once: a sandbox of many tests fails one of them."""
        if self._ledger_told:
            return None
        try:
            self.fake.sandbox.verify()
        except Inconsistency as error:
            self._ledger_told = True
            return error
        return None


class Factory:
    """Make sandboxes of any life: ``with fake_credits_factory(balance=100) as credits`` in a fixture of any scope.

    The words are those of `FakeCredits`, and ``live``; ids, seed and mode are the session's unless given. An API key
    is fresh unless given: the constant one is the fixture ``fake_credits``'s, and two sandboxes can't share it.
    """

    def __init__(self, words: Mapping[str, object], early: Early | None = None) -> None:
        self.words = dict(words)
        self._shared = Shared(early.keys if early else None)
        self._listener = early.listener if early else None
        self._watched: list[Watched] = []
        self._serving = early is not None  # the environment names the server already

    def __repr__(self) -> str:
        return f"<fake_credits_factory: {len(self._watched)} sandboxes>"

    def __call__(
        self, *, live: bool | None = None, intercept: str | Sequence[str] = (), **words: Unpack[SettingWords]
    ) -> FakeCredits:
        """Return a `FakeCredits` on a fresh sandbox; leave its ``with`` block, or call ``close``, to end it.

        Raises TypeError for an unknown word and for a value of another type, ValueError for a value that can't be.
        """
        if not isinstance(live, bool | None):  # pyright: ignore[reportUnnecessaryIsInstance] callers may be untyped
            raise TypeError(f"live must be True, False or None, not {type(live).__name__}")
        if not isinstance(intercept, str | list | tuple):
            raise TypeError(f"intercept must be a base URL or a list of them, not {type(intercept).__name__}")
        own: dict[str, object] = {**words, "intercept": (intercept,) if isinstance(intercept, str) else intercept}
        if live is not None:
            own["live"] = live
        fake = self.make({**self.words, "api_key": "", **own})
        self._watched[-1].lives_on = True
        return fake

    def make(self, words: Mapping[str, object]) -> FakeCredits:
        """Return a `FakeCredits` of exactly these words of the marker; raise ValueError for what can't be."""
        settings: dict[str, Any] = {name: value for name, value in words.items() if name not in _NOT_THE_SANDBOXS}
        settings["contract"] = self._contract(words.get("contract"))
        if self._serving:
            self._server()  # before the sandbox's own, which may be another contract's: this is the constant one
        fake = FakeCredits(mode="live" if words.get("live") else "in-process", shared=self._shared, **settings)
        try:
            if urls := cast("Sequence[str]", words.get("intercept", ())):
                fake.intercept(*urls)
            if self._serving:
                fake.serve()
        except BaseException:
            fake.close()  # nobody else can: it would keep its key
            raise
        self._watched.append(Watched(fake))
        return fake

    def _contract(self, named: Any) -> Contract:
        return self._shared.contract(named) if named else DEFAULT

    def token(self, user_id: str | None = None, *, expires_in_s: int = 24 * 3600) -> str:
        """Return a user's token that names no sandbox, for a fixture of any scope: the running test's accepts it."""
        user_id = str(self.words["user_id"]) if user_id is None else user_id
        check_id("user", user_id)
        check_life(expires_in_s)
        minter = self._shared.new_sandbox(SandboxSettings(jwt=str(self.words["jwt"]))).minter
        return minter.mint(user_id, now_ms=wall_ms(), expires_in_s=expires_in_s)

    def server(self) -> "LiveServer":
        """Return the session's live server, started on first use; every open sandbox answers there."""
        self._serving = True
        server = self._server()
        for watched in self.open():
            watched.fake.serve()
        return server

    def _server(self) -> "LiveServer":
        return self._shared.server(self._contract(self.words.get("contract")), self._listener)

    def watched(self) -> list[Watched]:
        """Return the sandboxes that the running test can have met."""
        return list(self._watched)

    def open(self) -> list[Watched]:
        """Return the sandboxes that are not closed."""
        return [watched for watched in self._watched if not watched.fake.sandbox.closed]

    def begin_test(self) -> None:
        """Forget the closed sandboxes, and see the others afresh."""
        self._watched = self.open()
        for watched in self._watched:
            watched.begin()

    def begin_call(self) -> None:
        """Tell the fixtures' rules from the test's own."""
        for watched in self._watched:
            watched.begin_call()

    def problems(self, allowed: object) -> tuple[list[str], BaseException | None]:
        """Return why the test that ran proves nothing, and the first of the exceptions."""
        allow = cast("tuple[str, ...]", allowed or ())
        found: list[tuple[str, BaseException | None]] = []
        for watched in self._watched:
            if "internal_errors" not in allow:
                found += [(_bug_text(bug), bug) for bug in watched.bugs()]
            if (error := watched.inconsistency()) is not None:
                found.append((f"the ledger is inconsistent: {error}", error))
            found += [(problem, None) for problem in watched.problems()]
            if "unused_rules" not in allow:
                found += [(unused_text(active), None) for active in watched.unused_rules()]
        return [text for text, _ in found], next((error for _, error in found if error is not None), None)

    def close(self) -> None:
        """Close what is still open, and stop the live server."""
        for watched in self.open():
            watched.fake.close()
        self._shared.close()


def _bug_text(bug: BaseException) -> str:
    trace = "".join(traceback.format_exception(bug)).rstrip()
    return f"a bug of fake-credits answered 500: {bug!r}\n{trace}"
