"""Small applications that use the API; some lose money under faults. Each has a test as a user would write it.

Each test takes a sandbox in which ada has 100 credits. An application's functions are at module level, so that their
calls count as the application's.
"""

import asyncio
import contextlib
import os
import queue
import threading
import uuid
from collections.abc import Callable
from typing import Any

import aiohttp
import httpx2
import pytest
import requests
import tenacity
from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from fake_credits import FakeCredits
from fake_credits.client.server import ServerClient
from fake_credits.client.user import UserClient
from fake_credits.errors import ApiError, ConnectionLost, InvalidResponse, Timeout, TransportFailure, Unavailable

APP = "app-id"
LOST = (TransportFailure,)
FAILED = (ApiError, TransportFailure)

Test = Callable[[FakeCredits], None]


def charge(api: ServerClient, price: int = 10, user: str = "ada") -> None:
    api.create_transaction(APP, user, delta=-price, reason="consume")


def give(api: ServerClient, amount: int, reason: str = "grant") -> None:
    api.create_transaction(APP, "ada", delta=amount, reason=reason)


def deltas(api: ServerClient) -> list[int]:
    return [transaction.delta for transaction in api.iter_transactions(APP, "ada")]


# ------------------------------------------------------------ bad: red


def naive_retry(api: ServerClient) -> None:
    for _ in range(3):
        try:
            return charge(api)
        except FAILED:
            continue
    raise RuntimeError("not charged")


def test_naive_retry(credits: FakeCredits) -> None:
    naive_retry(credits.server_client)
    assert credits.balance("ada") == 90


def careless_reconciliation(api: ServerClient) -> None:
    """Treat a failed reconciling read as "not applied"."""
    before = len(deltas(api))
    for _ in range(3):
        try:
            return charge(api)
        except FAILED:
            try:
                if len(deltas(api)) > before:
                    return None
            except FAILED:
                pass
    raise RuntimeError("not charged")


def test_careless_reconciliation(credits: FakeCredits) -> None:
    careless_reconciliation(credits.server_client)
    assert credits.balance("ada") == 90


def careless_outbox(api: ServerClient) -> None:
    """Send whatever is still in the outbox, and remove an entry only after a success."""
    outbox = [-10, -5]
    for _ in range(5):
        for delta in list(outbox):
            try:
                api.create_transaction(APP, "ada", delta=delta, reason="consume")
                outbox.remove(delta)
            except FAILED:
                continue
        if not outbox:
            return


def test_careless_outbox(credits: FakeCredits) -> None:
    careless_outbox(credits.server_client)
    assert credits.balance("ada") == 85


def order_and_cancel(api: ServerClient) -> str:
    """Swallow a lost refund."""
    charge(api)
    with contextlib.suppress(*FAILED):
        give(api, 10, "refund")
    return "cancelled"


def test_lost_refund(credits: FakeCredits) -> None:
    assert order_and_cancel(credits.server_client) == "cancelled"


def welcome(api: ServerClient) -> str:
    """Swallow a lost grant."""
    api.create_user(APP, "ada")
    with contextlib.suppress(*FAILED):
        give(api, 25)
    return "welcome"


def test_lost_grant(credits: FakeCredits) -> None:
    assert welcome(credits.server_client) == "welcome"


def blind_refund(api: ServerClient) -> None:
    """Refund a charge whose outcome is unknown."""
    try:
        charge(api)
    except FAILED:
        give(api, 10, "refund")
        raise


def test_blind_refund(credits: FakeCredits) -> None:
    blind_refund(credits.server_client)
    assert credits.balance("ada") == 90


@tenacity.retry(stop=tenacity.stop_after_attempt(3), reraise=True)
def tenacious_charge(api: ServerClient) -> None:
    charge(api)


def test_tenacity_on_post(credits: FakeCredits) -> None:
    tenacious_charge(credits.server_client)
    assert credits.balance("ada") == 90


