"""Gates, which hold exchanges until a test releases them, in an order of its choice.

Releasing a gate resumes the held exchanges one after the other: each runs until it waits again or ends, and only then
is its client woken. Just waking the clients in order wouldn't be enough, because they would race. See
docs/how-to/races.md.
"""

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager

import msgspec

from fake_credits.arguments import check_count, check_limit, keyword_hint
from fake_credits.concurrency import CrossThreadEvent, ensure_no_running_loop, wait_event
from fake_credits.errors import GateTimeout


class GateTicket(msgspec.Struct, frozen=True, eq=False):
    """An exchange held at a gate. ``resume`` runs it until it waits again or ends, and then wakes its client."""

    user: str
    ordinal: int
    label: str
    resume: Callable[[], None]


class Gate:
    """A gate that holds each exchange matched by its rules until the gate is released."""

    def __init__(self, name: str, limit_s: float, on_open: Callable[["Gate"], None]) -> None:
        self.name = name
        self.limit_s = limit_s
        self._on_open = on_open
        self._lock = threading.Lock()
        self._held: list[GateTicket] = []
        self._arrival_count = 0
        self._arrival_callbacks: list[tuple[int, Callable[[], None]]] = []
        self._expected_calls: list[str] = []
        self.is_open = False
        self._is_closed = False
        self._preexisting_daemons = frozenset(thread for thread in threading.enumerate() if thread.daemon)

    def __repr__(self) -> str:
        return f"<gate {self.name!r}: {'open' if self.is_open else 'closed'}, holds {self.waiters() or 'no calls'}>"

    def __len__(self) -> int:
        return len(self._held)

    def __bool__(self) -> bool:
        return True

    def add_expected_calls(self, description: str) -> None:
        """Record which calls a rule holds here, for the error message if they don't arrive."""
        self._expected_calls.append(description)

    @property
    def arrivals(self) -> int:
        """Return the number of exchanges that have arrived so far."""
        return self._arrival_count

    def held(self) -> tuple[GateTicket, ...]:
        """Return the held exchanges in order of arrival."""
        with self._lock:
            return tuple(self._held)

    def waiters(self) -> str:
        """Return the labels of the held exchanges, separated by commas, in order of arrival."""
        return ", ".join(ticket.label for ticket in self.held())

    @keyword_hint("limit_s")
    def wait_for(self, count: int = 1, *, limit_s: float | None = None) -> None:
        """Block this thread until ``count`` exchanges have arrived in total.

        ``limit_s`` is the timeout in seconds; it defaults to the sandbox's limit. Raises GateTimeout if the exchanges
        don't arrive within that time, or as soon as the sandbox is closed or reset. Raises ValueError if ``count`` is
        below 1 or the limit is negative or infinite, TypeError if either has the wrong type, and RuntimeError if this
        thread is running an event loop: use `async_wait_for` there.
        """
        limit_s = self._check_wait(count, limit_s)
        ensure_no_running_loop("gate.wait_for", f"await gate.async_wait_for({count})")
        event = threading.Event()
        with self._on_arrivals(count, event.set) as already_arrived:
            if not already_arrived:
                wait_event(event, limit_s)
            self._check_arrivals(count, limit_s)

    @keyword_hint("limit_s")
    async def async_wait_for(self, count: int = 1, *, limit_s: float | None = None) -> None:
        """Wait like `wait_for`, but without blocking; works in any event loop."""
        limit_s = self._check_wait(count, limit_s)
        event = CrossThreadEvent()
        with self._on_arrivals(count, event.set) as already_arrived:
            if not already_arrived:
                await event.wait(limit_s)
            self._check_arrivals(count, limit_s)

    def release(self, order: Sequence[int | str] = (), *, keep: bool = False) -> None:
        """Release the held exchanges, one after the other, and open the gate for later ones.

        ``order`` lists the exchanges to release first, by user or by position (counted from 0 in order of arrival); the
        others follow in order of arrival. With ``keep``, the others stay held and the gate stays closed. Raises
        ValueError if ``order`` selects an exchange that isn't held, the same exchange twice, or a user with several
        held exchanges, and TypeError if ``order`` is a string or isn't a sequence.
        """
        _check_order(order)
        with self._lock:
            released = [self._find_held(selector) for selector in order]
            if len(set(map(id, released))) < len(released):
                raise ValueError(f"order is {list(order)!r}, which selects the same call twice")
            if not keep:
                released += [ticket for ticket in self._held if ticket not in released]
                self.is_open = True
            self._held = [ticket for ticket in self._held if ticket not in released]
        with ExitStack() as callbacks:  # runs all callbacks even if one fails
            for ticket in reversed(released):
                callbacks.callback(ticket.resume)
            if not keep:
                self._on_open(self)

    def close(self) -> None:
        """Release all exchanges and end the waits for arrivals, because the sandbox is closing or being reset."""
        self.release()
        with self._lock:
            self._is_closed = True
            callbacks = [wake for _, wake in self._arrival_callbacks]
        for callback in callbacks:
            callback()

    def try_hold(self, ticket: GateTicket) -> bool:
        """Record an exchange's arrival, and hold the exchange unless the gate is open; return whether it is held."""
        with self._lock:
            is_held = not self.is_open
            if is_held:
                self._held.append(ticket)
            self._arrival_count += 1
            callbacks = [wake for count, wake in self._arrival_callbacks if count <= self._arrival_count]
        for callback in callbacks:
            callback()
        return is_held

    def would_deadlock(self) -> bool:
        """Return True if no other thread could release the gate.

        Daemon threads older than the gate are assumed not to belong to the test, and the fake's own threads never
        release it.
        """
        current = threading.current_thread()
        other_threads = (thread for thread in threading.enumerate() if thread is not current)
        return all(
            thread in self._preexisting_daemons or thread.name.startswith("fake-credits") for thread in other_threads
        )

    def remove_ticket(self, ticket: GateTicket) -> bool:
        """Remove an exchange without resuming it; return False if it is no longer held."""
        with self._lock:
            if ticket not in self._held:
                return False
            self._held.remove(ticket)
            return True

    def _find_held(self, selector: int | str) -> GateTicket:
        if isinstance(selector, int) and not isinstance(selector, bool):
            if not 0 <= selector < len(self._held):
                raise ValueError(
                    f"order has {selector}, but the gate {self.name!r} holds no call at that position "
                    f"(calls held: {len(self._held)})"
                )
            return self._held[selector]
        matches = [ticket for ticket in self._held if ticket.user == selector]
        if len(matches) != 1:
            held_labels = ", ".join(ticket.label for ticket in self._held) or "none"
            problem = f"exactly one call held by the gate {self.name!r}, but matches {len(matches)}"
            raise ValueError(f"order has {selector!r}, which must match {problem} (held: {held_labels})")
        return matches[0]

    @contextmanager
    def _on_arrivals(self, count: int, callback: Callable[[], None]) -> Generator[bool]:
        """During the block, call ``callback`` as soon as ``count`` exchanges have arrived or no more can arrive.

        Yields True if that is already the case. No more can arrive if the sandbox is closing or being reset.
        """
        entry = (count, callback)
        with self._lock:
            self._arrival_callbacks.append(entry)
            already_arrived = self._is_closed or self._arrival_count >= count
        try:
            yield already_arrived
        finally:
            with self._lock:
                self._arrival_callbacks.remove(entry)

    def _check_wait(self, count: object, limit_s: float | None) -> float:
        check_count("count", count)
        check_limit("limit_s", self.limit_s if limit_s is None else limit_s)
        return self.limit_s if limit_s is None else limit_s

    def _check_arrivals(self, count: int, limit_s: float) -> None:
        with self._lock:
            arrival_count, is_closed, is_open = self._arrival_count, self._is_closed, self.is_open
        if arrival_count >= count:
            return
        deadline = "before its sandbox closed or was reset" if is_closed else f"within {limit_s:g} s"
        problem = f"gate {self.name!r}: {arrival_count} of {count} calls arrived {deadline}"
        if is_open and not is_closed:
            raise GateTimeout(f"{problem}; the gate has been released, so later calls pass through: call hold() again")
        expected = " or ".join(dict.fromkeys(self._expected_calls))
        expectation = f"; it expects {expected}" if expected else ""
        raise GateTimeout(f"{problem}; it holds {self.waiters() or 'no calls'}{expectation}")


def _check_order(order: object) -> None:
    if isinstance(order, str):
        raise TypeError(f"order is {order!r}: it must be a list, such as [{order!r}]")
    if not isinstance(order, Sequence):
        raise TypeError(f"order is {order!r}: it must be a list of users or of positions, counted from 0")
