"""Gates: holding and releasing calls, waiting for arrivals, and closing."""

import asyncio
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import trio

from fake_credits.concurrency import CrossThreadEvent
from fake_credits.errors import GateTimeout
from fake_credits.faults import Gate, gates
from fake_credits.faults.gates import GateTicket

LONG_S = 30.0
SHORT_S = 0.002


class GateHarness:
    """A gate with held calls that records the order in which they are released."""

    def __init__(self, *users: str) -> None:
        self.open_count = 0
        self.released: list[str] = []
        self.gate = Gate("pay", LONG_S, self._note_opening)
        self.tickets = [self.ticket(user, number) for number, user in enumerate(users, 1)]
        for ticket in self.tickets:
            assert self.gate.try_hold(ticket)

    def _note_opening(self, gate: Gate) -> None:
        assert gate is self.gate
        self.open_count += 1

    def ticket(self, user: str, ordinal: int = 9, on_release: Callable[[], None] | None = None) -> GateTicket:
        return GateTicket(
            user,
            ordinal,
            f"createTransaction for {user} (#{ordinal})",
            on_release or (lambda: self.released.append(user)),
        )


@pytest.fixture(autouse=True)
def no_leaked_threads() -> Iterator[None]:
    """Check that no thread is left running."""
    before = threading.active_count()
    yield
    assert threading.active_count() == before


# ------------------------------------------------------------ release

ORDERS: dict[str, tuple[Sequence[int | str], list[str]]] = {
    "default order: by arrival": ([], ["ada", "bob", "cy"]),
    "by number": ([2, 0, 1], ["cy", "ada", "bob"]),
    "by user": (["bob", "cy", "ada"], ["bob", "cy", "ada"]),
    "by number and user": (["cy", 0, "bob"], ["cy", "ada", "bob"]),
    "some first, then by arrival": (["bob"], ["bob", "ada", "cy"]),
}


@pytest.mark.parametrize(("order", "released"), ORDERS.values(), ids=ORDERS)
def test_release_follows_the_given_order(order: Sequence[int | str], released: list[str]) -> None:
    harness = GateHarness("ada", "bob", "cy")
    harness.gate.release(order)
    assert harness.released == released
    assert len(harness.gate) == 0
    assert harness.gate.is_open


def test_release_runs_each_call_before_the_next() -> None:
    """Waking the calls in order is not enough, because they would race."""
    running: list[str] = []

    def on_release(user: str) -> Callable[[], None]:
        return lambda: running.extend((f"{user} begins", f"{user} ends"))

    harness = GateHarness()
    for user in ("ada", "bob"):
        harness.gate.try_hold(harness.ticket(user, on_release=on_release(user)))
    harness.gate.release([1, 0])
    assert running == ["bob begins", "bob ends", "ada begins", "ada ends"]


def test_open_gate_holds_no_calls() -> None:
    harness = GateHarness("ada")
    harness.gate.release()
    assert harness.open_count == 1
    assert not harness.gate.try_hold(harness.ticket("bob"))
    assert (len(harness.gate), harness.gate.arrivals, harness.released) == (0, 2, ["ada"])


def test_gate_opens_before_held_calls_run() -> None:
    harness = GateHarness()
    open_counts: list[int] = []
    harness.gate.try_hold(harness.ticket("ada", on_release=lambda: open_counts.append(harness.open_count)))
    harness.gate.release()
    assert open_counts == [1]


def test_release_with_keep_holds_the_other_calls() -> None:
    harness = GateHarness("ada", "bob", "cy")
    harness.gate.release(["bob"], keep=True)
    assert (harness.released, harness.open_count, harness.gate.is_open) == (["bob"], 0, False)
    assert harness.gate.waiters() == "createTransaction for ada (#1), createTransaction for cy (#3)"
    assert harness.gate.try_hold(harness.ticket("dee"))
    harness.gate.release([1], keep=True)  # the index is a position among the calls still held
    assert harness.released == ["bob", "cy"]
    harness.gate.release()
    assert harness.released == ["bob", "cy", "ada", "dee"]