def worker_loop(api: ServerClient, jobs: "queue.Queue[int | None]") -> None:
    while (price := jobs.get()) is not None:
        for _ in range(3):
            try:
                charge(api, price)
                break
            except FAILED:
                continue


def run_worker(api: ServerClient, worker: Callable[[ServerClient, "queue.Queue[int | None]"], None]) -> None:
    jobs: queue.Queue[int | None] = queue.Queue()
    thread = threading.Thread(target=worker, args=(api, jobs))
    thread.start()
    jobs.put(10)
    jobs.put(None)
    thread.join()


def test_retrying_worker_thread(credits: FakeCredits) -> None:
    run_worker(credits.server_client, worker_loop)
    assert credits.balance("ada") == 90


class Retrying502Gateway:
    """A custom HTTP client that retries on 502, as a gateway does."""

    def __init__(self, credits: FakeCredits) -> None:
        transport = credits.transport("httpx2")
        self._http = httpx2.Client(transport=transport, headers={"X-API-Key": credits.api_key})

    def post(self, path: str, body: object) -> httpx2.Response:
        response = self._http.post(f"https://credits.test{path}", json=body)
        return self._http.post(f"https://credits.test{path}", json=body) if response.status_code == 502 else response


def charge_through_gateway(gateway: Retrying502Gateway) -> None:
    path = f"/v1/applications/{APP}/users/ada/transactions"
    gateway.post(path, {"delta": -10, "reason": "consume"}).raise_for_status()


def test_gateway_retries_on_502(credits: FakeCredits) -> None:
    charge_through_gateway(Retrying502Gateway(credits))
    assert credits.balance("ada") == 90


def checkout(api: ServerClient) -> None:
    api.get_balance(APP, "ada")
    charge(api)
    api.list_transactions(APP, "ada")


def repeat_checkout(api: ServerClient) -> None:
    try:
        checkout(api)
    except FAILED:
        checkout(api)


def test_whole_checkout_repeated(credits: FakeCredits) -> None:
    repeat_checkout(credits.server_client)
    assert credits.balance("ada") == 90


def charge_all(api: ServerClient, prices: list[int]) -> None:
    for price in prices:
        charge(api, price)


def repeat_batch(api: ServerClient) -> None:
    try:
        charge_all(api, [1, 2, 3])
    except FAILED:
        charge_all(api, [1, 2, 3])


def test_batch_repeated(credits: FakeCredits) -> None:
    repeat_batch(credits.server_client)
    assert credits.balance("ada") == 94


class KeyedClient:
    """A custom client that sends an Idempotency-Key."""

    def __init__(self, credits: FakeCredits) -> None:
        headers = {"X-API-Key": credits.api_key}
        self._http = httpx2.Client(transport=credits.transport("httpx2"), headers=headers)

    def charge(self, price: int, key: str) -> None:
        url = f"https://credits.test/v1/applications/{APP}/users/ada/transactions"
        body = {"delta": -price, "reason": "consume"}
        self._http.post(url, json=body, headers={"Idempotency-Key": key}).raise_for_status()


def charge_with_new_keys(client: KeyedClient) -> None:
    for _ in range(3):
        try:
            return client.charge(10, str(uuid.uuid4()))
        except httpx2.HTTPStatusError as error:
            if error.response.status_code != 503:
                raise
    return None


def test_key_misuse(credits: FakeCredits) -> None:
    charge_with_new_keys(KeyedClient(credits))
    assert credits.balance("ada") == 90


def wait_without_timeout(credits: FakeCredits) -> None:
    http = httpx2.Client(transport=credits.transport("httpx2"), headers={"X-API-Key": credits.api_key}, timeout=None)
    http.get(f"https://credits.test/v1/applications/{APP}/users/ada/balance").raise_for_status()


def test_no_timeout(credits: FakeCredits) -> None:
    wait_without_timeout(credits)


