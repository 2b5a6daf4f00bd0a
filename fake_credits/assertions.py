"""Assertions on the calls in a journal and their order, and methods that wait for calls."""

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Generator, Hashable, Iterable, Iterator, Sized
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from typing import NoReturn, Unpack

from fake_credits.arguments import check_count, check_limit, keyword_hint
from fake_credits.call_patterns import Call, Criteria, JournalSnapshot, duplicate_commits_message, never_set
from fake_credits.concurrency import CrossThreadEvent, ensure_no_running_loop, wait_event
from fake_credits.contract import DEFAULT_CONTRACT, Contract, Operation
from fake_credits.contract.model import success_statuses
from fake_credits.contract.types import ALL_OPERATIONS, OPERATIONS_BY_NAME, WRITE_OPERATIONS, OperationSelector
from fake_credits.errors import ERRORS, did_you_mean
from fake_credits.faults.rule import Rule, effect_for_script_entry
from fake_credits.interception_log import InterceptionLog
from fake_credits.journal import ALWAYS_JOURNALED, MAX_JOURNAL_ENTRIES, Journal, JournalEntry
from fake_credits.text import pluralize, short_repr
from fake_credits.tokens.credentials import AUTH_FAILURE_REASONS

DEFAULT_WAIT_TIMEOUT_S = 10.0