def test_release_with_keep_and_no_order_releases_no_calls() -> None:
    harness = GateHarness("ada")
    harness.gate.release(keep=True)
    assert (harness.released, len(harness.gate)) == ([], 1)


INVALID_ORDERS: dict[str, tuple[Sequence[int | str], str]] = {
    "number too high": ([3], r"order has 3, but the gate 'pay' holds no call at that position \(calls held: 3\)"),
    "number below 0": ([-1], "order has -1, but"),
    "unknown user": (
        ["eve"],
        r"'eve', which must match exactly one call .*, but matches 0 \(held: createTransaction for ada \(#1\), .*cy",
    ),
    "ambiguous user": (["cy"], "'cy', which must match exactly one call held by the gate 'pay', but matches 2"),
    "same call twice": (["ada", 0], r"order is \['ada', 0\], which selects the same call twice"),
    "true for 1": ([True], "order has True, which must match exactly one call held by the gate 'pay', but matches 0"),
}


@pytest.mark.parametrize(("order", "problem"), INVALID_ORDERS.values(), ids=INVALID_ORDERS)
def test_invalid_order_is_rejected_and_releases_no_calls(order: Sequence[int | str], problem: str) -> None:
    harness = GateHarness("ada", "cy", "cy") if "cy" in order else GateHarness("ada", "bob", "cy")
    with pytest.raises(ValueError, match=problem):
        harness.gate.release(order)
    assert (harness.released, len(harness.gate), harness.open_count) == ([], 3, 0)


def test_order_that_is_not_a_list_is_rejected() -> None:
    harness = GateHarness("ada")
    for order, problem in (
        ("ada", r"order is 'ada': it must be a list, such as \['ada'\]"),
        (5, "order is 5: it must be a list of users"),
        (None, "None"),
    ):
        with pytest.raises(TypeError, match=problem):
            harness.gate.release(order)  # type: ignore[arg-type]
    assert (harness.released, len(harness.gate)) == ([], 1)


def test_failing_call_does_not_stop_later_calls() -> None:
    def fail() -> None:
        raise RuntimeError("ada failed")

    harness = GateHarness()
    harness.gate.try_hold(harness.ticket("ada", on_release=fail))
    harness.gate.try_hold(harness.ticket("bob"))
    with pytest.raises(RuntimeError, match="ada failed"):
        harness.gate.release()
    assert harness.released == ["bob"]


def test_released_call_can_be_held_again() -> None:
    harness = GateHarness()
    second_ticket = harness.ticket("ada")
    harness.gate.try_hold(
        harness.ticket("ada", on_release=lambda: harness.released.append(str(harness.gate.try_hold(second_ticket))))
    )
    harness.gate.release([0], keep=True)
    assert (harness.released, len(harness.gate)) == (["True"], 1)
    harness.gate.release()
    assert harness.released == ["True", "ada"]


def test_removed_ticket_is_not_released() -> None:
    harness = GateHarness("ada", "bob")
    assert harness.gate.remove_ticket(harness.tickets[0])
    assert not harness.gate.remove_ticket(harness.tickets[0])
    harness.gate.release()
    assert harness.released == ["bob"]
    assert not harness.gate.remove_ticket(harness.tickets[1])


def test_equal_tickets_are_distinct() -> None:
    """Tickets are compared by identity."""
    harness = GateHarness()
    tickets = [harness.ticket("ada", 1), harness.ticket("ada", 1)]
    for ticket in tickets:
        harness.gate.try_hold(ticket)
    harness.gate.remove_ticket(tickets[1])
    assert not harness.gate.remove_ticket(tickets[1])
    assert len(harness.gate) == 1


def test_repr_names_held_calls() -> None:
    harness = GateHarness("ada")
    assert repr(harness.gate) == "<gate 'pay': closed, holds createTransaction for ada (#1)>"
    harness.gate.release()
    assert repr(harness.gate) == "<gate 'pay': open, holds no calls>"