def retry_for_ever(api: ServerClient) -> None:
    while True:
        try:
            api.get_balance(APP, "ada")
            return
        except Unavailable:
            try:
                for _ in range(100):
                    api.get_user(APP, "ada")
            except FAILED:
                continue


def test_storm(credits: FakeCredits) -> None:
    retry_for_ever(credits.server_client)


URL = "https://credits.internal"
TRANSACTIONS = f"{URL}/v1/applications/{APP}/users/ada/transactions"
CONSUME_10 = {"delta": -10, "reason": "consume"}


def charge_with_urllib3_retries(api_key: str) -> None:
    retries = Retry(total=3, allowed_methods=None, status_forcelist=[502, 503], backoff_factor=0)
    with requests.Session() as session:
        session.mount("https://", HTTPAdapter(max_retries=retries))
        session.post(TRANSACTIONS, json=CONSUME_10, headers={"X-API-Key": api_key}, timeout=5).raise_for_status()


def test_urllib3_retries_posts(credits: FakeCredits) -> None:
    with credits.intercept(URL):
        charge_with_urllib3_retries(credits.api_key)
    assert credits.balance("ada") == 90


async def charge_with_aiohttp(api_key: str, attempts: int) -> None:
    async with aiohttp.ClientSession(headers={"X-API-Key": api_key}) as session:
        for attempt in range(1, attempts + 1):
            try:
                async with session.post(TRANSACTIONS, json=CONSUME_10) as response:
                    response.raise_for_status()
                    return
            except aiohttp.ClientError:
                if attempt == attempts:
                    raise


def test_aiohttp_retry(credits: FakeCredits) -> None:
    with credits.intercept(URL):
        asyncio.run(charge_with_aiohttp(credits.api_key, 3))
    assert credits.balance("ada") == 90


# ------------------------------------------------------------ amber at most


def swallow(api: ServerClient) -> None:
    with contextlib.suppress(*FAILED):
        charge(api)


def test_swallower(credits: FakeCredits) -> None:
    swallow(credits.server_client)
    assert credits.balance("ada") == 90


def transfer(api: ServerClient) -> None:
    charge(api, 30)
    api.create_transaction(APP, "bob", delta=30, reason="grant")


def test_partial_transfer(credits: FakeCredits) -> None:
    credits.user("bob")
    transfer(credits.server_client)
    assert (credits.balance("ada"), credits.balance("bob")) == (70, 30)


def test_no_retry_at_all(credits: FakeCredits) -> None:
    charge(credits.server_client)
    assert credits.balance("ada") == 90


# ------------------------------------------------------------ good: no red


def charge_once(api: ServerClient) -> bool:
    try:
        charge(api)
    except (ConnectionLost, Timeout, InvalidResponse):
        raise RuntimeError("unknown outcome: ask a human") from None
    return True


def test_charge_once(credits: FakeCredits) -> None:
    assert charge_once(credits.server_client)
    assert credits.balance("ada") == 90


def read_before_retry(api: ServerClient, price: int = 10, read: Callable[[ServerClient], list[int]] = deltas) -> None:
    before = len(read(api))
    for _ in range(3):
        try:
            return charge(api, price)
        except Unavailable:
            continue
        except TransportFailure:
            if len(read(api)) > before:
                return None
    raise RuntimeError("not charged")


@tenacity.retry(stop=tenacity.stop_after_attempt(3), reraise=True)
def deltas_with_retry(api: ServerClient) -> list[int]:
    return deltas(api)


def charge_carefully(api: ServerClient) -> None:
    """Read before each retry, and retry the reads as well, since repeating a read is always safe."""
    read_before_retry(api, read=deltas_with_retry)


def test_charge_carefully(credits: FakeCredits) -> None:
    charge_carefully(credits.server_client)
    assert credits.balance("ada") == 90


