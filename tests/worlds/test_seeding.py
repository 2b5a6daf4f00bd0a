"""Seeding a server: planned histories, resuming, lost responses, conflicts and retries."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from fake_credits.client.server import AsyncServerClient
from fake_credits.contract import Contract, Operation
from fake_credits.errors import InsufficientCredits, InvalidResponse
from fake_credits.fake import FakeCredits
from fake_credits.faults import Close, DuplicateWrite, NotJson, RateLimit, Reset, Rule, Status, Truncate
from fake_credits.models import Reason
from fake_credits.worlds import WorldLibrary
from fake_credits.worlds.seeding import ExistingData, RetryPolicy, Seeder, Target, WorldTotals, compute_totals
from fake_credits.worlds.world import TargetError, World, WorldError
from tests.worlds.conftest import CONSUME, GRANT, REFUND, build_world, make_history

TINY = WorldLibrary().find("tiny", 0)


class RecordingSleep:
    """A sleep function that records durations and does not wait."""

    def __init__(self) -> None:
        self.durations_s: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.durations_s.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture
def fake() -> Iterator[FakeCredits]:
    with FakeCredits() as credits:
        yield credits


def make_target(credits: FakeCredits) -> Target:
    return Target(credits.async_server_client, "app-id", credits.sandbox.contract)


def make_seeder(
    credits: FakeCredits, custom_world: World = TINY, *, max_attempts: int = 8, concurrency: int = 4
) -> Seeder:
    return Seeder(
        custom_world,
        make_target(credits),
        concurrency=concurrency,
        retry_policy=RetryPolicy(max_attempts=max_attempts, sleep=RecordingSleep()),
    )


async def run_all_phases(seeder: Seeder) -> tuple[ExistingData, list[int]]:
    written: list[int] = []
    existing_data = await seeder.scan(lambda _: None)
    await seeder.create(lambda _: None)
    await seeder.write_transactions(written.append)
    return existing_data, written


def seed_server(
    credits: FakeCredits, custom_world: World = TINY, **seeder_options: Any
) -> tuple[ExistingData, list[int]]:
    return asyncio.run(run_all_phases(make_seeder(credits, custom_world, **seeder_options)))


def is_seeded(credits: FakeCredits, custom_world: World = TINY) -> bool:
    """Return whether every user has exactly the planned history."""
    ledger = credits.sandbox.ledger
    existing = [
        (user_history.user_id, [(row.delta, row.reason) for row in user_history.entries()])
        for user_history in ledger.page_of_users("app-id", None, 1)[0]
    ]
    expected = [
        (user_history.user_id, [row[:2] for row in user_history.columns.entries()])
        for user_history in custom_world.histories()
    ]
    return sorted(existing) == sorted(expected)


def test_seeding_writes_the_planned_histories_in_user_order(fake: FakeCredits) -> None:
    existing_data, written = seed_server(fake, concurrency=1)
    assert existing_data == ExistingData(0, 0)
    assert sum(written) == 60
    assert is_seeded(fake)
    users = [user.user_id for user in fake.server_client.iter_users("app-id")]
    assert users == [user_history.user_id for user_history in TINY.histories()]


def test_seeding_uses_only_api_operations_and_writes_each_transaction_once(fake: FakeCredits) -> None:
    seed_server(fake)
    assert {entry.operation for entry in fake.journal} <= {operation.value for operation in Operation}
    assert len(fake.journal.entries(operation="createTransaction")) == 60


def test_second_run_finds_all_data_and_writes_nothing(fake: FakeCredits) -> None:
    seed_server(fake)
    write_count = len(fake.journal.entries(operation="createTransaction"))
    existing_data, written = seed_server(fake)
    assert (existing_data, written) == (ExistingData(5, 60), [])
    assert len(fake.journal.entries(operation="createTransaction")) == write_count


@pytest.mark.parametrize(
    ("effect", "expected_s"), [(Status(429, retry_after_s=2), 2.0), (Status(503), 0.05)], ids=["429", "503"]
)
def test_first_call_waits_for_a_busy_server(effect: Any, expected_s: float, fake: FakeCredits) -> None:
    fake.faults.add(Rule(effect, nth=1))
    sleep = RecordingSleep()
    seeder = Seeder(TINY, make_target(fake), retry_policy=RetryPolicy(sleep=sleep))
    asyncio.run(run_all_phases(seeder))
    assert is_seeded(fake)
    assert sleep.durations_s == [expected_s]


def test_unreachable_server_is_reported_at_the_first_call(fake: FakeCredits) -> None:
    fake.faults.add(Rule(Close(), nth=1))
    with pytest.raises(TargetError, match="Server disconnected"):
        seed_server(fake)
    assert fake.journal.total == 1


@pytest.mark.parametrize("order", ["newest_first", "oldest_first"])
def test_run_resumes_an_interrupted_run(order: Any) -> None:
    """The histories are longer than a page, and some users exist without transactions."""
    with FakeCredits(contract=Contract(transactions_order=order, page_size=3)) as fake:
        for index, user_history in enumerate(TINY.histories()):
            fake.user(user_history.user_id)
            for delta, reason, _ in list(user_history.columns.entries())[: 4 * index]:
                fake.server_client.create_transaction("app-id", user_history.user_id, delta=delta, reason=reason)
            if index == 3:
                break
        existing = sum(map(len, fake.sandbox.ledger.page_of_users("app-id", None, 1)[0]))
        existing_data, written = seed_server(fake)
        assert existing_data == ExistingData(4, existing)
        assert sum(written) == 60 - existing
        assert is_seeded(fake)


def test_write_that_lands_after_the_scan_is_not_repeated(fake: FakeCredits) -> None:
    custom_world = build_world(make_history("ada", (10, GRANT), (10, GRANT), (10, GRANT)))
    fake.user("ada", balance=10)
    written: list[int] = []

    async def seed_with_interference() -> None:
        seeder = make_seeder(fake, custom_world)
        await seeder.scan(lambda _: None)
        fake.server_client.create_transaction("app-id", "ada", delta=10, reason="grant")
        await seeder.create(lambda _: None)
        await seeder.write_transactions(written.append)

    asyncio.run(seed_with_interference())
    assert is_seeded(fake, custom_world)
    assert sum(written) == 2


def test_user_deleted_during_the_run_raises_target_error(fake: FakeCredits) -> None:
    custom_world = build_world(make_history("ada", (10, GRANT), (20, GRANT)))
    fake.user("ada", balance=10)

    async def seed_with_interference() -> None:
        seeder = make_seeder(fake, custom_world)
        await seeder.scan(lambda _: None)
        fake.reset()
        await seeder.create(lambda _: None)
        await seeder.write_transactions(lambda _: None)

    with pytest.raises(TargetError, match="user 'ada', transaction 1: 404 user_not_found"):
        asyncio.run(seed_with_interference())


@pytest.mark.parametrize(
    "rule",
    [
        Rule(effect=Reset(), operation="createTransaction", phase="after", every=3),
        Rule(effect=Reset(), operation="createTransaction", phase="before", every=3),
        Rule(effect=Close(), operation="writes", phase="after", every=2),
        Rule(effect=Truncate(fraction=0.5), operation="createTransaction", phase="after", every=3),
        Rule(effect=Status(status=503), operation="createTransaction", phase="after", every=3),
        Rule(effect=NotJson(status=502), operation="createTransaction", phase="after", every=3),
        Rule(effect=Reset(), operation="*", phase="after", every=5, after=1),
        Rule(effect=RateLimit(limit=2, window_s=1), operation="createTransaction"),
    ],
    ids=lambda rule: f"{type(rule.effect).__name__} {rule.phase} {rule.operation}",
)
def test_seeding_completes_despite_lost_or_broken_responses(fake: FakeCredits, rule: Rule) -> None:
    """Time passes only on the sandbox's clock."""

    async def sleep(seconds: float) -> None:
        await fake.async_sleep(seconds)

    active = fake.faults.add(rule)
    seeder = Seeder(TINY, make_target(fake), concurrency=3, retry_policy=RetryPolicy(sleep=sleep))
    _, written = asyncio.run(run_all_phases(seeder))
    assert active.fired > 5
    assert is_seeded(fake)
    assert sum(written) == 60


