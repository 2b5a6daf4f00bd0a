"""Gates: who waits where, who is let go in which order, and what ends a wait."""

import asyncio
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import trio

from fake_credits.errors import GateTimeout
from fake_credits.faults import Gate, gates
from fake_credits.faults.gates import GateTicket
from fake_credits.thread_events import CrossThreadEvent

LONG_S = 30.0
SHORT_S = 0.002


class House:
    """Be a gate with guests, noting in which order they go."""

    def __init__(self, *users: str) -> None:
        self.opened = 0
        self.gone: list[str] = []
        self.gate = Gate("pay", LONG_S, self._note_opening)
        self.tickets = [self.ticket(user, number) for number, user in enumerate(users, 1)]
        for ticket in self.tickets:
            assert self.gate.try_hold(ticket)

    def _note_opening(self, gate: Gate) -> None:
        assert gate is self.gate
        self.opened += 1

    def ticket(self, user: str, ordinal: int = 9, go: Callable[[], None] | None = None) -> GateTicket:
        return GateTicket(
            user, ordinal, f"createTransaction of {user} (#{ordinal})", go or (lambda: self.gone.append(user))
        )


@pytest.fixture(autouse=True)
def threads_end() -> Iterator[None]:
    """No wait leaves a thread behind."""
    before = threading.active_count()
    yield
    assert threading.active_count() == before


# ------------------------------------------------------------ release

ORDERS: dict[str, tuple[Sequence[int | str], list[str]]] = {
    "nobody named: by arrival": ([], ["ada", "bob", "cy"]),
    "by number": ([2, 0, 1], ["cy", "ada", "bob"]),
    "by user": (["bob", "cy", "ada"], ["bob", "cy", "ada"]),
    "by both": (["cy", 0, "bob"], ["cy", "ada", "bob"]),
    "some first, the others by arrival": (["bob"], ["bob", "ada", "cy"]),
}


@pytest.mark.parametrize(("order", "gone"), ORDERS.values(), ids=ORDERS)
def test_release_lets_go_in_the_order_that_it_is_told(order: Sequence[int | str], gone: list[str]) -> None:
    house = House("ada", "bob", "cy")
    house.gate.release(order)
    assert house.gone == gone
    assert len(house.gate) == 0
    assert house.gate.is_open


def test_release_runs_each_to_its_next_wait_before_the_next_and_returns_after_the_last() -> None:
    """Waking them in order is not enough: they would race to run."""
    running: list[str] = []

    def go(user: str) -> Callable[[], None]:
        return lambda: running.extend((f"{user} begins", f"{user} ends"))

    house = House()
    for user in ("ada", "bob"):
        house.gate.try_hold(house.ticket(user, go=go(user)))
    house.gate.release([1, 0])
    assert running == ["bob begins", "bob ends", "ada begins", "ada ends"]


def test_an_open_gate_holds_nobody() -> None:
    house = House("ada")
    house.gate.release()
    assert house.opened == 1
    assert not house.gate.try_hold(house.ticket("bob"))
    assert (len(house.gate), house.gate.arrivals, house.gone) == (0, 2, ["ada"])


def test_a_gate_is_opened_before_those_it_held_run_so_that_none_of_them_meets_it_again() -> None:
    house = House()
    opened: list[int] = []
    house.gate.try_hold(house.ticket("ada", go=lambda: opened.append(house.opened)))
    house.gate.release()
    assert opened == [1]


def test_with_keep_the_others_stay_and_the_gate_stays_closed() -> None:
    house = House("ada", "bob", "cy")
    house.gate.release(["bob"], keep=True)
    assert (house.gone, house.opened, house.gate.is_open) == (["bob"], 0, False)
    assert house.gate.waiters() == "createTransaction of ada (#1), createTransaction of cy (#3)"
    assert house.gate.try_hold(house.ticket("dee"))
    house.gate.release([1], keep=True)  # by arrival, among those that are still held
    assert house.gone == ["bob", "cy"]
    house.gate.release()
    assert house.gone == ["bob", "cy", "ada", "dee"]


def test_with_keep_and_nobody_named_nobody_goes() -> None:
    house = House("ada")
    house.gate.release(keep=True)
    assert (house.gone, len(house.gate)) == ([], 1)


WRONG: dict[str, tuple[Sequence[int | str], str]] = {
    "a number too high": ([3], "the gate 'pay' holds 3: there is no number 3"),
    "a number below 0": ([-1], "there is no number -1"),
    "a user who is not there": (["eve"], r"holds 0 calls of 'eve' \(it holds createTransaction of ada \(#1\), .*cy"),
    "a user who is there twice": (["cy"], "holds 2 calls of 'cy'"),
    "somebody twice": (["ada", 0], r"order is \['ada', 0\], which names somebody twice"),
    "true for 1": ([True], "holds 0 calls of True"),
}


@pytest.mark.parametrize(("order", "problem"), WRONG.values(), ids=WRONG)
def test_an_order_that_can_t_be_is_refused_and_nobody_goes(order: Sequence[int | str], problem: str) -> None:
    house = House("ada", "cy", "cy") if "cy" in order else House("ada", "bob", "cy")
    with pytest.raises(ValueError, match=problem):
        house.gate.release(order)
    assert (house.gone, len(house.gate), house.opened) == ([], 3, 0)