def test_read_before_retry(credits: FakeCredits) -> None:
    read_before_retry(credits.server_client)
    assert credits.balance("ada") == 90


def careful_outbox(api: ServerClient) -> None:
    outbox, known = [-10, -5], len(deltas(api))
    for _ in range(5):
        if not outbox:
            return
        try:
            history = deltas(api)
            if len(history) > known:
                known += 1
                outbox.pop(0)
                continue
            api.create_transaction(APP, "ada", delta=outbox[0], reason="consume")
        except FAILED:
            continue
    raise RuntimeError("outbox not empty")


def test_careful_outbox(credits: FakeCredits) -> None:
    careful_outbox(credits.server_client)
    assert credits.balance("ada") == 85


def is_charged(api: ServerClient, before: int) -> bool:
    for _ in range(3):
        try:
            return len(deltas(api)) > before
        except FAILED:
            continue
    raise RuntimeError("unknown outcome")


def saga(api: ServerClient, *, ships: bool) -> str:
    before = len(deltas(api))
    try:
        charge(api)
    except FAILED:
        if not is_charged(api, before):
            return "refused"
    if ships:
        return "shipped"
    for _ in range(3):
        try:
            count = len(deltas(api))
            if count > before + 1:
                return "cancelled"
            give(api, 10, "refund")
            return "cancelled"
        except FAILED:
            continue
    raise RuntimeError("refund pending")


def test_saga_shipping(credits: FakeCredits) -> None:
    assert saga(credits.server_client, ships=True) == "shipped"
    assert credits.balance("ada") == 90


def test_saga_cancelling(credits: FakeCredits) -> None:
    assert saga(credits.server_client, ships=False) == "cancelled"
    assert credits.balance("ada") == 100


def cancel_when_unsure(api: ServerClient) -> bool:
    before = len(deltas(api))
    try:
        charge(api)
    except FAILED:
        if is_charged(api, before):
            give(api, 10, "refund")
        return False
    return True


def test_cancel_when_unsure(credits: FakeCredits) -> None:
    assert cancel_when_unsure(credits.server_client)
    assert credits.balance("ada") == 90


@tenacity.retry(stop=tenacity.stop_after_attempt(3), reraise=True)
def tenacious_balance(api: ServerClient) -> int:
    return api.get_balance(APP, "ada").balance


def test_tenacity_on_get(credits: FakeCredits) -> None:
    assert tenacious_balance(credits.server_client) == 100


def read_all_pages(api: ServerClient) -> int:
    return sum(deltas(api))


def test_pagination(credits: FakeCredits) -> None:
    for _ in range(45):
        with credits.aside():
            give(credits.server_client, 1)
    assert read_all_pages(credits.server_client) == 145


class PatientWorker:
    """A worker that reads before each attempt and keeps the charges that it could not make."""

    def __init__(self) -> None:
        self.undone: list[int] = []

    def __call__(self, api: ServerClient, jobs: "queue.Queue[int | None]") -> None:
        while (price := jobs.get()) is not None:
            if not self._charge(api, price):
                self.undone.append(price)

    def _charge(self, api: ServerClient, price: int) -> bool:
        before: int | None = None
        for _ in range(10):
            try:
                count = len(deltas(api))
                before = count if before is None else before
                if count == before:
                    charge(api, price)
            except FAILED:
                continue
            return True
        return False


def test_worker_thread(credits: FakeCredits) -> None:
    done: list[bool] = []

    def charge_in_thread(api: ServerClient, jobs: "queue.Queue[int | None]") -> None:
        while (price := jobs.get()) is not None:
            try:
                charge(api, price)
                done.append(True)
            except FAILED:
                done.append(False)

    run_worker(credits.server_client, charge_in_thread)
    assert done == [True]


def test_patient_worker(credits: FakeCredits) -> None:
    worker = PatientWorker()
    run_worker(credits.server_client, worker)
    assert worker.undone == []
    assert credits.balance("ada") == 90


