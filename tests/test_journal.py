"""Test the journal and its headers: limits, queries, watchers and concurrent writes."""

import threading
from typing import Any

import msgspec
import pytest

from fake_credits import FakeCredits
from fake_credits.contract import DEFAULT_CONTRACT, Contract
from fake_credits.contract.loading import contract_from
from fake_credits.journal import MAX_JOURNAL_ENTRIES, Journal, JournalEntry, JournalHeaders


def entry(ordinal: int, **fields: Any) -> JournalEntry:
    return JournalEntry(ordinal=ordinal, request_id=f"req_{ordinal}", at_ms=0, method="GET", target="/", **fields)


@pytest.fixture
def journal() -> Journal:
    return Journal(threading.RLock())


def test_journal_keeps_last_10_000_entries_and_counts_all(journal: Journal) -> None:
    for ordinal in range(1, MAX_JOURNAL_ENTRIES + 6):
        journal.write(entry(ordinal))
    assert len(journal) == MAX_JOURNAL_ENTRIES == 10_000
    assert journal.total == MAX_JOURNAL_ENTRIES + 5
    assert [stored_entry.ordinal for stored_entry in journal][:1] == [6]
    assert repr(journal) == "<Journal: entries=10000, seed=0>"


def test_entries_are_filtered_by_operation_and_user(journal: Journal) -> None:
    journal.write(entry(1, operation="getBalance", user="ada"))
    journal.write(entry(2, operation="getBalance", user="bob"))
    journal.write(entry(3, operation="getUser", user="ada"))
    assert [matching.ordinal for matching in journal.entries()] == [1, 2, 3]
    assert [matching.ordinal for matching in journal.entries(operation="getBalance")] == [1, 2]
    assert [matching.ordinal for matching in journal.entries(user="ada")] == [1, 3]
    assert [matching.ordinal for matching in journal.entries(operation="getUser", user="ada")] == [3]
    assert journal.entries(user="eve") == journal.entries(user="") == ()


def test_entry_is_immutable(journal: Journal) -> None:
    journal.write(entry(1))
    (stored_entry,) = journal.entries()
    with pytest.raises(AttributeError):
        stored_entry.status = 500  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def test_entry_survives_json_round_trip(journal: Journal) -> None:
    """The control plane and the report serialize entries as they are."""
    first = entry(1, delta=-5, reason="consume", committed=True)
    assert msgspec.json.decode(msgspec.json.encode(first), type=JournalEntry) == first


def test_on_write_receives_each_entry_and_may_read_journal(journal: Journal) -> None:
    notifications: list[tuple[int, int]] = []
    journal.on_write = lambda new: notifications.append((new.ordinal, len(journal)))
    journal.write(entry(1))
    journal.write(entry(2))
    journal.on_write = None
    journal.write(entry(3))
    assert notifications == [(1, 1), (2, 2)]


def test_watchers_receive_written_and_replaced_entries_until_unwatched(journal: Journal) -> None:
    notifications: list[tuple[str, JournalEntry]] = []

    def first_watcher(new: JournalEntry) -> None:
        notifications.append(("first", new))

    def second_watcher(new: JournalEntry) -> None:
        notifications.append(("second", new))

    journal.watch(first_watcher)
    journal.write(entry(1))
    journal.watch(second_watcher)
    journal.replace(entry(1, committed=True))
    journal.unwatch(first_watcher)
    journal.write(entry(2))
    journal.unwatch(second_watcher)
    journal.write(entry(3))
    replaced, last = entry(1, committed=True), entry(2)
    assert notifications == [("first", entry(1)), ("first", replaced), ("second", replaced), ("second", last)]


def test_dropped_counts_entries_evicted_since_last_clear() -> None:
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


def test_in_flight_counts_exchanges_without_entry(journal: Journal) -> None:
    first, second = journal.begin_exchange()[0], journal.begin_exchange()[0]
    assert (first, second, journal.in_flight) == (1, 2, 2)
    journal.write(entry(second))
    assert journal.in_flight == 1
    journal.write(entry(first))
    assert journal.in_flight == 0


