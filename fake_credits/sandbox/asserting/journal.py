"""Own what a test author asks of a journal: which calls there were, that there were some, and to wait for them.

It knows neither how a call is compared nor how a failure reads.
"""

import math
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Generator, Iterable
from contextlib import AbstractContextManager, contextmanager
from typing import NoReturn, Unpack

from fake_credits.clock.waking import Waker, block, refuse_running_loop
from fake_credits.contract.kept_headers import ALWAYS_KEPT
from fake_credits.journal import JOURNAL_LIMIT, Entry, Journal
from fake_credits.sandbox.asserting.call import Call, Criteria
from fake_credits.sandbox.asserting.failure import Seen, counted, shared_keys_text
from fake_credits.sandbox.asserting.known import Declared

__all__ = ["CallJournal"]

WAIT_LIMIT_S = 10.0


class CallJournal(Journal):
    """Be a sandbox's journal with the questions and assertions of a test.

    A call is an operation, any unless given, and criteria (`Criteria`): keyword arguments of which all must hold. What
    no call could meet raises ValueError or TypeError. ``api_key`` is never shown; ``kept_headers`` are the names of
    those that entries have; ``declared`` are the rules that they can.
    """

    def __init__(
        self,
        lock: AbstractContextManager[object],
        limit: int = JOURNAL_LIMIT,
        *,
        catch_up: Callable[[], object] = lambda: None,
        api_key: str = "",
        kept_headers: Collection[str] = ALWAYS_KEPT,
    ) -> None:
        super().__init__(lock, limit, catch_up=catch_up)
        self._api_key = api_key
        self._kept_headers = kept_headers
        self.declared = Declared()

    def calls(self, operation: str | None = None, **criteria: Unpack[Criteria]) -> tuple[Entry, ...]:
        """Return the exchanges that a description fits, oldest first."""
        return self._call(operation, criteria).among(self.entries())

    def assert_called(
        self, operation: str | None = None, *, times: int | None = None, **criteria: Unpack[Criteria]
    ) -> tuple[Entry, ...]:
        """Assert that a call was made, at least once or exactly so many times, and return its exchanges.

        Raises AssertionError with the nearest calls and how they differ; so too where a number can't be told, as the
        journal has dropped older exchanges.
        """
        __tracebackhide__ = True
        call, seen = self._call(operation, criteria), self._seen()
        found = call.among(seen.entries)
        if times is None:
            if not found:
                raise AssertionError(seen.failure(f"{call} was not called", call))
        elif len(found) != _count(times, least=0):
            raise AssertionError(seen.failure(f"{call} was called {_times(len(found))}, not {_times(times)}", call))
        elif seen.dropped:
            raise AssertionError(seen.failure(f"nobody can tell whether {call} was called {_times(times)}", call))
        return found

    def assert_not_called(self, operation: str | None = None, **criteria: Unpack[Criteria]) -> None:
        """Assert that no such call was made; without arguments: that no request came at all.

        Raises AssertionError as `assert_called` does.
        """
        __tracebackhide__ = True
        self.assert_called(operation, times=0, **criteria)

    def assert_order(self, *calls: str | Call) -> tuple[Entry, ...]:
        """Assert that calls were answered in this order, others between them or not, and return their exchanges.

        Each is an operation or a `Call`. Raises AssertionError with the first that is missing and the calls nearest to
        it among the later ones; ValueError for fewer than two.
        """
        __tracebackhide__ = True
        if len(calls) < 2:
            raise ValueError("an order needs two calls or more")
        wanted = [self._checked(Call(each) if isinstance(each, str) else each) for each in calls]
        seen, found = self._seen(), list[Entry]()
        rest = iter(seen.entries)
        for call in wanted:
            match = next(filter(call.matches, rest), None)
            if match is None:
                _out_of_order(seen, wanted, found)
            found.append(match)
        return tuple(found)

    def committed_twice(
        self, operation: str | None = None, **criteria: Unpack[Criteria]
    ) -> dict[str, tuple[Entry, ...]]:
        """Return each idempotency key that several committed writes share, with them: retries that took effect again.

        Keys are compared over all users and applications, by their first 256 characters.
        """
        return _shared_keys(self.calls(operation, **criteria))

    def assert_committed_once(self, operation: str | None = None, **criteria: Unpack[Criteria]) -> None:
        """Assert that committed writes share no idempotency key.

        Raises AssertionError with those that do; so too where none of them bears a key, as that would prove nothing,
        and where the journal has dropped older exchanges.
        """
        __tracebackhide__ = True
        call, seen = self._call(operation, criteria), self._seen()
        found = call.among(seen.entries)
        shared = _shared_keys(found)
        if shared:
            raise AssertionError(shared_keys_text(shared, self._api_key))
        if not any(each.committed and each.idempotency_key for each in found):
            raise AssertionError(seen.failure(f"no committed write among {call} bears an idempotency key", call))
        if seen.dropped:
            raise AssertionError(seen.failure(f"nobody can tell whether {call} was committed once a key", call))

    def wait_for(
        self,
        operation: str | None = None,
        *,
        times: int = 1,
        timeout_s: float = WAIT_LIMIT_S,
        **criteria: Unpack[Criteria],
    ) -> tuple[Entry, ...]:
        """Wait in this thread until a call was made so many times or more, and return its exchanges.

        The limit in seconds stands still while a debugger's prompt is open. Raises AssertionError at the limit,
        RuntimeError where this thread runs an event loop: there it is ``await async_wait_for(...)``.
        """
        __tracebackhide__ = True
        refuse_running_loop("journal.wait_for(...)", "await credits.journal.async_wait_for(...)")
        call, event = self._call(operation, criteria), threading.Event()
        with self._watching(call, _count(times), event.set):
            block(event, _limit(timeout_s))
        return self._waited(call, times, timeout_s)

    async def async_wait_for(
        self,
        operation: str | None = None,
        *,
        times: int = 1,
        timeout_s: float = WAIT_LIMIT_S,
        **criteria: Unpack[Criteria],
    ) -> tuple[Entry, ...]:
        """Wait as `wait_for` does, in a task of asyncio or trio."""
        __tracebackhide__ = True
        call, waker = self._call(operation, criteria), Waker()
        with self._watching(call, _count(times), waker.wake):
            await waker.wait(_limit(timeout_s))
        return self._waited(call, times, timeout_s)

    def _call(self, operation: str | None, criteria: Criteria) -> Call:
        return self._checked(Call(operation, **criteria))

    def _checked(self, call: Call) -> Call:
        for name in call.headers:
            if name not in self._kept_headers:
                kept = ", ".join(sorted(self._kept_headers))
                raise ValueError(f"the header {name!r} is not kept: name it in keep_headers (kept: {kept})")
        self.declared.check(call, self.entries)
        return call

    def _seen(self) -> Seen:
        with self._lock:
            return Seen(self.entries(), self.dropped, self.under_way, self._api_key)

    @contextmanager
    def _watching(self, call: Call, times: int, wake: Callable[[], object]) -> Generator[None]:
        def enough() -> bool:
            with self._lock:
                kept = tuple(self._entries)
            return len(call.among(kept)) >= times

        def look(entry: Entry) -> None:
            # In the thread of whoever is answered: an error of the test's own condition is the waiter's to meet.
            try:
                woken = call.matches(entry) and enough()
            except Exception:  # noqa: BLE001 - raised again by the waiter, who asks the same
                woken = True
            if woken:
                wake()

        self._catch_up()
        self.watch(look)
        try:
            if enough():
                wake()
            yield
        finally:
            self.unwatch(look)

    def _waited(self, call: Call, times: int, timeout_s: float) -> tuple[Entry, ...]:
        __tracebackhide__ = True
        seen = self._seen()
        found = call.among(seen.entries)
        if len(found) < times:
            head = f"within {timeout_s:g} s {call} was called {_times(len(found))}, not {_times(times)}"
            raise AssertionError(seen.failure(head, call))
        return found