def sign_up(api: ServerClient, user: str) -> None:
    api.create_user(APP, user)
    api.create_transaction(APP, user, delta=5, reason="grant")


def test_user_created_by_exchange(credits: FakeCredits) -> None:
    sign_up(credits.server_client, "new")
    assert credits.balance("new") == 5


def test_random_user(credits: FakeCredits) -> None:
    user = f"user-{uuid.uuid4()}"
    sign_up(credits.server_client, user)
    assert credits.balance(user) == 5


def fresh_user(credits: FakeCredits) -> str:
    """Create a user as a fixture would, with calls that count as the test's own."""
    user = str(uuid.uuid4())
    credits.server_client.create_user(APP, user)
    credits.server_client.create_transaction(APP, user, delta=100, reason="grant")
    return user


def charge_and_look(api: ServerClient, user: str) -> None:
    before = api.get_balance(APP, user)
    try:
        charge(api, user=user)
    except FAILED:
        if api.get_balance(APP, user) == before:
            raise


def test_user_of_a_fixture(credits: FakeCredits) -> None:
    user = fresh_user(credits)
    charge_and_look(credits.server_client, user)
    assert credits.balance(user) == 90


def history_of(api: UserClient) -> list[int]:
    return [transaction.delta for transaction in api.iter_transactions("ada")]


def test_helper_reads(credits: FakeCredits) -> None:
    charge_carefully(credits.server_client)
    assert history_of(credits.user_client("ada")) == [-10, 100]


def test_expects_refusal(credits: FakeCredits) -> None:
    try:
        charge(credits.server_client, 1000)
    except ApiError as error:
        assert error.code == "insufficient_credits"  # noqa: PT017 - as a user may write it
    else:
        raise AssertionError("not refused")


def test_tolerant(credits: FakeCredits) -> None:
    try:
        charge_carefully(credits.server_client)
    except (*FAILED, RuntimeError):
        return
    assert credits.balance("ada") == 90


def reconcile_by_balance(api: ServerClient) -> None:
    before = api.get_balance(APP, "ada").balance
    for _ in range(3):
        try:
            return charge(api)
        except FAILED:
            if api.get_balance(APP, "ada").balance < before:
                return None
    raise RuntimeError("not charged")


def test_reconcile_by_balance(credits: FakeCredits) -> None:
    reconcile_by_balance(credits.server_client)
    assert credits.balance("ada") == 90


class Reservation:
    """A context manager that charges on entry and refunds on exit unless the reservation is confirmed."""

    def __init__(self, api: ServerClient) -> None:
        self._api = api
        self._is_confirmed = False
        self._before = 0

    def __enter__(self) -> "Reservation":
        self._before = len(deltas(self._api))
        charge_carefully(self._api)
        return self

    def confirm(self) -> None:
        self._api.get_balance(APP, "ada")
        self._is_confirmed = True

    def __exit__(self, *_: object) -> None:
        if self._is_confirmed:
            return
        for _attempt in range(3):
            try:
                if len(deltas(self._api)) > self._before + 1:
                    return
                give(self._api, 10, "refund")
                return
            except FAILED:
                continue


def test_reservation_block(credits: FakeCredits) -> None:
    with Reservation(credits.server_client) as reservation:
        reservation.confirm()
    assert credits.balance("ada") == 90


class BalanceCache:
    def __init__(self, api: ServerClient) -> None:
        self._api = api
        self._balance: int | None = None

    def balance(self) -> int:
        if self._balance is None:
            self._balance = self._api.get_balance(APP, "ada").balance
        return self._balance


def test_cache(credits: FakeCredits) -> None:
    cache = BalanceCache(credits.server_client)
    assert cache.balance() == 100
    assert cache.balance() == 100


