"""Test the questions and assertions of a test: was it called, how often, in which order, and waiting for it."""

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
from tests.assertions.conftest import Told, entry

Run = Callable[[Callable[[], Awaitable[None]]], None]


def on_asyncio(main: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await main()

    asyncio.run(run())


RUNS: list[Run] = [on_asyncio, trio.run]


@pytest.fixture(params=RUNS, ids=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Run:
    found: Run = request.param
    return found


@pytest.fixture(autouse=True)
def nothing_is_left(journal: JournalAssertions) -> Iterator[None]:
    """No wait leaves a thread, or a watcher of the journal, behind."""
    before = threading.active_count()
    yield
    assert threading.active_count() == before
    assert vars(journal)["_watchers"] == ()


def in_thread(what: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=what)
    thread.start()
    return thread


def test_calls_are_found_by_criteria(journal: JournalAssertions, tell: Told) -> None:
    first, _, third = tell(delta=-1), tell("getBalance"), tell(delta=-2)
    assert journal.calls("createTransaction") == (first, third)
    assert journal.calls(user="ada", delta=-2) == (third,)
    assert len(journal.calls()) == 3


def test_a_call_that_was_made_is_returned(journal: JournalAssertions, tell: Told) -> None:
    told = tell(delta=-1), tell(delta=-1)
    assert journal.assert_called("createTransaction", delta=-1) == told
    assert journal.assert_called("createTransaction", delta=-1, times=2) == told
    assert journal.assert_called("createUser", times=0) == ()


@pytest.mark.parametrize("times", [None, 2])
def test_a_call_that_was_not_made_fails(journal: JournalAssertions, tell: Told, times: int | None) -> None:
    tell("getBalance")
    with pytest.raises(AssertionError, match="^createTransaction was "):
        journal.assert_called("createTransaction", times=times)


@pytest.mark.parametrize("times", [0, 1, 3])
def test_a_wrong_number_of_calls_fails(journal: JournalAssertions, tell: Told, times: int) -> None:
    tell()
    tell()
    with pytest.raises(AssertionError, match=f"createTransaction was called 2 times, not {times} time"):
        journal.assert_called("createTransaction", times=times)


def test_absence_is_asserted_of_a_call_or_of_all(journal: JournalAssertions, tell: Told) -> None:
    journal.assert_not_called()
    tell("getBalance")
    journal.assert_not_called("createTransaction")
    journal.assert_not_called("getBalance", user="bob")
    with pytest.raises(AssertionError, match="getBalance was called 1 time, not 0 times"):
        journal.assert_not_called("getBalance")
    with pytest.raises(AssertionError, match="any call was called 1 time"):
        journal.assert_not_called()


def test_what_the_journal_has_dropped_proves_nothing() -> None:
    """Neither an absence nor a number; presence and order do not suffer."""
    journal = JournalAssertions(threading.RLock(), limit=2)
    for ordinal in (1, 2):
        journal.write(entry(ordinal))
    journal.assert_called("createTransaction", times=2)
    journal.write(entry(3))
    with pytest.raises(AssertionError, match="nobody can tell whether createUser was called 0 times"):
        journal.assert_not_called("createUser")
    with pytest.raises(AssertionError, match="keeps 2 exchanges and has dropped 1 before them"):
        journal.assert_called("createTransaction", times=2)
    journal.assert_called("createTransaction")
    journal.assert_order("createTransaction", "createTransaction")
    journal.clear()
    journal.assert_not_called()


def test_an_order_may_have_other_calls_between(journal: JournalAssertions, tell: Told) -> None:
    told = [tell(name) for name in ("createUser", "getBalance", "createTransaction", "getBalance")]
    assert journal.assert_order("createUser", "createTransaction") == (told[0], told[2])
    assert journal.assert_order("getBalance", Call("getBalance", user="ada")) == (told[1], told[3])


def test_calls_in_another_order_fail(journal: JournalAssertions, tell: Told) -> None:
    tell("getBalance", status=200)
    tell("createUser", status=200)
    tell("createUser", user="bob")
    with pytest.raises(AssertionError) as failed:
        journal.assert_order("createUser", Call("getBalance", user="ada"))
    assert str(failed.value).splitlines() == [
        "getBalance(user='ada') was not called after createUser, #2; only at or before it: #1",
        "the nearest of 1 exchange, != where they differ:",
        "        operation      user      answer",
        "wanted  getBalance     'ada'",
        "#3      != createUser  != 'bob'  201",
    ]


def test_an_order_that_lacks_a_call_fails(journal: JournalAssertions, tell: Told) -> None:
    tell("createUser")
    with pytest.raises(AssertionError, match="^getUser was not called, the first of 2 in order"):
        journal.assert_order("getUser", "createUser")
    with pytest.raises(AssertionError, match="^getUser was not called after createUser, #1$"):
        journal.assert_order("createUser", "getUser")
    with pytest.raises(AssertionError, match=r"^createUser was not called after createUser, #1; only at or .* #1$"):
        journal.assert_order("createUser", "createUser")


@pytest.mark.parametrize("calls", [[], ["createUser"]])
def test_an_order_needs_two_calls(journal: JournalAssertions, calls: list[str]) -> None:
    with pytest.raises(ValueError, match="two calls or more"):
        journal.assert_order(*calls)


def test_committed_writes_that_share_a_key_are_found(journal: JournalAssertions, tell: Told) -> None:
    first = tell(committed=True, idempotency_key="a", delivered=False)
    tell(committed=False, idempotency_key="a")
    tell(committed=True, idempotency_key="b")
    tell(committed=True)
    tell(committed=True)
    assert journal.committed_twice() == {}
    journal.assert_committed_once()
    again = tell(committed=True, idempotency_key="a", user="bob")
    assert journal.committed_twice() == {"a": (first, again)}
    assert journal.committed_twice(user="ada") == {}
    with pytest.raises(AssertionError, match="'a': #1 createTransaction for 'ada', #6 createTransaction for 'bob'"):
        journal.assert_committed_once("createTransaction")


def test_writes_without_keys_prove_nothing_about_retries(journal: JournalAssertions, tell: Told) -> None:
    tell(committed=True)
    tell(idempotency_key="a")
    with pytest.raises(AssertionError, match="no committed write among any call bears an idempotency key"):
        journal.assert_committed_once()


def test_keys_that_were_dropped_prove_nothing_either() -> None:
    journal = JournalAssertions(threading.RLock(), limit=1)
    for ordinal in (1, 2):
        journal.write(entry(ordinal, committed=True, idempotency_key="a"))
    with pytest.raises(AssertionError, match="nobody can tell whether any call was committed once a key"):
        journal.assert_committed_once()


def test_a_header_that_is_not_kept_is_refused() -> None:
    journal = JournalAssertions(threading.RLock(), kept_headers=("traceparent", "x-tenant"))
    journal.write(entry(1, headers={"x-tenant": "a"}))
    journal.assert_called(headers={"X-Tenant": "a"})
    with pytest.raises(ValueError, match=r"'x-other' is not kept: name it in keep_headers \(kept: traceparent, x-"):
        journal.assert_not_called(headers={"X-Other": "a"})


def test_a_call_that_has_been_is_not_waited_for(journal: JournalAssertions, tell: Told, run: Run) -> None:
    told = tell()
    assert journal.wait_for("createTransaction", timeout_s=0) == (told,)

    async def main() -> None:
        assert await journal.async_wait_for("createTransaction", timeout_s=0) == (told,)

    run(main)


def test_a_thread_waits_until_there_are_enough(journal: JournalAssertions, tell: Told) -> None:
    def calls() -> None:
        tell("getBalance")
        tell()
        tell(user="bob")
        tell()

    caller = in_thread(calls)
    found = journal.wait_for("createTransaction", user="ada", times=2)
    assert len(found) == 2
    caller.join()


def test_a_task_waits_until_there_are_enough(journal: JournalAssertions, tell: Told, run: Run) -> None:
    """Under a stopped clock too."""

    async def main() -> None:
        with freeze_time("2030-01-01"):
            caller = in_thread(lambda: [tell("getBalance"), tell(), tell()])
            assert len(await journal.async_wait_for("createTransaction", times=2)) == 2
            caller.join()

    run(main)


def test_what_an_exchange_does_later_is_waited_for_too(journal: JournalAssertions, tell: Told) -> None:
    """As a write that lands after its client gave up."""
    late = tell(delivered=False)
    landing = in_thread(lambda: journal.replace(structs.replace(late, committed=True)))
    (landed,) = journal.wait_for("createTransaction", committed=True, delivered=False)
    assert landed.ordinal == late.ordinal
    landing.join()


def test_a_wait_ends_at_its_limit_with_the_nearest_calls(journal: JournalAssertions, tell: Told, run: Run) -> None:
    tell(delta=-1)
    message = r"within 0.001 s createTransaction\(delta=-2\) was called 0 times, not 1 time\nthe nearest of 1 exchange"
    with pytest.raises(AssertionError, match=message):
        journal.wait_for("createTransaction", delta=-2, timeout_s=0.001)

    async def main() -> None:
        with freeze_time("2030-01-01"), pytest.raises(AssertionError, match=message):
            await journal.async_wait_for("createTransaction", delta=-2, timeout_s=0.001)

    run(main)


def test_a_condition_that_fails_fails_in_the_waiter_and_not_in_the_exchange(
    journal: JournalAssertions, tell: Told
) -> None:
    def condition(told: JournalEntry) -> bool:
        raise ZeroDivisionError(told.ordinal)

    def wait() -> None:
        with pytest.raises(ZeroDivisionError):
            journal.wait_for(where=condition)
        ended.append(True)

    ended: list[bool] = []
    waiter = in_thread(wait)
    while not vars(journal)["_watchers"]:
        pass
    tell()
    waiter.join()
    assert ended == [True]


def test_a_running_loop_is_told_what_to_write(journal: JournalAssertions, run: Run) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"write `await credits.journal.async_wait_for\(...\)`"):
            journal.wait_for("createUser")

    run(main)


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        ({"times": 0}, ValueError, "times must be 1 or more, not 0"),
        ({"times": True}, TypeError, "times must be an int, not bool"),
        ({"times": "2"}, TypeError, "times must be an int, not str"),
        ({"timeout_s": -1}, ValueError, "timeout_s must be 0 or more and finite, not -1"),
        ({"timeout_s": float("inf")}, ValueError, "finite"),
        ({"timeout_s": float("nan")}, ValueError, "finite"),
        ({"timeout_s": None}, TypeError, "timeout_s must be a number of seconds, not NoneType"),
        ({"usr": "ada"}, TypeError, "did you mean 'user'"),
    ],
)
def test_what_can_t_be_waited_for_is_refused(journal: JournalAssertions, words: Any, kind: type, message: str) -> None:
    with pytest.raises(kind, match=message):
        journal.wait_for("createUser", **words)


def test_numbers_of_calls_are_checked(journal: JournalAssertions) -> None:
    with pytest.raises(ValueError, match="times must be 0 or more, not -1"):
        journal.assert_called("createUser", times=-1)


ASKED: list[Callable[[JournalAssertions], object]] = [
    lambda journal: journal.calls(""),
    lambda journal: journal.assert_called(""),
    lambda journal: journal.assert_not_called(""),
    lambda journal: journal.assert_order("createUser", ""),
    lambda journal: journal.committed_twice(""),
    lambda journal: journal.assert_committed_once(""),
    lambda journal: journal.wait_for(""),
]


@pytest.mark.parametrize("ask", ASKED)
def test_an_empty_operation_is_none_and_does_not_mean_any(
    journal: JournalAssertions, ask: Callable[[JournalAssertions], object]
) -> None:
    """It comes of a variable that is empty by mistake."""
    with pytest.raises(ValueError, match="there is no operation '': choose one of createUser"):
        ask(journal)