class JournalAssertions(Journal):
    """A sandbox's journal, with queries and assertions for tests.

    The methods select calls by operation, ``reads`` or ``writes`` (by default, any call), and by `Criteria` passed as
    keyword arguments, which must all match. A criterion that no call could match raises ValueError or TypeError.
    ``api_key`` never appears in messages. ``kept_headers`` are the names of the request headers that entries record.
    ``interception_log`` records the requests that matched none of the intercepted base URLs, and ``contract`` defines
    the possible response statuses and the operations that commit. ``rule_history`` records the rules declared so far.
    """

    def __init__(
        self,
        lock: AbstractContextManager[object],
        limit: int = MAX_JOURNAL_ENTRIES,
        *,
        run_due: Callable[[], object] = lambda: None,
        api_key: str = "",
        kept_headers: Collection[str] = ALWAYS_JOURNALED,
        interception_log: InterceptionLog | None = None,
        contract: Contract = DEFAULT_CONTRACT,
    ) -> None:
        super().__init__(lock, limit, run_due=run_due)
        self._api_key = api_key
        self._kept_headers = kept_headers
        self.rule_history = RuleHistory(contract)
        self._interception_log = InterceptionLog() if interception_log is None else interception_log

    def clear(self) -> None:
        """Remove all entries and the record of requests that were not intercepted; ordinals keep counting up."""
        super().clear()
        self._interception_log.clear()

    def calls(
        self, operation: OperationSelector | None = None, **criteria: Unpack[Criteria]
    ) -> tuple[JournalEntry, ...]:
        """Return the matching exchanges, oldest first."""
        return self._build_call(operation, criteria).filter(self.entries())

    @keyword_hint("times")
    def assert_called(
        self, operation: OperationSelector | None = None, *, times: int | None = None, **criteria: Unpack[Criteria]
    ) -> tuple[JournalEntry, ...]:
        """Assert that there was at least one matching call, or exactly ``times``, and return the exchanges.

        The AssertionError shows the closest calls and how they differ. It is also raised if the count is unknown
        because the journal has dropped older exchanges.
        """
        __tracebackhide__ = True
        call, snapshot = self._build_call(operation, criteria), self._snapshot()
        matching = call.filter(snapshot.entries)
        if times is None and not matching:
            raise snapshot.missing_calls(call) or snapshot.failure(f"{call} was not called", call)
        if times is not None:
            check_count("times", times, minimum=0)
            if unknown := snapshot.missing_calls(call, times):
                raise unknown
            if len(matching) != times:
                raise snapshot.failure(
                    f"{call} was called {_count(matching, snapshot)}, not {pluralize(times, 'time')}", call
                )
        return matching

    def assert_not_called(self, operation: OperationSelector | None = None, **criteria: Unpack[Criteria]) -> None:
        """Assert that no matching call was made; without arguments, that no request arrived at all.

        This is the same as `assert_called` with ``times=0``.
        """
        __tracebackhide__ = True
        self.assert_called(operation, times=0, **criteria)

    def assert_order(self, *calls: OperationSelector | Call) -> tuple[JournalEntry, ...]:
        """Assert that these calls completed in this order, possibly with others in between, and return their exchanges.

        Each argument is an operation or a `Call`. The AssertionError shows the first missing call and the closest calls
        made after the last match. Raises ValueError for fewer than two arguments, and TypeError for an argument of any
        other type.
        """
        __tracebackhide__ = True
        for each in calls:
            if not isinstance(each, str | Call):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(
                    f"assert_order takes operations and Call(...) patterns as arguments, not {short_repr(each)}"
                )
        if len(calls) < 2:
            raise ValueError(f"assert_order needs at least two calls, got {len(calls)}")
        expected = [self._check_call(Call(each) if isinstance(each, str) else each) for each in calls]
        snapshot, matching = self._snapshot(), list[JournalEntry]()
        remaining = iter(snapshot.entries)
        for call in expected:
            match = next(filter(call.matches, remaining), None)
            if match is None:
                _raise_out_of_order(snapshot, expected, matching)
            matching.append(match)
        return tuple(matching)

    def committed_twice(
        self, operation: OperationSelector | None = None, **criteria: Unpack[Criteria]
    ) -> dict[str, tuple[JournalEntry, ...]]:
        """Return the committed writes that share an idempotency key, grouped by key.

        Such a group usually means that a write was committed again when it was retried. Keys are compared across all
        users and applications. A key longer than 256 characters is truncated and ends with a hash of the complete key.
        """
        return _duplicate_commits(self.calls(operation, **criteria))

    def assert_committed_once(self, operation: OperationSelector | None = None, **criteria: Unpack[Criteria]) -> None:
        """Assert that no committed writes share an idempotency key.

        The AssertionError shows the writes that do. It is also raised if no committed write has a key, because there
        would be nothing to compare, and if the journal has dropped older exchanges.
        """
        __tracebackhide__ = True
        call, snapshot = self._build_call(operation, criteria), self._snapshot()
        matching = call.filter(snapshot.entries)
        shared = _duplicate_commits(matching)
        if shared:
            raise AssertionError(duplicate_commits_message(shared, self._api_key))
        if not any(each.committed and each.idempotency_key for each in matching):
            head = f"no committed write that matches {call} has an idempotency key"
            raise snapshot.missing_calls(call) or snapshot.failure(head, call)
        if snapshot.dropped:
            raise snapshot.failure(
                f"can't tell whether {call} was committed once: older exchanges are missing from the journal", call
            )

    @keyword_hint("times")
    def wait_for(
        self,
        operation: OperationSelector | None = None,
        *,
        times: int = 1,
        timeout_s: float = DEFAULT_WAIT_TIMEOUT_S,
        **criteria: Unpack[Criteria],
    ) -> tuple[JournalEntry, ...]:
        """Block until at least ``times`` matching calls have been made, and return their exchanges.

        The timeout, in seconds, is paused while a debugger prompt is open. Raises AssertionError on timeout, and
        RuntimeError inside a running event loop: use ``await async_wait_for(...)`` there.
        """
        __tracebackhide__ = True
        ensure_no_running_loop("journal.wait_for(...)", "await credits.journal.async_wait_for(...)")
        call, event = self._build_call(operation, criteria), threading.Event()
        with self._notify_on(call, times, timeout_s, event.set):
            wait_event(event, timeout_s)
        return self._check_wait(call, times, timeout_s)

    @keyword_hint("times")
    async def async_wait_for(
        self,
        operation: OperationSelector | None = None,
        *,
        times: int = 1,
        timeout_s: float = DEFAULT_WAIT_TIMEOUT_S,
        **criteria: Unpack[Criteria],
    ) -> tuple[JournalEntry, ...]:
        """Wait like `wait_for`, but without blocking the running asyncio or trio event loop."""
        __tracebackhide__ = True
        call, waker = self._build_call(operation, criteria), CrossThreadEvent()
        with self._notify_on(call, times, timeout_s, waker.set):
            await waker.wait(timeout_s)
        return self._check_wait(call, times, timeout_s)

    def _build_call(self, operation: OperationSelector | None, criteria: Criteria) -> Call:
        return self._check_call(Call(operation, **criteria))

    def _check_call(self, call: Call) -> Call:
        for name in call.headers:
            if name not in self._kept_headers:
                kept_names = ", ".join(sorted(self._kept_headers))
                raise ValueError(
                    f"the journal does not keep the header {name!r}: add it to keep_headers (kept: {kept_names})"
                )
        self.rule_history.check_call(call, self.entries)
        return call

    def _snapshot(self) -> JournalSnapshot:
        with self._lock:
            return JournalSnapshot(self.entries(), self.dropped, self.in_flight, self._api_key, self._interception_log)

    @contextmanager
    def _notify_on(self, call: Call, times: int, timeout_s: float, wake: Callable[[], object]) -> Generator[None]:
        check_count("times", times)
        check_limit("timeout_s", timeout_s)

        def is_satisfied() -> bool:
            with self._lock:
                entries = tuple(self._entries)
            return len(call.filter(entries)) >= times

        def on_entry(entry: JournalEntry) -> None:
            # This runs in the thread that adds the entry. If the test's `where` function raises, wake the waiter: its
            # own check then raises the same error.
            try:
                is_done = call.matches(entry) and is_satisfied()
            except Exception:  # noqa: BLE001 - the waiter's check raises it again
                is_done = True
            if is_done:
                wake()

        self._run_due()
        self.watch(on_entry)
        try:
            if is_satisfied():
                wake()
            yield
        finally:
            self.unwatch(on_entry)

    def _check_wait(self, call: Call, times: int, timeout_s: float) -> tuple[JournalEntry, ...]:
        __tracebackhide__ = True
        snapshot = self._snapshot()
        matching = call.filter(snapshot.entries)
        if len(matching) < times:
            wanted = pluralize(times, "time")
            head = f"{call} was called {_count(matching, snapshot)} within {timeout_s:g} s, not {wanted}"
            raise snapshot.missing_calls(call, times) or snapshot.failure(head, call)
        return matching