def test_lost_response_costs_one_balance_request(fake: FakeCredits) -> None:
    custom_world = build_world(make_history("ada", *[(1, GRANT)] * 300))
    fake.faults.add(Rule(effect=Reset(), operation="createTransaction", phase="after", every=10))
    seed_server(fake, custom_world)
    assert is_seeded(fake, custom_world)
    assert len(fake.journal.entries(operation="getBalance")) == 30 + 1
    assert len(fake.journal.entries(operation="listTransactions")) == 1


@pytest.mark.parametrize(
    ("existing", "message"),
    [
        ([(9, "grant")], "transaction 1 is 9 grant, but the plan has 10 grant"),
        (
            [(10, "grant"), (-4, "consume"), (4, "refund"), (1, "grant")],
            "transaction 4 is 1 grant, but the plan has no more transactions",
        ),
        ([(10, "refund")], "transaction 1 is 10 refund, but the plan has 10 grant"),
    ],
)
def test_conflicting_history_is_rejected_before_any_write(
    fake: FakeCredits, existing: list[tuple[int, str]], message: str
) -> None:
    custom_world = build_world(make_history("ada"), make_history("bob", (10, GRANT), (-4, CONSUME), (4, REFUND)))
    fake.user("bob")
    for delta, reason in existing:
        fake.server_client.create_transaction("app-id", "bob", delta=delta, reason=reason)
    with pytest.raises(
        TargetError, match=f"the existing history of user 'bob' does not match the start of the plan: .*{message}"
    ):
        asyncio.run(make_seeder(fake, custom_world).scan(lambda _: None))
    assert not fake.journal.entries(operation="createUser")