def test_an_order_that_is_no_list_is_refused_with_one() -> None:
    house = House("ada")
    for order, problem in (
        ("ada", r"order is 'ada', a str: it must be a list, such as \['ada'\]"),
        (5, "5, a int"),
        (None, "None"),
    ):
        with pytest.raises(TypeError, match=problem):
            house.gate.release(order)  # type: ignore[arg-type]
    assert (house.gone, len(house.gate)) == ([], 1)


def test_one_that_fails_stops_none_behind_it() -> None:
    def fail() -> None:
        raise RuntimeError("ada failed")

    house = House()
    house.gate.try_hold(house.ticket("ada", go=fail))
    house.gate.try_hold(house.ticket("bob"))
    with pytest.raises(RuntimeError, match="ada failed"):
        house.gate.release()
    assert house.gone == ["bob"]


def test_one_that_goes_may_arrive_at_the_gate_again() -> None:
    house = House()
    again = house.ticket("ada")
    house.gate.try_hold(house.ticket("ada", go=lambda: house.gone.append(str(house.gate.try_hold(again)))))
    house.gate.release([0], keep=True)
    assert (house.gone, len(house.gate)) == (["True"], 1)
    house.gate.release()
    assert house.gone == ["True", "ada"]


def test_who_withdraws_is_not_let_go() -> None:
    house = House("ada", "bob")
    assert house.gate.remove_ticket(house.tickets[0])
    assert not house.gate.remove_ticket(house.tickets[0])
    house.gate.release()
    assert house.gone == ["bob"]
    assert not house.gate.remove_ticket(house.tickets[1])


def test_two_calls_of_one_user_are_two() -> None:
    """They are told apart by what they are, not by what they look like."""
    house = House()
    twins = [house.ticket("ada", 1), house.ticket("ada", 1)]
    for twin in twins:
        house.gate.try_hold(twin)
    house.gate.remove_ticket(twins[1])
    assert not house.gate.remove_ticket(twins[1])
    assert len(house.gate) == 1


def test_a_gate_says_whom_it_holds() -> None:
    house = House("ada")
    assert repr(house.gate) == "<gate 'pay': closed, holds createTransaction of ada (#1)>"
    house.gate.release()
    assert repr(house.gate) == "<gate 'pay': open, holds nobody>"


# ------------------------------------------------------------ waiting


def arrive_from_a_thread(house: House, *users: str) -> threading.Thread:
    thread = threading.Thread(target=lambda: [house.gate.try_hold(house.ticket(user)) for user in users])
    thread.start()
    return thread


def test_a_thread_waits_until_so_many_have_arrived() -> None:
    house = House("ada")
    house.gate.wait_for()
    house.gate.wait_for(1)
    thread = arrive_from_a_thread(house, "bob", "cy")
    house.gate.wait_for(3)
    assert house.gate.arrivals == 3
    thread.join()


def test_those_who_have_gone_have_arrived_all_the_same() -> None:
    house = House("ada", "bob")
    house.gate.release([0], keep=True)
    house.gate.remove_ticket(house.tickets[1])
    house.gate.wait_for(2)


def test_those_who_come_to_an_open_gate_have_arrived() -> None:
    """Else a wait that came late would never end."""
    house = House("ada")
    house.gate.release()
    thread = arrive_from_a_thread(house, "bob")
    house.gate.wait_for(2)
    thread.join()


def test_a_wait_at_a_gate_that_was_released_says_so() -> None:
    gate = House().gate
    gate.add_expected_calls("any call")
    gate.release()
    with pytest.raises(GateTimeout, match=r"0 of 1 arrived within 0.002 s; it was released, so calls pass it: hold"):
        gate.wait_for(limit_s=SHORT_S)


def test_a_wait_of_a_thread_has_a_limit_and_names_gate_and_waiters() -> None:
    house = House("ada")
    with pytest.raises(GateTimeout, match=r"gate 'pay': 1 of 2 arrived within 0.002 s; it holds .* of ada \(#1\)"):
        house.gate.wait_for(2, limit_s=SHORT_S)
    with pytest.raises(GateTimeout, match="0 of 1 arrived within 0.002 s; it holds nobody"):
        Gate("pay", SHORT_S, lambda _: None).wait_for()


BAD_WAITS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "for nobody": ({"count": 0}, ValueError, "count must be 1 or more, not 0"),
    "for fewer": ({"count": -1}, ValueError, "count must be 1 or more, not -1"),
    "for one and a half": ({"count": 1.5}, TypeError, "count must be an int, not float"),
    "for truth": ({"count": True}, TypeError, "count must be an int, not bool"),
    "for a text": ({"count": "1"}, TypeError, "count must be an int, not str"),
    "less than no time": ({"limit_s": -1}, ValueError, "limit_s must be 0 or more and finite, not -1"),
    "NaN": ({"limit_s": math.nan}, ValueError, "limit_s must be 0 or more and finite, not nan"),
    "for ever": ({"limit_s": math.inf}, ValueError, "limit_s must be 0 or more and finite, not inf"),
    "a text's time": ({"limit_s": "1"}, TypeError, "limit_s must be a number of seconds, not str"),
    "truth's time": ({"limit_s": True}, TypeError, "limit_s must be a number of seconds, not bool"),
}