def test_clear_keeps_ordinals_and_in_flight_count(journal: Journal) -> None:
    journal.write(entry(journal.begin_exchange()[0]))
    late = journal.begin_exchange()[0]
    journal.clear()
    assert (len(journal), journal.in_flight, journal.begin_exchange()[0]) == (0, 1, late + 1)


def test_ordinals_start_from_one_after_restart(journal: Journal) -> None:
    """An exchange in flight keeps its ordinal; exchange numbers, unlike ordinals, are never reused."""
    journal.write(entry(journal.begin_exchange()[0]))
    late, late_number = journal.begin_exchange()
    journal.restart()
    assert (journal.total, journal.dropped, journal.in_flight, len(journal)) == (0, 0, 1, 0)
    assert journal.begin_exchange() == (1, late_number + 1)
    journal.write(entry(late))
    assert (journal.total, journal.dropped, journal.in_flight) == (1, 0, 1)


def test_journal_is_consistent_while_four_threads_write() -> None:
    journal = Journal(threading.RLock(), limit=50)

    def write() -> None:
        for _ in range(500):
            journal.write(entry(journal.begin_exchange()[0]))

    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        ordinals = [stored_entry.ordinal for stored_entry in journal]
        assert len(ordinals) == len(set(ordinals)) <= 50
    assert (journal.total, journal.in_flight, len(journal)) == (2000, 0, 50)


@pytest.mark.parametrize("operation", ["createTransacton", ""])
def test_unknown_operation_is_rejected(journal: Journal, operation: Any) -> None:
    """Otherwise, an assertion that a misspelt operation was not called could never fail."""
    with pytest.raises(ValueError, match=f"unknown operation '{operation}'"):
        journal.entries(operation=operation)


CUSTOM_KEY_CONTRACT = contract_from({"version": 1, "api_key": "X-Own-Key"})


def test_two_headers_are_kept_by_default() -> None:
    entry_headers = JournalHeaders((), DEFAULT_CONTRACT)
    assert entry_headers.names == ("idempotency-key", "traceparent")
    fields = {b"traceparent": b"00-1", b"idempotency-key": b"k", b"x-tenant": b"a"}
    assert entry_headers.select(fields) == {"traceparent": "00-1", "idempotency-key": "k"}
    assert entry_headers.select({b"x-tenant": b"a"}) == {}
    assert repr(entry_headers) == "<JournalHeaders: idempotency-key, traceparent>"


def test_configured_headers_are_case_insensitive_and_unique() -> None:
    entry_headers = JournalHeaders(("X-Tenant", "x-tenant", "Traceparent"), DEFAULT_CONTRACT)
    assert entry_headers.names == ("idempotency-key", "traceparent", "x-tenant")
    assert entry_headers.select({b"x-tenant": b"\xe9"}) == {"x-tenant": "\xe9"}


def test_long_header_value_ends_in_hash() -> None:
    """Values that share their first 256 characters remain distinct."""
    values = ["x" * 256, "x" * 257, "x" * 10_000, "x" * 9_999 + "y"]
    entry_headers = JournalHeaders((), DEFAULT_CONTRACT)
    kept = [entry_headers.select({b"traceparent": value.encode()})["traceparent"] for value in values]
    assert kept[0] == "x" * 256
    assert [len(value) for value in kept] == [256] * 4
    assert len(set(kept)) == 4


@pytest.mark.parametrize(
    "name", ["Authorization", "proxy-authorization", "COOKIE", "X-API-Key", "X-Fake-Credits-Control"]
)
def test_credential_header_is_rejected(name: str) -> None:
    with pytest.raises(ValueError, match=rf"keep_headers contains '{name}', which carries a credential"):
        JournalHeaders((name,), DEFAULT_CONTRACT)