# ------------------------------------------------------------ waiting


def arrive_in_thread(harness: GateHarness, *users: str) -> threading.Thread:
    thread = threading.Thread(target=lambda: [harness.gate.try_hold(harness.ticket(user)) for user in users])
    thread.start()
    return thread


def test_wait_for_returns_after_enough_arrivals() -> None:
    harness = GateHarness("ada")
    harness.gate.wait_for()
    harness.gate.wait_for(1)
    thread = arrive_in_thread(harness, "bob", "cy")
    harness.gate.wait_for(3)
    assert harness.gate.arrivals == 3
    thread.join()


def test_released_and_removed_calls_count_as_arrived() -> None:
    harness = GateHarness("ada", "bob")
    harness.gate.release([0], keep=True)
    harness.gate.remove_ticket(harness.tickets[1])
    harness.gate.wait_for(2)


def test_calls_passing_open_gate_count_as_arrived() -> None:
    """Otherwise a late wait would never end."""
    harness = GateHarness("ada")
    harness.gate.release()
    thread = arrive_in_thread(harness, "bob")
    harness.gate.wait_for(2)
    thread.join()


def test_wait_for_timeout_says_that_gate_was_released() -> None:
    gate = GateHarness().gate
    gate.add_expected_calls("any call")
    gate.release()
    with pytest.raises(
        GateTimeout,
        match=r"0 of 1 calls arrived within 0.002 s; the gate has been released, so later calls pass through",
    ):
        gate.wait_for(limit_s=SHORT_S)


def test_wait_for_timeout_names_gate_and_held_calls() -> None:
    harness = GateHarness("ada")
    with pytest.raises(
        GateTimeout, match=r"gate 'pay': 1 of 2 calls arrived within 0.002 s; it holds .* for ada \(#1\)"
    ):
        harness.gate.wait_for(2, limit_s=SHORT_S)
    with pytest.raises(GateTimeout, match="0 of 1 calls arrived within 0.002 s; it holds no calls"):
        Gate("pay", SHORT_S, lambda _: None).wait_for()


INVALID_WAITS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "count of 0": ({"count": 0}, ValueError, "count must be 1 or more, not 0"),
    "negative count": ({"count": -1}, ValueError, "count must be 1 or more, not -1"),
    "fractional count": ({"count": 1.5}, TypeError, "count must be an int, not float"),
    "count as true": ({"count": True}, TypeError, "count must be an int, not bool"),
    "count as string": ({"count": "1"}, TypeError, "count must be an int, not str"),
    "negative limit": ({"limit_s": -1}, ValueError, "limit_s must be finite and at least 0, not -1"),
    "limit NaN": ({"limit_s": math.nan}, ValueError, "limit_s must be finite and at least 0, not nan"),
    "infinite limit": ({"limit_s": math.inf}, ValueError, "limit_s must be finite and at least 0, not inf"),
    "limit as string": ({"limit_s": "1"}, TypeError, "limit_s must be a number of seconds, not str"),
    "limit as true": ({"limit_s": True}, TypeError, "limit_s must be a number of seconds, not bool"),
}


@pytest.mark.parametrize(("options", "error_type", "problem"), INVALID_WAITS.values(), ids=INVALID_WAITS)
def test_wait_for_rejects_invalid_arguments(options: dict[str, Any], error_type: type[Exception], problem: str) -> None:
    gate = GateHarness("ada").gate
    with pytest.raises(error_type, match=problem):
        gate.wait_for(**options)
    with pytest.raises(error_type, match=problem):
        asyncio.run(gate.async_wait_for(**options))


def test_wait_for_timeout_names_expected_calls() -> None:
    gate = GateHarness().gate
    gate.add_expected_calls("getUser with user='ada'")
    gate.add_expected_calls("any call")
    gate.add_expected_calls("any call")
    with pytest.raises(GateTimeout, match="it holds no calls; it expects getUser with user='ada' or any call$"):
        gate.wait_for(limit_s=SHORT_S)


