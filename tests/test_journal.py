"""Test the record of exchanges: bounded, queried, listened to, and read while others write."""

import threading
from typing import Any

import msgspec
import pytest

from fake_credits.journal import JOURNAL_LIMIT, Entry, Journal


def entry(ordinal: int, **fields: Any) -> Entry:
    return Entry(ordinal=ordinal, request_id=f"req_{ordinal}", at_ms=0, method="GET", target="/", **fields)


@pytest.fixture
def journal() -> Journal:
    return Journal(threading.RLock())


def test_a_journal_keeps_the_last_ten_thousand_and_counts_all(journal: Journal) -> None:
    for ordinal in range(1, JOURNAL_LIMIT + 6):
        journal.write(entry(ordinal))
    assert len(journal) == JOURNAL_LIMIT == 10_000
    assert journal.total == JOURNAL_LIMIT + 5
    assert [kept.ordinal for kept in journal][:1] == [6]
    assert repr(journal) == "<Journal of 10000 exchanges, seed 0>"


def test_entries_are_chosen_by_operation_and_by_user(journal: Journal) -> None:
    journal.write(entry(1, operation="getBalance", user="ada"))
    journal.write(entry(2, operation="getBalance", user="bob"))
    journal.write(entry(3, operation="getUser", user="ada"))
    assert [found.ordinal for found in journal.entries()] == [1, 2, 3]
    assert [found.ordinal for found in journal.entries(operation="getBalance")] == [1, 2]
    assert [found.ordinal for found in journal.entries(user="ada")] == [1, 3]
    assert [found.ordinal for found in journal.entries(operation="getUser", user="ada")] == [3]
    assert journal.entries(user="eve") == journal.entries(user="") == ()


def test_an_entry_cannot_be_rewritten(journal: Journal) -> None:
    journal.write(entry(1))
    (kept,) = journal.entries()
    with pytest.raises(AttributeError):
        kept.status = 500  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def test_entries_say_the_same_as_json(journal: Journal) -> None:
    """The control plane and the report send them as they are."""
    first = entry(1, delta=-5, reason="consume", committed=True)
    assert msgspec.json.decode(msgspec.json.encode(first), type=Entry) == first


def test_the_listener_hears_each_entry_and_may_read_the_journal(journal: Journal) -> None:
    heard: list[tuple[int, int]] = []
    journal.listener = lambda new: heard.append((new.ordinal, len(journal)))
    journal.write(entry(1))
    journal.write(entry(2))
    journal.listener = None
    journal.write(entry(3))
    assert heard == [(1, 1), (2, 2)]


def test_watchers_hear_each_new_and_each_amended_entry_until_they_are_taken_off(journal: Journal) -> None:
    heard: list[tuple[str, Entry]] = []

    def one(new: Entry) -> None:
        heard.append(("one", new))

    def two(new: Entry) -> None:
        heard.append(("two", new))

    journal.watch(one)
    journal.write(entry(1))
    journal.watch(two)
    journal.amend(entry(1, committed=True))
    journal.unwatch(one)
    journal.write(entry(2))
    journal.unwatch(two)
    journal.write(entry(3))
    landed, last = entry(1, committed=True), entry(2)
    assert heard == [("one", entry(1)), ("one", landed), ("two", landed), ("two", last)]


def test_what_newer_entries_push_out_is_counted_until_the_journal_is_cleared() -> None:
    journal = Journal(threading.RLock(), limit=2)
    for ordinal in (1, 2):
        journal.write(entry(ordinal))
    assert journal.dropped == 0
    journal.write(entry(3))
    assert journal.dropped == 1
    journal.clear()
    assert journal.dropped == 0
    for ordinal in (4, 5, 6):
        journal.write(entry(ordinal))
    assert journal.dropped == 1


def test_what_has_begun_and_not_ended_is_under_way(journal: Journal) -> None:
    first, second = journal.next_ordinal(), journal.next_ordinal()
    assert (first, second, journal.under_way) == (1, 2, 2)
    journal.write(entry(second))
    assert journal.under_way == 1
    journal.write(entry(first))
    assert journal.under_way == 0


def test_clearing_forgets_entries_but_neither_ordinals_nor_what_is_under_way(journal: Journal) -> None:
    journal.write(entry(journal.next_ordinal()))
    late = journal.next_ordinal()
    journal.clear()
    assert (len(journal), journal.under_way, journal.next_ordinal()) == (0, 1, late + 1)


def test_a_journal_is_read_whole_while_four_threads_write_to_it() -> None:
    journal = Journal(threading.RLock(), limit=50)

    def write() -> None:
        for _ in range(500):
            journal.write(entry(journal.next_ordinal()))

    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        ordinals = [kept.ordinal for kept in journal]
        assert len(ordinals) == len(set(ordinals)) <= 50
    assert (journal.total, journal.under_way, len(journal)) == (2000, 0, 50)


@pytest.mark.parametrize("operation", ["createTransacton", ""])
def test_an_operation_that_there_is_not_is_refused(journal: Journal, operation: str) -> None:
    """Or a test that asserts that nothing was asked of it could never fail."""
    with pytest.raises(ValueError, match=f"there is no operation '{operation}'"):
        journal.entries(operation=operation)
