"""Test that many threads can use one sandbox in process and over the socket without losing writes."""

import sys
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from fake_credits.client.server import ServerClient
from fake_credits.errors import InsufficientCredits
from fake_credits.fake import FakeCredits

APPLICATION, USER = "app-id", "user-id"
THREADS = 8


@pytest.fixture(autouse=True)
def short_switch_interval() -> Iterator[None]:
    """Switch threads every 10 µs, 500 times as often as by default."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def run_concurrently(jobs: Sequence[Callable[[], None]]) -> None:
    """Run jobs in threads that start together, and re-raise the first failure."""
    start = threading.Barrier(len(jobs))
    failures: list[BaseException] = []

    def run(job: Callable[[], None]) -> None:
        start.wait()
        try:
            job()
        except BaseException as failure:  # noqa: BLE001 - raised again below
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def write_job(client: ServerClient, count: int, delta: int) -> Callable[[], None]:
    """Return a job that alternately grants and consumes credits, ``count`` times in total."""

    def job() -> None:
        for number in range(count):
            if number % 2:
                client.create_transaction(APPLICATION, USER, delta=-delta, reason="consume")
            else:
                client.create_transaction(APPLICATION, USER, delta=delta, reason="grant")

    return job


def spend_job(client: ServerClient, attempts: int, successes: list[int]) -> Callable[[], None]:
    """Return a job that consumes one credit per attempt and records the number of successes."""

    def job() -> None:
        successful = 0
        for _ in range(attempts):
            try:
                client.create_transaction(APPLICATION, USER, delta=-1, reason="consume")
            except InsufficientCredits:
                continue
            successful += 1
        successes.append(successful)

    return job


def check_nothing_lost(fake: FakeCredits, *, exchanges: int, transactions: int, balance: int) -> None:
    account = fake.sandbox.ledger.get_account(APPLICATION, USER)
    assert (fake.journal.total, fake.journal.in_flight) == (exchanges, 0)
    assert (len(account), fake.balance()) == (transactions, balance)
    assert sum(row.delta for row in account.entries()) == balance
    assert fake.problems() == []


def write_in_process(total: int) -> None:
    with FakeCredits(balance=0) as fake:
        each = total // THREADS
        run_concurrently([write_job(fake.server_client, each, delta) for delta in range(1, THREADS + 1)])
        check_nothing_lost(fake, exchanges=total, transactions=total, balance=0)


def test_none_of_8000_writes_from_eight_threads_is_lost() -> None:
    write_in_process(THREADS * 1000)


@pytest.mark.slow
def test_none_of_800_000_writes_from_eight_threads_is_lost() -> None:
    """This takes about a minute; the test that runs by default makes a hundredth as many writes."""
    write_in_process(THREADS * 100_000)


def test_sixteen_threads_over_both_drivers_lose_no_write() -> None:
    """Eight threads write in process and eight over the socket, for the same user."""
    local, remote = 500, 50
    with FakeCredits(balance=0) as fake:
        clients = [ServerClient(fake.base_url, fake.api_key) for _ in range(THREADS)]
        run_concurrently(
            [write_job(fake.server_client, local, delta) for delta in range(1, THREADS + 1)]
            + [write_job(client, remote, delta) for delta, client in enumerate(clients, 1)]
        )
        for client in clients:
            client.close()
        total = THREADS * (local + remote)
        check_nothing_lost(fake, exchanges=total, transactions=total, balance=0)


def test_racing_threads_never_overspend_balance() -> None:
    with FakeCredits(balance=1000) as fake:
        successes: list[int] = []
        run_concurrently([spend_job(fake.server_client, 200, successes) for _ in range(THREADS)])
        assert sum(successes) == 1000
        check_nothing_lost(fake, exchanges=1600, transactions=1001, balance=0)


def test_racing_threads_over_both_drivers_never_overspend_balance() -> None:
    with FakeCredits(balance=200) as fake:
        clients = [ServerClient(fake.base_url, fake.api_key) for _ in range(4)]
        successes: list[int] = []
        run_concurrently(
            [spend_job(fake.server_client, 60, successes) for _ in range(4)]
            + [spend_job(client, 40, successes) for client in clients]
        )
        for client in clients:
            client.close()
        assert sum(successes) == 200
        check_nothing_lost(fake, exchanges=400, transactions=201, balance=0)
        assert min(row.balance for row in fake.sandbox.ledger.get_account(APPLICATION, USER).entries()) == 0


def test_paging_during_concurrent_writes_skips_and_repeats_nothing() -> None:
    """Each walk returns the transactions that existed when it began, newest first, each exactly once."""
    with FakeCredits(balance=None) as fake:
        fake.user(USER)
        walks: list[list[int]] = []

        def write() -> None:
            for delta in range(1, 201):
                fake.server_client.create_transaction(APPLICATION, USER, delta=delta, reason="grant")

        def read() -> None:
            for _ in range(10):
                walk = [row.delta for row in fake.user_client().iter_transactions(USER)]
                walks.append(walk)

        run_concurrently([write, read, read])
        assert all(walk == list(range(len(walk), 0, -1)) for walk in walks)


def test_user_created_by_many_threads_exists_once() -> None:
    with FakeCredits() as fake:

        def create() -> None:
            for number in range(50):
                fake.server_client.create_user(APPLICATION, f"u{number}")

        run_concurrently([create] * THREADS)
        names = [user.user_id for user in fake.server_client.iter_users(APPLICATION)]
        assert sorted(names) == sorted({f"u{number}" for number in range(50)})
        assert [entry.committed for entry in fake.journal.entries(operation="createUser")].count(True) == 50


def test_threads_starting_live_server_get_same_server() -> None:
    with FakeCredits() as fake:
        urls: list[str] = []
        run_concurrently([lambda: urls.append(fake.base_url)] * THREADS)
        assert len(urls) == THREADS
        assert len(set(urls)) == 1


def test_sandboxes_in_different_threads_are_isolated() -> None:
    fakes = [FakeCredits(balance=0) for _ in range(THREADS)]
    run_concurrently([write_job(fake.server_client, 101, delta) for delta, fake in enumerate(fakes, 1)])
    for delta, fake in enumerate(fakes, 1):
        check_nothing_lost(fake, exchanges=101, transactions=101, balance=delta)
        fake.close()