async def wait_in_event_loop() -> None:
    harness = GateHarness("ada")
    await harness.gate.async_wait_for()
    thread = arrive_in_thread(harness, "bob")
    await harness.gate.async_wait_for(2)
    thread.join()
    with pytest.raises(GateTimeout, match="gate 'pay': 2 of 3 calls arrived within 0.002 s"):
        await harness.gate.async_wait_for(3, limit_s=SHORT_S)
    with pytest.raises(
        RuntimeError, match=r"gate.wait_for would block this thread's event loop: use `await gate.async_wait_for\(2\)`"
    ):
        harness.gate.wait_for(2)


def test_async_wait_for_works_with_asyncio() -> None:
    asyncio.run(wait_in_event_loop())


def test_async_wait_for_works_with_trio() -> None:
    trio.run(wait_in_event_loop)


def test_asyncio_tasks_can_wait_for_each_other() -> None:
    async def main() -> None:
        harness = GateHarness()

        async def arrive(user: str) -> None:
            harness.gate.try_hold(harness.ticket(user))

        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(harness.gate.async_wait_for(count)) for count in (1, 2, 2)]
            group.create_task(arrive("ada"))
            group.create_task(arrive("bob"))
        assert all(task.done() for task in waiting)

    asyncio.run(main())


def test_trio_tasks_can_wait_for_each_other() -> None:
    async def main() -> None:
        harness = GateHarness()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(harness.gate.async_wait_for, 2)
            await trio.lowlevel.checkpoint()
            harness.gate.try_hold(harness.ticket("ada"))
            harness.gate.try_hold(harness.ticket("bob"))

    trio.run(main)


class CountingEvent(CrossThreadEvent):
    """An event that counts how often it is set."""

    set_count = 0

    def set(self) -> None:
        CountingEvent.set_count += 1
        super().set()


def test_finished_and_cancelled_waiters_are_not_notified(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notification after cancellation or completion would be wasted work."""
    monkeypatch.setattr(gates, "CrossThreadEvent", CountingEvent)
    monkeypatch.setattr(CountingEvent, "set_count", 0)

    async def main() -> None:
        harness = GateHarness()
        task, other = (asyncio.create_task(harness.gate.async_wait_for(1)) for _ in range(2))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        harness.gate.try_hold(harness.ticket("ada"))
        await other
        harness.gate.try_hold(harness.ticket("bob"))

    asyncio.run(main())
    assert CountingEvent.set_count == 1


def test_no_arrival_is_lost_with_many_threads() -> None:
    harness = GateHarness()
    threads = [arrive_in_thread(harness, *[f"user-{number}"] * 50) for number in range(8)]
    harness.gate.wait_for(400)
    for thread in threads:
        thread.join()
    harness.gate.release()
    assert len(harness.released) == 400


# ------------------------------------------------------------ closing

CLOSED_MESSAGE = "gate 'pay': 1 of 2 calls arrived before its sandbox closed or was reset; it holds no calls"


def test_close_ends_blocking_wait_and_releases_held_calls() -> None:
    harness = GateHarness("ada")
    ending = threading.Thread(target=harness.gate.close)
    ending.start()
    with pytest.raises(GateTimeout, match=CLOSED_MESSAGE):
        harness.gate.wait_for(2, limit_s=LONG_S)
    ending.join()
    assert harness.released == ["ada"]


@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_close_ends_async_wait(library: str) -> None:
    harness = GateHarness("ada")

    async def main() -> None:
        with pytest.raises(GateTimeout, match=CLOSED_MESSAGE):
            await harness.gate.async_wait_for(2, limit_s=LONG_S)

    ending = threading.Thread(target=harness.gate.close)
    ending.start()
    asyncio.run(main()) if library == "asyncio" else trio.run(main)
    ending.join()


def test_wait_for_succeeds_after_close_if_calls_had_arrived() -> None:
    harness = GateHarness("ada")
    harness.gate.close()
    harness.gate.wait_for(1)