def test_duplicate_write_is_detected(fake: FakeCredits) -> None:
    """The last write is applied twice, so the duplicate shows up only in the balance."""
    custom_world = build_world(make_history("ada", (10, GRANT), (5, GRANT)))
    fake.faults.add(Rule(effect=DuplicateWrite(), operation="createTransaction", phase="write", nth=2))
    with pytest.raises(
        TargetError, match="the existing history of user 'ada' does not match the start of the plan: transaction 3"
    ):
        seed_server(fake, custom_world)


def test_wrong_balance_raises_target_error(fake: FakeCredits) -> None:
    custom_world = build_world(make_history("ada", (10, GRANT)))

    class WrongBalanceClient(AsyncServerClient):
        async def get_balance(self, application_id: str, user_id: str) -> Any:
            balance = await super().get_balance(application_id, user_id)
            return replace(balance, balance=balance.balance + 1)

    http_client = httpx2.AsyncClient(transport=fake.transport("httpx2"))
    client = WrongBalanceClient("http://lies", fake.api_key, http_client=http_client)
    seeder = Seeder(custom_world, Target(client, "app-id", Contract()))
    with pytest.raises(
        TargetError,
        match="'ada' has 1 transaction and a balance of 11, but a balance of 10 was expected after transaction 1: an",
    ):
        asyncio.run(run_all_phases(seeder))


def test_concurrent_writer_raises_target_error(fake: FakeCredits) -> None:
    custom_world = build_world(make_history("ada", (10, GRANT), (10, GRANT), (10, GRANT), (10, GRANT)))
    fake.faults.add(Rule(effect=Reset(), operation="createTransaction", phase="after", nth=1))

    async def write_concurrently(_seconds: float) -> None:
        fake.server_client.create_transaction("app-id", "ada", delta=10, reason="grant")

    seeder = Seeder(custom_world, make_target(fake), retry_policy=RetryPolicy(sleep=write_concurrently))
    with pytest.raises(
        TargetError,
        match="'ada' has 2 transactions and a balance of 20, but a balance of 10 was expected after transaction 1: an",
    ):
        asyncio.run(run_all_phases(seeder))


def test_retries_back_off_and_stop_after_max_attempts(
    fake: FakeCredits,
) -> None:
    fake.faults.add(Rule(effect=Reset(), operation="createTransaction", phase="before"))
    sleep = RecordingSleep()
    seeder = Seeder(TINY, make_target(fake), concurrency=1, retry_policy=RetryPolicy(max_attempts=4, sleep=sleep))
    with pytest.raises(TargetError, match=r"user '.*', transaction 1: gave up after 4 attempts: .*"):
        asyncio.run(run_all_phases(seeder))
    assert sleep.durations_s == [0.05, 0.1, 0.2]


def test_retry_waits_for_retry_after(fake: FakeCredits) -> None:
    custom_world = build_world(make_history("ada", (10, GRANT)))
    rule = Rule(effect=Status(status=429, retry_after_s=7), operation="createTransaction", phase="before", nth=1)
    fake.faults.add(rule)
    sleep = RecordingSleep()
    asyncio.run(run_all_phases(Seeder(custom_world, make_target(fake), retry_policy=RetryPolicy(sleep=sleep))))
    assert sleep.durations_s == [7]