def _count(matching: Sized, snapshot: JournalSnapshot) -> str:
    """Return how many times a call was made, with "at least" if the journal has dropped exchanges."""
    return f"{'at least ' if snapshot.dropped else ''}{pluralize(len(matching), 'time')}"


def _duplicate_commits(entries: Iterable[JournalEntry]) -> dict[str, tuple[JournalEntry, ...]]:
    by_key: dict[str, list[JournalEntry]] = defaultdict(list)
    for entry in entries:
        if entry.committed and entry.idempotency_key:
            by_key[entry.idempotency_key].append(entry)
    return {key: tuple(group) for key, group in by_key.items() if len(group) > 1}


def _raise_out_of_order(snapshot: JournalSnapshot, expected: list[Call], matching: list[JournalEntry]) -> NoReturn:
    __tracebackhide__ = True
    call = expected[len(matching)]
    if not matching:
        head = f"{call}, the first of {len(expected)} expected calls, was not made"
        raise snapshot.missing_calls(call) or snapshot.failure(head, call)
    last = matching[-1]
    later = snapshot.entries[snapshot.entries.index(last) + 1 :]
    before = ", ".join(f"#{each.ordinal}" for each in call.filter(snapshot.entries)[-5:])
    head = f"{call} was not called after {expected[len(matching) - 1]} (#{last.ordinal})"
    raise snapshot.failure(
        (f"{head}; it was called only at or before that point: {before}") if before else head, call, later
    )