def test_credential_headers_depend_on_contract() -> None:
    with pytest.raises(ValueError, match="credential"):
        JournalHeaders(("x-own-key",), CUSTOM_KEY_CONTRACT)
    assert "x-api-key" in JournalHeaders(("X-API-Key",), CUSTOM_KEY_CONTRACT).names


def test_default_header_is_not_kept_when_it_carries_api_key() -> None:
    contract = contract_from({"version": 1, "api_key": "Traceparent"})
    assert JournalHeaders((), contract).names == ("idempotency-key",)


@pytest.mark.parametrize("name", ["", "x tenant", "x:y", "é", "x\r\ny", "x" * 65])
def test_invalid_header_name_is_rejected(name: str) -> None:
    with pytest.raises(ValueError, match="which is not a valid header name"):
        JournalHeaders((name,), DEFAULT_CONTRACT)


def test_number_of_headers_is_limited() -> None:
    names = [f"x-{number}" for number in range(30)]
    assert len(JournalHeaders(names, DEFAULT_CONTRACT).names) == 32
    with pytest.raises(ValueError, match="too many headers in keep_headers: 33, .*; the limit is 32"):
        JournalHeaders([*names, "x-30"], DEFAULT_CONTRACT)


def test_single_string_is_one_header_name() -> None:
    with FakeCredits(keep_headers="x-tenant") as credits:
        assert "x-tenant" in credits.sandbox.journal_headers.names


@pytest.mark.parametrize("live", [False, True], ids=["in-process", "live"])
def test_journal_entry_contains_kept_headers(live: bool) -> None:
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


def test_idempotency_keys_are_compared_in_full() -> None:
    """Keys that share their first 256 characters are distinct, and each is found by its full text."""
    keys = ["order-" + "x" * 300 + suffix for suffix in ("a", "b")]
    with FakeCredits(balance=5, clock="frozen") as credits:
        for key in keys:
            post_transaction(credits, key)
        assert credits.journal.committed_twice() == {}
        credits.journal.assert_committed_once()
        for key in keys:
            credits.journal.assert_called(times=1, idempotency_key=key, headers={"Idempotency-Key": key})
        post_transaction(credits, keys[0])
        with pytest.raises(AssertionError, match="committed writes share 1 idempotency key"):
            credits.journal.assert_committed_once()


def post_transaction(credits: FakeCredits, idempotency_key: str) -> None:
    import httpx2

    headers = {"X-API-Key": credits.api_key, "Idempotency-Key": idempotency_key}
    with httpx2.Client(base_url="https://a", transport=credits.transport("httpx2"), headers=headers) as client:
        url = "/v1/applications/app-id/users/user-id/transactions"
        assert client.post(url, json={"delta": -1, "reason": "consume"}).status_code == 201


@pytest.mark.parametrize("live", [False, True], ids=["in-process", "live"])
def test_secrets_in_query_are_not_journaled(live: bool) -> None:
    import httpx2

    with FakeCredits(users={"ada": 1}) as credits:
        base_url = credits.base_url if live else "https://credits.internal"
        transport = None if live else credits.transport("httpx2")
        with httpx2.Client(base_url=base_url, transport=transport, trust_env=False) as client:
            client.get("/v1/applications/app-id/users/ada/transactions?api_key=SECRET&cursor=abc")
            client.get("/somewhere?access_token=SECRET")
        assert [entry.target for entry in credits.journal] == [
            "/v1/applications/app-id/users/ada/transactions?api_key=***&cursor=abc",
            "/somewhere?access_token=***",
        ]


def test_cursor_is_journaled_whatever_its_name() -> None:
    contract = Contract(cursor_parameter="page_token", limit_parameter="max_keys")
    with FakeCredits(contract=contract) as credits:
        import httpx2

        with httpx2.Client(base_url="https://a", transport=credits.transport("httpx2")) as client:
            client.get("/v1/applications/app-id/users?page_token=abc&max_keys=5&key=SECRET")
        assert [entry.target for entry in credits.journal] == [
            "/v1/applications/app-id/users?page_token=abc&max_keys=5&key=***"
        ]