def test_retry_waits_for_retry_after_from_a_proxy() -> None:
    """A proxy's response does not have the API's error body."""
    failure = InvalidResponse("a page", status=503, retry_after_s=7)
    sleep = RecordingSleep()
    asyncio.run(RetryPolicy(sleep=sleep).wait(failure, 1, "user 'ada'"))
    assert sleep.durations_s == [7]


@pytest.mark.parametrize(
    ("effect", "message"),
    [
        (Status(status=402), "user 'ada', transaction 1: 402 insufficient_credits"),
        (Status(status=403), "user 'ada', transaction 1: 403 "),
        (NotJson(status=200), "user 'ada', transaction 1: unusable response, status 200"),
    ],
)
def test_permanent_error_names_user_and_transaction_without_retry(fake: FakeCredits, effect: Any, message: str) -> None:
    custom_world = build_world(make_history("ada", (10, GRANT)))
    fake.faults.add(Rule(effect=effect, operation="createTransaction", phase="before"))
    with pytest.raises(TargetError, match=message):
        seed_server(fake, custom_world)
    assert len(fake.journal.entries(operation="createTransaction")) == 1


def test_wrong_api_key_raises_without_retry(fake: FakeCredits) -> None:
    client = AsyncServerClient(
        "http://fake", "wrong", http_client=httpx2.AsyncClient(transport=fake.transport("httpx2"))
    )
    with pytest.raises(TargetError, match="401 invalid_api_key"):
        asyncio.run(Seeder(TINY, Target(client, "app-id", Contract())).scan(lambda _: None))
    assert fake.journal.total == 1


def test_unreachable_server_raises_without_retry() -> None:
    async def scan() -> None:
        async with AsyncServerClient("http://127.0.0.1:1", "key") as client:
            await Seeder(TINY, Target(client, "app-id", Contract())).scan(lambda _: None)

    with pytest.raises(TargetError, match="no connection, so the request was never sent.*127.0.0.1:1"):
        asyncio.run(scan())


def test_concurrency_limit_is_respected(fake: FakeCredits) -> None:
    active = peak = 0

    class ConcurrencyTransport(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            nonlocal active, peak
            active += 1
            peak = max(peak, active)
            try:
                await asyncio.sleep(0)
                return await fake.transport("httpx2").handle_async_request(request)
            finally:
                active -= 1

    client = AsyncServerClient(
        "http://fake", fake.api_key, http_client=httpx2.AsyncClient(transport=ConcurrencyTransport())
    )
    asyncio.run(run_all_phases(Seeder(TINY, Target(client, "app-id", Contract()), concurrency=3)))
    assert peak == 3
    assert is_seeded(fake)


def test_compute_totals_sums_and_validates_the_world() -> None:
    custom_world = build_world(
        make_history("ada", (10, GRANT), (-4, CONSUME), (4, REFUND)), make_history("bob", (1, GRANT))
    )
    written: list[int] = []
    assert compute_totals(custom_world, Contract(), "app-id", written.append) == WorldTotals(2, 4, 11, 4, 4)
    assert written == [3, 1]
    with pytest.raises(WorldError, match="user 'ada': a balance of 0 plus 10 exceeds the ceiling of 9"):
        compute_totals(custom_world, Contract(ceiling=9), "app-id", written.append)


def test_seeding_follows_the_targets_contract() -> None:
    contract = Contract(floor=-10, sign="free", created_transaction="empty", unknown_user="zero")
    custom_world = build_world(make_history("ada", (-10, Reason.GRANT)))
    with FakeCredits(contract=contract) as fake:
        seed_server(fake, custom_world)
        assert is_seeded(fake, custom_world)
    with FakeCredits() as other, pytest.raises(TargetError, match="transaction 1: 400 validation_error"):
        seed_server(other, custom_world)


def test_api_error_is_the_cause_of_the_target_error(fake: FakeCredits) -> None:
    """Another client empties the account during seeding, so a planned transaction fails."""
    custom_world = build_world(make_history("ada", (10, GRANT), (-10, CONSUME)))

    async def seed_with_interference() -> None:
        seeder = make_seeder(fake, custom_world)
        await seeder.scan(lambda _: None)
        await seeder.create(lambda _: None)

        def spend_all(_: int) -> None:
            if fake.balance("ada"):
                fake.server_client.create_transaction("app-id", "ada", delta=-10, reason="consume")

        await seeder.write_transactions(spend_all)

    with pytest.raises(TargetError, match="user 'ada', transaction 2: 402") as exc_info:
        asyncio.run(seed_with_interference())
    assert isinstance(exc_info.value.__cause__, InsufficientCredits)
