"""Own gates: exchanges held until a test lets them go, in the order that it says; know nothing of drivers.

Release runs each held exchange up to its next wait or its end, one after the other, and only then wakes its client: to
wake the clients in order is not enough, as they would race to run. README, "Gates".
"""

import math
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from fake_credits.clock.waking import Waker, block, refuse_running_loop
from fake_credits.errors import GateLimit

__all__ = ["Hold", "Ticket"]


@dataclass(frozen=True, eq=False, slots=True)
class Ticket:
    """Be one exchange at a gate. ``go`` runs it on, up to its next wait or its end, and then wakes its client."""

    user: str
    ordinal: int
    shown: str
    go: Callable[[], None]


class Hold:
    """Be a gate: it holds each exchange of its rule until it is released."""

    def __init__(self, name: str, limit_s: float, opened: Callable[["Hold"], None]) -> None:
        self.name = name
        self.limit_s = limit_s
        self._opened = opened
        self._lock = threading.Lock()
        self._held: list[Ticket] = []
        self._arrived = 0
        self._watchers: list[tuple[int, Callable[[], None]]] = []
        self._awaited: list[str] = []
        self.is_open = False
        self._is_over = False
        self._bystanders = frozenset(thread for thread in threading.enumerate() if thread.daemon)

    def __repr__(self) -> str:
        return f"<gate {self.name!r}: {'open' if self.is_open else 'closed'}, holds {self.waiters() or 'nobody'}>"

    def __len__(self) -> int:
        return len(self._held)

    def __bool__(self) -> bool:
        return True

    def tell(self, awaited: str) -> None:
        """Note for which calls one of its rules is, to be told where they do not come."""
        self._awaited.append(awaited)

    @property
    def arrivals(self) -> int:
        """Return how many exchanges have come to the gate so far."""
        return self._arrived

    def held(self) -> tuple[Ticket, ...]:
        """Return who is held, by order of arrival."""
        with self._lock:
            return tuple(self._held)

    def waiters(self) -> str:
        """Return who is held, by order of arrival, for people."""
        return ", ".join(ticket.shown for ticket in self.held())

    def wait_for(self, count: int = 1, *, limit_s: float | None = None) -> None:
        """Block this thread until ``count`` exchanges have arrived in all.

        Raises GateLimit where they do not in time, at once where the sandbox closes or is reset meanwhile; ``limit_s``
        is in seconds, by default the sandbox's. Raises TypeError or ValueError for a count below 1 or a limit below 0,
        RuntimeError on a running event loop, which it would stop: write ``await gate.arrived(2)`` there.
        """
        _check_wait(count, limit_s)
        refuse_running_loop("gate.wait_for", f"await gate.arrived({count})")
        event = threading.Event()
        with self._watch(count, event.set) as there:
            if not there:
                block(event, self._limit(limit_s))
            self._check(count, limit_s)

    async def arrived(self, count: int = 1, *, limit_s: float | None = None) -> None:
        """Do as `wait_for`, in any event loop."""
        _check_wait(count, limit_s)
        waker = Waker()
        with self._watch(count, waker.wake) as there:
            if not there:
                await waker.wait(self._limit(limit_s))
            self._check(count, limit_s)

    def release(self, order: Sequence[int | str] = (), *, keep: bool = False) -> None:
        """Let the held exchanges go, one after the other, and open the gate for those that come later.

        ``order`` names some by arrival from 0, or by user; the others follow by arrival. With ``keep`` the others stay,
        and the gate stays closed. Raises ValueError for a name that is not held, TypeError for what is no list.
        """
        _check_order(order)
        with self._lock:
            going = [self._find(each) for each in order]
            if len(set(map(id, going))) < len(going):
                raise ValueError(f"order is {list(order)!r}, which names somebody twice")
            if not keep:
                going += [ticket for ticket in self._held if ticket not in going]
                self.is_open = True
            self._held = [ticket for ticket in self._held if ticket not in going]
        with ExitStack() as rest:  # also where one of them fails
            for ticket in reversed(going):
                rest.callback(ticket.go)
            if not keep:
                self._opened(self)

    def close(self) -> None:
        """Release everybody, and end the waits for arrivals: the sandbox's end, or its reset."""
        self.release()
        with self._lock:
            self._is_over = True
            waiting = [wake for _, wake in self._watchers]
        for wake in waiting:
            wake()

    def arrive(self, ticket: Ticket) -> bool:
        """Hold an exchange, and tell who waits for it; return False where the gate is open, and nobody is held."""
        with self._lock:
            held = not self.is_open
            if held:
                self._held.append(ticket)
            self._arrived += 1
            ready = [wake for count, wake in self._watchers if count <= self._arrived]
        for wake in ready:
            wake()
        return held

    def only_this_thread_can_open(self) -> bool:
        """Tell whether there is no other thread that could: daemons that were there before the gate are not the test's.

        Nor are the fake's own.
        """
        current = threading.current_thread()
        others = (thread for thread in threading.enumerate() if thread is not current)
        return all(thread in self._bystanders or thread.name.startswith("fake-credits") for thread in others)

    def withdraw(self, ticket: Ticket) -> bool:
        """Take an exchange from the gate without letting it go; return False where it has gone."""
        with self._lock:
            if ticket not in self._held:
                return False
            self._held.remove(ticket)
            return True

    def _find(self, each: int | str) -> Ticket:
        if isinstance(each, int) and not isinstance(each, bool):
            if not 0 <= each < len(self._held):
                raise ValueError(f"the gate {self.name!r} holds {len(self._held)}: there is no number {each}")
            return self._held[each]
        found = [ticket for ticket in self._held if ticket.user == each]
        if len(found) != 1:
            whom = ", ".join(ticket.shown for ticket in self._held) or "nobody"
            raise ValueError(f"the gate {self.name!r} holds {len(found)} calls of {each!r} (it holds {whom})")
        return found[0]

    @contextmanager
    def _watch(self, count: int, wake: Callable[[], None]) -> Generator[bool]:
        """Let an arrival wake somebody, and tell whether there is nothing to wait for."""
        entry = (count, wake)
        with self._lock:
            self._watchers.append(entry)
            there = self._is_over or self._arrived >= count
        try:
            yield there
        finally:
            with self._lock:
                self._watchers.remove(entry)

    def _limit(self, limit_s: float | None) -> float:
        return self.limit_s if limit_s is None else limit_s

    def _check(self, count: int, limit_s: float | None) -> None:
        """Raise GateLimit where too few have arrived."""
        with self._lock:
            arrived, is_over, is_open = self._arrived, self._is_over, self.is_open
        if arrived < count:
            end = "before its sandbox's end or reset" if is_over else f"within {self._limit(limit_s):g} s"
            held = f"{arrived} of {count} arrived {end}"
            if is_open and not is_over:
                raise GateLimit(f"gate {self.name!r}: {held}; it was released, so calls pass it: hold again")
            awaited = f"; it waits for {' or '.join(dict.fromkeys(self._awaited))}" if self._awaited else ""
            raise GateLimit(f"gate {self.name!r}: {held}; it holds {self.waiters() or 'nobody'}{awaited}")


def _check_wait(count: object, limit_s: object) -> None:
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(f"count must be an int, not {type(count).__name__}")
    if count < 1:
        raise ValueError(f"count must be 1 or more, not {count}")
    if limit_s is None:
        return
    if isinstance(limit_s, bool) or not isinstance(limit_s, int | float):
        raise TypeError(f"limit_s must be a number of seconds, not {type(limit_s).__name__}")
    if not 0 <= limit_s < math.inf:
        raise ValueError(f"limit_s must be 0 or more and finite, not {limit_s!r}")


def _check_order(order: object) -> None:
    if isinstance(order, str):
        raise TypeError(f"order is {order!r}, a str: it must be a list, such as [{order!r}]")
    if not isinstance(order, Sequence):
        kind = type(order).__name__
        raise TypeError(f"order is {order!r}, a {kind}: it must be a list of users, or of numbers by arrival from 0")
