"""Test that nothing is lost when many threads use one sandbox: in process, over the socket, and both at once."""

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
def _switching_often() -> Iterator[None]:
    """Let threads take turns every 10 µs, 500 times as often as they would."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def at_once(jobs: Sequence[Callable[[], None]]) -> None:
    """Run jobs in threads that start together, and raise what any of them raised."""
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


def writer(client: ServerClient, count: int, delta: int) -> Callable[[], None]:
    """Return a job that moves the user's credits ``count`` times, to and fro."""

    def job() -> None:
        for turn in range(count):
            if turn % 2:
                client.create_transaction(APPLICATION, USER, delta=-delta, reason="consume")
            else:
                client.create_transaction(APPLICATION, USER, delta=delta, reason="grant")

    return job


def spender(client: ServerClient, tries: int, successes: list[int]) -> Callable[[], None]:
    """Return a job that takes one credit again and again, and adds up how often it got one."""

    def job() -> None:
        got = 0
        for _ in range(tries):
            try:
                client.create_transaction(APPLICATION, USER, delta=-1, reason="consume")
            except InsufficientCredits:
                continue
            got += 1
        successes.append(got)

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
        at_once([writer(fake.server_client, each, delta) for delta in range(1, THREADS + 1)])
        check_nothing_lost(fake, exchanges=total, transactions=total, balance=0)


def test_eight_threads_share_twenty_thousand_writes_and_none_is_lost() -> None:
    write_in_process(20_000)


@pytest.mark.slow
def test_eight_threads_of_a_hundred_thousand_writes_each_lose_none() -> None:
    """The whole count, 800,000 writes, takes a minute or so; the default share is a fortieth of it."""
    write_in_process(THREADS * 100_000)


def test_sixteen_threads_over_both_drivers_at_once_lose_nothing() -> None:
    """Eight write in process and eight over the socket, to one user of one sandbox."""
    local, remote = 500, 50
    with FakeCredits(balance=0) as fake:
        clients = [ServerClient(fake.base_url, fake.api_key) for _ in range(THREADS)]
        at_once(
            [writer(fake.server_client, local, delta) for delta in range(1, THREADS + 1)]
            + [writer(client, remote, delta) for delta, client in enumerate(clients, 1)]
        )
        for client in clients:
            client.close()
        total = THREADS * (local + remote)
        check_nothing_lost(fake, exchanges=total, transactions=total, balance=0)


def test_threads_that_race_for_the_last_credits_get_exactly_as_many_as_there_are() -> None:
    with FakeCredits(balance=1000) as fake:
        successes: list[int] = []
        at_once([spender(fake.server_client, 200, successes) for _ in range(THREADS)])
        assert sum(successes) == 1000
        check_nothing_lost(fake, exchanges=1600, transactions=1001, balance=0)


def test_a_race_for_the_last_credits_over_both_drivers_is_exact_too() -> None:
    with FakeCredits(balance=200) as fake:
        clients = [ServerClient(fake.base_url, fake.api_key) for _ in range(4)]
        successes: list[int] = []
        at_once(
            [spender(fake.server_client, 60, successes) for _ in range(4)]
            + [spender(client, 40, successes) for client in clients]
        )
        for client in clients:
            client.close()
        assert sum(successes) == 200
        check_nothing_lost(fake, exchanges=400, transactions=201, balance=0)
        assert min(row.balance for row in fake.sandbox.ledger.get_account(APPLICATION, USER).entries()) == 0


def test_a_history_read_by_pages_while_threads_write_misses_and_repeats_nothing() -> None:
    """Newest first: each walk sees what was there when it began, once each, in order."""
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

        at_once([write, read, read])
        assert all(walk == list(range(len(walk), 0, -1)) for walk in walks)


def test_users_created_by_many_threads_at_once_exist_once_each() -> None:
    with FakeCredits() as fake:

        def create() -> None:
            for number in range(50):
                fake.server_client.create_user(APPLICATION, f"u{number}")

        at_once([create] * THREADS)
        names = [user.user_id for user in fake.server_client.iter_users(APPLICATION)]
        assert sorted(names) == sorted({f"u{number}" for number in range(50)})
        assert [entry.committed for entry in fake.journal.entries(operation="createUser")].count(True) == 50


def test_eight_threads_that_want_the_live_server_first_get_the_same_one() -> None:
    with FakeCredits() as fake:
        urls: list[str] = []
        at_once([lambda: urls.append(fake.base_url)] * THREADS)
        assert len(urls) == THREADS
        assert len(set(urls)) == 1


def test_sandboxes_in_eight_threads_do_not_see_each_other() -> None:
    fakes = [FakeCredits(balance=0) for _ in range(THREADS)]
    at_once([writer(fake.server_client, 101, delta) for delta, fake in enumerate(fakes, 1)])
    for delta, fake in enumerate(fakes, 1):
        check_nothing_lost(fake, exchanges=101, transactions=101, balance=delta)
        fake.close()