@pytest.mark.parametrize(("words", "kind", "problem"), BAD_WAITS.values(), ids=BAD_WAITS)
def test_a_wait_that_can_t_be_is_refused(words: dict[str, Any], kind: type[Exception], problem: str) -> None:
    gate = House("ada").gate
    with pytest.raises(kind, match=problem):
        gate.wait_for(**words)
    with pytest.raises(kind, match=problem):
        asyncio.run(gate.async_wait_for(**words))


def test_a_gate_tells_which_calls_it_waits_for() -> None:
    gate = House().gate
    gate.add_expected_calls("getUser with user='ada'")
    gate.add_expected_calls("any call")
    gate.add_expected_calls("any call")
    with pytest.raises(GateTimeout, match="it holds nobody; it waits for getUser with user='ada' or any call$"):
        gate.wait_for(limit_s=SHORT_S)


async def waits_in_a_loop() -> None:
    house = House("ada")
    await house.gate.async_wait_for()
    thread = arrive_from_a_thread(house, "bob")
    await house.gate.async_wait_for(2)
    thread.join()
    with pytest.raises(GateTimeout, match="gate 'pay': 2 of 3 arrived within 0.002 s"):
        await house.gate.async_wait_for(3, limit_s=SHORT_S)
    with pytest.raises(
        RuntimeError, match=r"gate.wait_for would stop the event loop .*: write `await gate.async_wait_for\(2\)`"
    ):
        house.gate.wait_for(2)


def test_a_task_of_asyncio_waits_until_so_many_have_arrived() -> None:
    asyncio.run(waits_in_a_loop())


def test_a_task_of_trio_waits_until_so_many_have_arrived() -> None:
    trio.run(waits_in_a_loop)


def test_tasks_of_one_loop_wait_for_one_another() -> None:
    async def main() -> None:
        house = House()

        async def come(user: str) -> None:
            house.gate.try_hold(house.ticket(user))

        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(house.gate.async_wait_for(count)) for count in (1, 2, 2)]
            group.create_task(come("ada"))
            group.create_task(come("bob"))
        assert all(task.done() for task in waiting)

    asyncio.run(main())


def test_tasks_of_trio_wait_for_one_another() -> None:
    async def main() -> None:
        house = House()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(house.gate.async_wait_for, 2)
            await trio.lowlevel.checkpoint()
            house.gate.try_hold(house.ticket("ada"))
            house.gate.try_hold(house.ticket("bob"))

    trio.run(main)


class CountingEvent(CrossThreadEvent):
    """Count how often a gate wakes anybody."""

    set_count = 0

    def set(self) -> None:
        CountingEvent.set_count += 1
        super().set()


def test_who_waits_no_more_is_woken_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one who was cancelled nor one who has gone on."""
    monkeypatch.setattr(gates, "CrossThreadEvent", CountingEvent)
    monkeypatch.setattr(CountingEvent, "set_count", 0)

    async def main() -> None:
        house = House()
        task, other = (asyncio.create_task(house.gate.async_wait_for(1)) for _ in range(2))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        house.gate.try_hold(house.ticket("ada"))
        await other
        house.gate.try_hold(house.ticket("bob"))

    asyncio.run(main())
    assert CountingEvent.set_count == 1


def test_many_threads_arrive_and_none_is_lost() -> None:
    house = House()
    threads = [arrive_from_a_thread(house, *[f"user-{number}"] * 50) for number in range(8)]
    house.gate.wait_for(400)
    for thread in threads:
        thread.join()
    house.gate.release()
    assert len(house.gone) == 400


# ------------------------------------------------------------ the sandbox's end

OVER = "gate 'pay': 1 of 2 arrived before its sandbox's end or reset; it holds nobody"


def test_the_end_ends_a_wait_of_a_thread_at_once_and_lets_everybody_go() -> None:
    house = House("ada")
    ending = threading.Thread(target=house.gate.close)
    ending.start()
    with pytest.raises(GateTimeout, match=OVER):
        house.gate.wait_for(2, limit_s=LONG_S)
    ending.join()
    assert house.gone == ["ada"]


@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_the_end_ends_a_wait_of_a_task_at_once(library: str) -> None:
    house = House("ada")

    async def main() -> None:
        with pytest.raises(GateTimeout, match=OVER):
            await house.gate.async_wait_for(2, limit_s=LONG_S)

    ending = threading.Thread(target=house.gate.close)
    ending.start()
    asyncio.run(main()) if library == "asyncio" else trio.run(main)
    ending.join()


def test_who_has_arrived_before_the_end_is_not_denied() -> None:
    house = House("ada")
    house.gate.close()
    house.gate.wait_for(1)