class CircuitBreaker:
    def __init__(self, api: ServerClient) -> None:
        self._api = api
        self._failures = 0

    def balance(self) -> int:
        if self._failures > 2:
            raise RuntimeError("circuit open")
        try:
            result = self._api.get_balance(APP, "ada").balance
        except FAILED:
            self._failures += 1
            raise
        self._failures = 0
        return result


def read_with_breaker(breaker: CircuitBreaker) -> int:
    for _ in range(5):
        try:
            return breaker.balance()
        except FAILED:
            continue
    raise RuntimeError("gave up")


def test_circuit_breaker(credits: FakeCredits) -> None:
    assert read_with_breaker(CircuitBreaker(credits.server_client)) == 100


async def charge_many(credits: FakeCredits) -> int:
    api = credits.async_server_client
    results: list[Any] = await asyncio.gather(
        *(api.create_transaction(APP, user, delta=-1, reason="consume") for user in ("ada", "bob", "eve")),
        return_exceptions=True,
    )
    return sum(not isinstance(result, Exception) for result in results)


def test_gather(credits: FakeCredits) -> None:
    for user in ("bob", "eve"):
        credits.user(user, balance=10)
    assert asyncio.run(charge_many(credits)) == 3


def test_aiohttp_once(credits: FakeCredits) -> None:
    with credits.intercept(URL):
        asyncio.run(charge_with_aiohttp(credits.api_key, 1))
    assert credits.balance("ada") == 90


def test_pytest_raises(credits: FakeCredits) -> None:
    with pytest.raises(ApiError, match="insufficient_credits"):
        charge(credits.server_client, 1000)


def create_shop(api: ServerClient) -> FastAPI:
    shop = FastAPI()

    @shop.post("/orders")
    def order() -> dict[str, str]:
        try:
            charge_carefully(api)
        except (*FAILED, RuntimeError):
            raise HTTPException(503) from None
        return {"status": "paid"}

    return shop


def test_fastapi_answers_503(credits: FakeCredits) -> None:
    response = TestClient(create_shop(credits.server_client)).post("/orders")
    assert response.status_code == 200
    assert credits.balance("ada") == 90


def charge_as_configured() -> None:
    with ServerClient(os.environ["CREDITS_BASE_URL"], os.environ["CREDITS_API_KEY"], timeout_s=5) as api:
        charge_carefully(api)


def test_live_environment(credits: FakeCredits) -> None:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CREDITS_BASE_URL", credits.base_url)
        environment.setenv("CREDITS_API_KEY", credits.api_key)
        charge_as_configured()
    assert credits.balance("ada") == 90


RED: tuple[Test, ...] = (
    test_naive_retry,
    test_careless_reconciliation,
    test_careless_outbox,
    test_lost_refund,
    test_lost_grant,
    test_blind_refund,
    test_tenacity_on_post,
    test_retrying_worker_thread,
    test_gateway_retries_on_502,
    test_whole_checkout_repeated,
    test_batch_repeated,
    test_key_misuse,
    test_urllib3_retries_posts,
    test_aiohttp_retry,
    test_no_timeout,
    test_storm,
)
AMBER: tuple[Test, ...] = (test_swallower, test_partial_transfer, test_no_retry_at_all)
NO_RED: tuple[Test, ...] = (
    test_charge_once,
    test_read_before_retry,
    test_charge_carefully,
    test_careful_outbox,
    test_saga_shipping,
    test_saga_cancelling,
    test_cancel_when_unsure,
    test_tenacity_on_get,
    test_pagination,
    test_worker_thread,
    test_patient_worker,
    test_user_created_by_exchange,
    test_random_user,
    test_helper_reads,
    test_expects_refusal,
    test_tolerant,
    test_reconcile_by_balance,
    test_reservation_block,
    test_cache,
    test_circuit_breaker,
    test_gather,
    test_aiohttp_once,
    test_pytest_raises,
    test_fastapi_answers_503,
    test_live_environment,
    test_user_of_a_fixture,
)
