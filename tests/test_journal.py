"""Test the record of exchanges: bounded, queried, listened to, and read while others write."""

import threading
from typing import Any

import msgspec
import pytest

from fake_credits import FakeCredits
from fake_credits.contract import DEFAULT_CONTRACT
from fake_credits.contract.loading import contract_from
from fake_credits.journal import MAX_JOURNAL_ENTRIES, Journal, JournalEntry, JournalHeaders


def entry(ordinal: int, **fields: Any) -> JournalEntry:
    return JournalEntry(ordinal=ordinal, request_id=f"req_{ordinal}", at_ms=0, method="GET", target="/", **fields)


@pytest.fixture
def journal() -> Journal:
    return Journal(threading.RLock())


def test_a_journal_keeps_the_last_ten_thousand_and_counts_all(journal: Journal) -> None:
    for ordinal in range(1, MAX_JOURNAL_ENTRIES + 6):
        journal.write(entry(ordinal))
    assert len(journal) == MAX_JOURNAL_ENTRIES == 10_000
    assert journal.total == MAX_JOURNAL_ENTRIES + 5
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
    assert msgspec.json.decode(msgspec.json.encode(first), type=JournalEntry) == first


def test_the_listener_hears_each_entry_and_may_read_the_journal(journal: Journal) -> None:
    heard: list[tuple[int, int]] = []
    journal.on_write = lambda new: heard.append((new.ordinal, len(journal)))
    journal.write(entry(1))
    journal.write(entry(2))
    journal.on_write = None
    journal.write(entry(3))
    assert heard == [(1, 1), (2, 2)]


def test_watchers_hear_each_new_and_each_amended_entry_until_they_are_taken_off(journal: Journal) -> None:
    heard: list[tuple[str, JournalEntry]] = []

    def one(new: JournalEntry) -> None:
        heard.append(("one", new))

    def two(new: JournalEntry) -> None:
        heard.append(("two", new))

    journal.watch(one)
    journal.write(entry(1))
    journal.watch(two)
    journal.replace(entry(1, committed=True))
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
    assert (first, second, journal.in_flight) == (1, 2, 2)
    journal.write(entry(second))
    assert journal.in_flight == 1
    journal.write(entry(first))
    assert journal.in_flight == 0


def test_clearing_forgets_entries_but_neither_ordinals_nor_what_is_under_way(journal: Journal) -> None:
    journal.write(entry(journal.next_ordinal()))
    late = journal.next_ordinal()
    journal.clear()
    assert (len(journal), journal.in_flight, journal.next_ordinal()) == (0, 1, late + 1)


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
    assert (journal.total, journal.in_flight, len(journal)) == (2000, 0, 50)


@pytest.mark.parametrize("operation", ["createTransacton", ""])
def test_an_operation_that_there_is_not_is_refused(journal: Journal, operation: str) -> None:
    """Or a test that asserts that nothing was asked of it could never fail."""
    with pytest.raises(ValueError, match=f"there is no operation '{operation}'"):
        journal.entries(operation=operation)


STRIPE = contract_from({"version": 1, "api_key": "X-Own-Key"})


def test_two_headers_are_always_kept() -> None:
    kept = JournalHeaders((), DEFAULT_CONTRACT)
    assert kept.names == ("idempotency-key", "traceparent")
    fields = {b"traceparent": b"00-1", b"idempotency-key": b"k", b"x-tenant": b"a"}
    assert kept.select(fields) == {"traceparent": "00-1", "idempotency-key": "k"}
    assert kept.select({b"x-tenant": b"a"}) == {}
    assert repr(kept) == "<JournalHeaders: idempotency-key, traceparent>"


def test_others_are_kept_by_name_in_any_case_once() -> None:
    kept = JournalHeaders(("X-Tenant", "x-tenant", "Traceparent"), DEFAULT_CONTRACT)
    assert kept.names == ("idempotency-key", "traceparent", "x-tenant")
    assert kept.select({b"x-tenant": b"\xe9"}) == {"x-tenant": "\xe9"}


def test_a_value_is_cut() -> None:
    assert JournalHeaders((), DEFAULT_CONTRACT).select({b"traceparent": b"x" * 10_000}) == {"traceparent": "x" * 256}


@pytest.mark.parametrize("name", ["Authorization", "proxy-authorization", "COOKIE", "X-API-Key"])
def test_a_header_with_a_credential_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"keep_headers has '{name}', which carries a credential"):
        JournalHeaders((name,), DEFAULT_CONTRACT)


def test_the_contract_says_which_carry_credentials() -> None:
    with pytest.raises(ValueError, match="credential"):
        JournalHeaders(("x-own-key",), STRIPE)
    assert "x-api-key" in JournalHeaders(("X-API-Key",), STRIPE).names


def test_an_always_kept_header_that_carries_the_key_is_not_kept() -> None:
    contract = contract_from({"version": 1, "api_key": "Traceparent"})
    assert JournalHeaders((), contract).names == ("idempotency-key",)


@pytest.mark.parametrize("name", ["", "x tenant", "x:y", "é", "x\r\ny", "x" * 65])
def test_what_is_no_name_of_a_header_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="which is no header's name"):
        JournalHeaders((name,), DEFAULT_CONTRACT)


def test_their_number_is_bounded() -> None:
    names = [f"x-{number}" for number in range(30)]
    assert len(JournalHeaders(names, DEFAULT_CONTRACT).names) == 32
    with pytest.raises(ValueError, match="names 33 headers: at most 32"):
        JournalHeaders([*names, "x-30"], DEFAULT_CONTRACT)


def test_one_text_is_one_name_and_not_its_letters() -> None:
    with FakeCredits(keep_headers="x-tenant") as credits:
        assert "x-tenant" in credits.sandbox.journal_headers.names


@pytest.mark.parametrize("live", [False, True], ids=["in-process", "live"])
def test_an_exchange_s_headers_are_in_its_entry(live: bool) -> None:
    import httpx2

    with FakeCredits(users={"ada": 1}, keep_headers=("X-Tenant",)) as credits:
        base_url = credits.base_url if live else "https://credits.internal"
        transport = None if live else credits.transport("httpx2")
        headers = {"X-API-Key": credits.api_key, "X-Tenant": "a", "X-Other": "b", "Idempotency-Key": "k"}
        with httpx2.Client(base_url=base_url, transport=transport, trust_env=False) as client:
            client.get("/v1/applications/app-id/users/ada/balance", headers=headers)
        (entry,) = credits.journal.assert_called("getBalance", headers={"x-tenant": "a"}, times=1)
        assert entry.headers == {"x-tenant": "a", "idempotency-key": "k"}
        assert hash(entry) == hash(entry.request_id)
