"""Test the journal's assertions: calls, counts, order, idempotency keys and waiting for calls."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import trio
from freezegun import freeze_time
from msgspec import structs

from fake_credits import Call
from fake_credits.assertions import JournalAssertions
from fake_credits.journal import JournalEntry
from tests.assertions.conftest import WriteEntry, entry

RunMain = Callable[[Callable[[], Awaitable[None]]], None]


def on_asyncio(main: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await main()

    asyncio.run(run())


LOOP_RUNNERS: list[RunMain] = [on_asyncio, trio.run]


@pytest.fixture(params=LOOP_RUNNERS, ids=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> RunMain:
    runner: RunMain = request.param
    return runner


@pytest.fixture(autouse=True)
def no_threads_or_watchers_left(journal: JournalAssertions) -> Iterator[None]:
    """Fail a test that leaves a thread or a journal watcher behind."""
    before = threading.active_count()
    yield
    assert threading.active_count() == before
    assert vars(journal)["_watchers"] == ()


def in_thread(target: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=target)
    thread.start()
    return thread


def test_calls_returns_matching_entries(journal: JournalAssertions, write_entry: WriteEntry) -> None:
    first, _, third = write_entry(delta=-1), write_entry("getBalance"), write_entry(delta=-2)
    assert journal.calls("createTransaction") == (first, third)
    assert journal.calls(user="ada", delta=-2) == (third,)
    assert len(journal.calls()) == 3


def test_assert_called_returns_matching_calls(journal: JournalAssertions, write_entry: WriteEntry) -> None:
    entries = write_entry(delta=-1), write_entry(delta=-1)
    assert journal.assert_called("createTransaction", delta=-1) == entries
    assert journal.assert_called("createTransaction", delta=-1, times=2) == entries
    assert journal.assert_called("createUser", times=0) == ()


@pytest.mark.parametrize("times", [None, 2])
def test_assert_called_fails_for_missing_call(
    journal: JournalAssertions, write_entry: WriteEntry, times: int | None
) -> None:
    write_entry("getBalance")
    with pytest.raises(AssertionError, match="^createTransaction was "):
        journal.assert_called("createTransaction", times=times)


@pytest.mark.parametrize("times", [0, 1, 3])
def test_assert_called_fails_for_wrong_number_of_calls(
    journal: JournalAssertions, write_entry: WriteEntry, times: int
) -> None:
    write_entry()
    write_entry()
    with pytest.raises(AssertionError, match=f"createTransaction was called 2 times, not {times} time"):
        journal.assert_called("createTransaction", times=times)


def test_assert_not_called_works_with_or_without_operation(journal: JournalAssertions, write_entry: WriteEntry) -> None:
    journal.assert_not_called()
    write_entry("getBalance")
    journal.assert_not_called("createTransaction")
    journal.assert_not_called("getBalance", user="bob")
    with pytest.raises(AssertionError, match="getBalance was called 1 time, not 0 times"):
        journal.assert_not_called("getBalance")
    with pytest.raises(AssertionError, match="any call was called 1 time"):
        journal.assert_not_called()


def test_absence_and_count_assertions_fail_after_entries_were_dropped() -> None:
    """Dropped entries can affect absence and counts, but not the presence or order of entries that remain."""
    journal = JournalAssertions(threading.RLock(), limit=2)
    for ordinal in (1, 2):
        journal.write(entry(ordinal))
    journal.assert_called("createTransaction", times=2)
    journal.write(entry(3))
    unknown = "^can't tell whether %s was called%s: older exchanges are missing from the journal; "
    for missing in (
        lambda: journal.assert_not_called("createUser"),
        lambda: journal.assert_called("createUser", times=0),
        lambda: journal.wait_for("createUser", timeout_s=0),
        lambda: journal.assert_called("createUser"),
        lambda: journal.assert_order("createUser", "createTransaction"),
        lambda: journal.assert_committed_once("createUser"),
    ):
        with pytest.raises(AssertionError, match=unknown % ("createUser", "( [01] times?)?") + "0 of the 2 exchanges"):
            missing()
    for times in (2, 3):
        with pytest.raises(
            AssertionError, match=unknown % ("createTransaction", f" {times} times") + "2 of the 2 exchanges"
        ):
            journal.assert_called("createTransaction", times=times)
    for times in (1, 4):  # wrong whether or not the dropped entry matched
        with pytest.raises(AssertionError, match=f"createTransaction was called at least 2 times, not {times} time"):
            journal.assert_called("createTransaction", times=times)
    with pytest.raises(AssertionError, match="the journal has dropped 1 older exchange and keeps 2"):
        journal.assert_called("createTransaction", times=2)
    journal.assert_called("createTransaction")
    journal.assert_order("createTransaction", "createTransaction")
    journal.clear()
    journal.assert_not_called()


def test_assert_order_allows_calls_in_between(journal: JournalAssertions, write_entry: WriteEntry) -> None:
    entries = [write_entry(name) for name in ("createUser", "getBalance", "createTransaction", "getBalance")]
    assert journal.assert_order("createUser", "createTransaction") == (entries[0], entries[2])
    assert journal.assert_order("getBalance", Call("getBalance", user="ada")) == (entries[1], entries[3])


def test_assert_order_fails_for_wrong_order(journal: JournalAssertions, write_entry: WriteEntry) -> None:
    write_entry("getBalance", status=200)
    write_entry("createUser", status=200)
    write_entry("createUser", user="bob")
    with pytest.raises(AssertionError) as error:
        journal.assert_order("createUser", Call("getBalance", user="ada"))
    assert str(error.value).splitlines() == [
        "getBalance(user='ada') was not called after createUser (#2); it was called only at or before that point: #1",
        "the closest of 1 exchange (!= marks a difference):",
        "        operation      user      response",
        "wanted  getBalance     'ada'",
        "#3      != createUser  != 'bob'  201",
    ]


def test_assert_order_fails_for_missing_call(journal: JournalAssertions, write_entry: WriteEntry) -> None:
    write_entry("createUser")
    with pytest.raises(AssertionError, match="^getUser, the first of 2 expected calls, was not made"):
        journal.assert_order("getUser", "createUser")
    with pytest.raises(AssertionError, match="^getUser was not called after createUser .#1.$"):
        journal.assert_order("createUser", "getUser")
    with pytest.raises(
        AssertionError, match=r"^createUser was not called after createUser .#1.; it was called only at or .* #1$"
    ):
        journal.assert_order("createUser", "createUser")


@pytest.mark.parametrize("calls", [[], ["createUser"]])
def test_assert_order_requires_two_calls(journal: JournalAssertions, calls: list[Any]) -> None:
    with pytest.raises(ValueError, match="assert_order needs at least two calls"):
        journal.assert_order(*calls)


def test_committed_writes_with_same_idempotency_key_are_found(
    journal: JournalAssertions, write_entry: WriteEntry
) -> None:
    first = write_entry(committed=True, idempotency_key="a", delivered=False)
    write_entry(committed=False, idempotency_key="a")
    write_entry(committed=True, idempotency_key="b")
    write_entry(committed=True)
    write_entry(committed=True)
    assert journal.committed_twice() == {}
    journal.assert_committed_once()
    second = write_entry(committed=True, idempotency_key="a", user="bob")
    assert journal.committed_twice() == {"a": (first, second)}
    assert journal.committed_twice(user="ada") == {}
    with pytest.raises(AssertionError, match="'a': #1 createTransaction for 'ada', #6 createTransaction for 'bob'"):
        journal.assert_committed_once("createTransaction")


def test_assert_committed_once_fails_without_idempotency_keys(
    journal: JournalAssertions, write_entry: WriteEntry
) -> None:
    write_entry(committed=True)
    write_entry(idempotency_key="a")
    with pytest.raises(AssertionError, match="no committed write that matches any call has an idempotency key"):
        journal.assert_committed_once()


def test_assert_committed_once_fails_after_entries_were_dropped() -> None:
    journal = JournalAssertions(threading.RLock(), limit=1)
    for ordinal in (1, 2):
        journal.write(entry(ordinal, committed=True, idempotency_key="a"))
    with pytest.raises(
        AssertionError, match="can't tell whether any call was committed once: older exchanges are missing"
    ):
        journal.assert_committed_once()


def test_header_that_is_not_kept_is_rejected() -> None:
    journal = JournalAssertions(threading.RLock(), kept_headers=("traceparent", "x-tenant"))
    journal.write(entry(1, headers={"x-tenant": "a"}))
    journal.assert_called(headers={"X-Tenant": "a"})
    with pytest.raises(
        ValueError, match=r"does not keep the header 'x-other': add it to keep_headers \(kept: traceparent, x-"
    ):
        journal.assert_not_called(headers={"X-Other": "a"})


def test_wait_for_returns_at_once_for_past_call(
    journal: JournalAssertions, write_entry: WriteEntry, run: RunMain
) -> None:
    past = write_entry()
    assert journal.wait_for("createTransaction", timeout_s=0) == (past,)

    async def main() -> None:
        assert await journal.async_wait_for("createTransaction", timeout_s=0) == (past,)

    run(main)


def test_wait_for_blocks_thread_until_enough_calls(journal: JournalAssertions, write_entry: WriteEntry) -> None:
    def calls() -> None:
        write_entry("getBalance")
        write_entry()
        write_entry(user="bob")
        write_entry()

    caller = in_thread(calls)
    runner = journal.wait_for("createTransaction", user="ada", times=2)
    assert len(runner) == 2
    caller.join()


def test_async_wait_for_waits_until_enough_calls(
    journal: JournalAssertions, write_entry: WriteEntry, run: RunMain
) -> None:
    """This also works while freezegun stops the clock."""

    async def main() -> None:
        with freeze_time("2030-01-01"):
            caller = in_thread(lambda: [write_entry("getBalance"), write_entry(), write_entry()])
            assert len(await journal.async_wait_for("createTransaction", times=2)) == 2
            caller.join()

    run(main)


def test_wait_for_sees_replaced_entry(journal: JournalAssertions, write_entry: WriteEntry) -> None:
    """For example, a write may be committed after its client timed out."""
    late = write_entry(delivered=False)
    replacing = in_thread(lambda: journal.replace(structs.replace(late, committed=True)))
    (replaced,) = journal.wait_for("createTransaction", committed=True, delivered=False)
    assert replaced.ordinal == late.ordinal
    replacing.join()


def test_wait_for_timeout_message_lists_nearest_calls(
    journal: JournalAssertions, write_entry: WriteEntry, run: RunMain
) -> None:
    write_entry(delta=-1)
    message = r"createTransaction\(delta=-2\) was called 0 times within 0.001 s, not 1 time\nthe closest of 1 exchange"
    with pytest.raises(AssertionError, match=message):
        journal.wait_for("createTransaction", delta=-2, timeout_s=0.001)

    async def main() -> None:
        with freeze_time("2030-01-01"), pytest.raises(AssertionError, match=message):
            await journal.async_wait_for("createTransaction", delta=-2, timeout_s=0.001)

    run(main)


def test_error_in_where_function_is_raised_in_waiter(journal: JournalAssertions, write_entry: WriteEntry) -> None:
    def condition(candidate: JournalEntry) -> bool:
        raise ZeroDivisionError(candidate.ordinal)

    def wait() -> None:
        with pytest.raises(ZeroDivisionError):
            journal.wait_for(where=condition)
        results.append(True)

    results: list[bool] = []
    waiter = in_thread(wait)
    while not vars(journal)["_watchers"]:
        pass
    write_entry()
    waiter.join()
    assert results == [True]


def test_wait_for_in_event_loop_suggests_async_wait_for(journal: JournalAssertions, run: RunMain) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"use `await credits.journal.async_wait_for\(...\)`"):
            journal.wait_for("createUser")

    run(main)


@pytest.mark.parametrize(
    ("arguments", "error_type", "message"),
    [
        ({"times": 0}, ValueError, "times must be 1 or more, not 0"),
        ({"times": True}, TypeError, "times must be an int, not bool"),
        ({"times": "2"}, TypeError, "times must be an int, not str"),
        ({"timeout_s": -1}, ValueError, "timeout_s must be finite and at least 0, not -1"),
        ({"timeout_s": float("inf")}, ValueError, "finite"),
        ({"timeout_s": float("nan")}, ValueError, "finite"),
        ({"timeout_s": None}, TypeError, "timeout_s must be a number of seconds, not NoneType"),
        ({"usr": "ada"}, TypeError, "did you mean 'user'"),
    ],
)
def test_invalid_wait_for_argument_is_rejected(
    journal: JournalAssertions, arguments: Any, error_type: type, message: str
) -> None:
    with pytest.raises(error_type, match=message):
        journal.wait_for("createUser", **arguments)


def test_negative_times_argument_is_rejected(journal: JournalAssertions) -> None:
    with pytest.raises(ValueError, match="times must be 0 or more, not -1"):
        journal.assert_called("createUser", times=-1)


OPERATION_CALLS: list[Callable[[Any], object]] = [
    lambda journal: journal.calls(""),
    lambda journal: journal.assert_called(""),
    lambda journal: journal.assert_not_called(""),
    lambda journal: journal.assert_order("createUser", ""),
    lambda journal: journal.committed_twice(""),
    lambda journal: journal.assert_committed_once(""),
    lambda journal: journal.wait_for(""),
]


@pytest.mark.parametrize("call", OPERATION_CALLS)
def test_empty_operation_is_rejected(journal: JournalAssertions, call: Callable[[JournalAssertions], object]) -> None:
    """An empty operation usually comes from an unset variable."""
    with pytest.raises(ValueError, match=r"unknown operation '' \(known: \*, reads, writes, createUser"):
        call(journal)