_MAX_KEPT_RULES = 10_000
_ERROR_CAUSES: frozenset[Hashable] = frozenset(
    {"", *(error.cause for error in ERRORS.values() if error.cause != "auth")}
)
_AUTH_CAUSES: frozenset[Hashable] = frozenset(f"auth:{why}" for why in AUTH_FAILURE_REASONS)


class RuleHistory:
    """The last 10,000 rules added to a sandbox, and the error codes and statuses that each can respond with."""

    def __init__(self, contract: Contract = DEFAULT_CONTRACT) -> None:
        self._contract = contract
        self._answers_by_rule: dict[str, frozenset[Hashable]] = {}

    def __repr__(self) -> str:
        return f"<RuleHistory: rules={len(self)}>"

    def __len__(self) -> int:
        return len(self._answers_by_rule)

    def __iter__(self) -> Iterator[str]:
        return iter(self._answers_by_rule)

    def add(self, name: str, rule: Rule) -> None:
        """Add a rule and the error codes and statuses that it can respond with."""
        effects = [rule.effect, *map(effect_for_script_entry, rule.script)]
        self._answers_by_rule[name] = frozenset(
            getattr(effect, field, "") for effect in effects for field in ("code", "status")
        )
        if len(self._answers_by_rule) > _MAX_KEPT_RULES:
            del self._answers_by_rule[next(iter(self._answers_by_rule))]

    def check_call(self, call: Call, entries: Callable[[], Iterable[JournalEntry]]) -> None:
        """Raise ValueError if ``call`` requires a commit, status, code, cause or rule that no entry could have."""
        selector = next((str(each.expected) for each in call.criteria if each.name == "operation"), "*")
        for criterion in call.criteria:
            if criterion.name == "committed" and criterion.expected:
                self._check_commits(selector)
            allowed = self._possible_values(criterion.name, OPERATIONS_BY_NAME[selector])
            expected: Hashable = criterion.expected
            wanted = {expected}
            if criterion.name == "rule" and expected not in allowed:
                wanted = {*str(expected).split("+")}
            if allowed and not allowed.issuperset(wanted) and not any(map(criterion.matches, entries())):
                unknown = min(wanted - allowed, key=str)
                subject = "call" if selector == "*" else selector
                raise ValueError(
                    f"no {subject} in this sandbox can have {_describe_values(criterion.name, unknown, allowed)}"
                )

    def _check_commits(self, selector: str) -> None:
        creates_on_use = self._contract.unknown_user == "create"  # by any operation on a user
        committing = ALL_OPERATIONS - {Operation.LIST_USERS} if creates_on_use else WRITE_OPERATIONS
        if committing.isdisjoint(OPERATIONS_BY_NAME[selector]):
            raise never_set("committed", True, selector, committing)

    def _possible_values(self, name: str, operations: Iterable[Operation]) -> frozenset[Hashable]:
        """Return the values that a criterion can have for these operations, or an empty set if any value can occur."""
        answers = self._answers_by_rule
        if name == "code":
            texts = (value for value in chain.from_iterable(answers.values()) if isinstance(value, str))
            return frozenset(("", *ERRORS, *texts))
        if name == "status":
            numbers = (value for value in chain.from_iterable(answers.values()) if isinstance(value, int))
            errors = (self._contract.status_of(error) for error in ERRORS.values())
            successes = (success_statuses(self._contract, operation) for operation in operations)
            return frozenset((0, *errors, *numbers)).union(*successes)  # 0 stands for a call without a response
        if name == "cause":
            return _ERROR_CAUSES | _AUTH_CAUSES | {f"fault:{rule}" for rule in answers}
        return frozenset(("", *answers)) if name == "rule" else frozenset()


def _describe_values(name: str, unknown: Hashable, allowed: frozenset[Hashable]) -> str:
    texts = sorted(map(str, allowed - {""}))
    hint = did_you_mean(unknown, texts, prefix=", ") if isinstance(unknown, str) else ""
    choices = ", ".join(text for text in texts if text not in _AUTH_CAUSES) or "none"
    more = ", auth:<why>" if name == "cause" else ""
    return f"the {name} {unknown!r}{hint} (possible: {choices}{more})"