def _shared_keys(entries: Iterable[Entry]) -> dict[str, tuple[Entry, ...]]:
    by_key: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.committed and entry.idempotency_key:
            by_key[entry.idempotency_key].append(entry)
    return {key: tuple(sharing) for key, sharing in by_key.items() if len(sharing) > 1}


def _out_of_order(seen: Seen, wanted: list[Call], found: list[Entry]) -> NoReturn:
    __tracebackhide__ = True
    call = wanted[len(found)]
    if not found:
        raise AssertionError(seen.failure(f"{call} was not called, the first of {len(wanted)} in order", call))
    last = found[-1]
    later = seen.entries[seen.entries.index(last) + 1 :]
    before = ", ".join(f"#{each.ordinal}" for each in call.among(seen.entries)[-5:])
    head = f"{call} was not called after {wanted[len(found) - 1]}, #{last.ordinal}"
    raise AssertionError(seen.failure(f"{head}; only at or before it: {before}" if before else head, call, later))


def _times(number: int) -> str:
    return counted(number, "time")


def _count(times: int, *, least: int = 1) -> int:
    if isinstance(times, bool) or not isinstance(times, int):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"times must be an int, not {type(times).__name__}")
    if times < least:
        raise ValueError(f"times must be {least} or more, not {times}")
    return times


def _limit(timeout_s: float) -> float:
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"timeout_s must be a number of seconds, not {type(timeout_s).__name__}")
    if not 0 <= timeout_s < math.inf:
        raise ValueError(f"timeout_s must be 0 or more and finite, not {timeout_s!r}")
    return timeout_s
