"""Into a server: the planned history exactly, whatever becomes of the answers; and never into anybody else's."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from fake_credits.client.server import AsyncServerClient
from fake_credits.contract import Contract, Operation
from fake_credits.errors import InsufficientCredits
from fake_credits.fake import FakeCredits
from fake_credits.faults import Close, DuplicateWrite, NotJson, RateLimit, Reset, Rule, Status, Truncate
from fake_credits.models import Reason
from fake_credits.worlds import WorldLibrary
from fake_credits.worlds.seeding import ExistingData, RetryPolicy, Seeder, Target, WorldTotals, compute_totals
from fake_credits.worlds.world import TargetError, World, WorldError
from tests.worlds.conftest import CONSUME, GRANT, REFUND, history, world

TINY = WorldLibrary().find("tiny", 0)


class Pauses:
    """Be the time that seeding waits for: none passes."""

    def __init__(self) -> None:
        self.told: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.told.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture
def fake() -> Iterator[FakeCredits]:
    with FakeCredits() as credits:
        yield credits


def site_of(credits: FakeCredits) -> Target:
    return Target(credits.async_server_client, "app-id", credits.sandbox.contract)


def seeder_for(credits: FakeCredits, own: World = TINY, *, tries: int = 8, concurrency: int = 4) -> Seeder:
    return Seeder(
        own, site_of(credits), concurrency=concurrency, retry_policy=RetryPolicy(max_attempts=tries, sleep=Pauses())
    )


async def everything(seeder: Seeder) -> tuple[ExistingData, list[int]]:
    heard: list[int] = []
    found = await seeder.scan(lambda _: None)
    await seeder.create(lambda _: None)
    await seeder.write_transactions(heard.append)
    return found, heard


def seed(credits: FakeCredits, own: World = TINY, **words: Any) -> tuple[ExistingData, list[int]]:
    return asyncio.run(everything(seeder_for(credits, own, **words)))


def is_seeded(credits: FakeCredits, own: World = TINY) -> bool:
    """Tell whether every user has the planned history and no other."""
    ledger = credits.sandbox.ledger
    there = [
        (each.user_id, [(row.delta, row.reason) for row in each.entries()])
        for each in ledger.page_of_users("app-id", None, 1)[0]
    ]
    planned = [(each.user_id, [row[:2] for row in each.columns.entries()]) for each in own.histories()]
    return sorted(there) == sorted(planned)


def test_a_server_gets_the_planned_histories_and_the_users_in_their_order(fake: FakeCredits) -> None:
    found, heard = seed(fake, concurrency=1)
    assert found == ExistingData(0, 0)
    assert sum(heard) == 60
    assert is_seeded(fake)
    users = [user.user_id for user in fake.server_client.iter_users("app-id")]
    assert users == [each.user_id for each in TINY.histories()]


def test_only_the_six_operations_are_used_and_nothing_is_written_twice(fake: FakeCredits) -> None:
    seed(fake)
    assert {entry.operation for entry in fake.journal} <= {operation.value for operation in Operation}
    assert len(fake.journal.entries(operation="createTransaction")) == 60


def test_a_second_run_finds_it_all_and_writes_nothing(fake: FakeCredits) -> None:
    seed(fake)
    written = len(fake.journal.entries(operation="createTransaction"))
    found, heard = seed(fake)
    assert (found, heard) == (ExistingData(5, 60), [])
    assert len(fake.journal.entries(operation="createTransaction")) == written


@pytest.mark.parametrize("order", ["newest_first", "oldest_first"])
def test_a_run_goes_on_where_another_was_ended(order: Any) -> None:
    """The histories are longer than a page, and some users are there without one."""
    with FakeCredits(contract=Contract(transactions_order=order, page_size=3)) as fake:
        for place, each in enumerate(TINY.histories()):
            fake.user(each.user_id)
            for delta, reason, _ in list(each.columns.entries())[: 4 * place]:
                fake.server_client.create_transaction("app-id", each.user_id, delta=delta, reason=reason)
            if place == 3:
                break
        there = sum(map(len, fake.sandbox.ledger.page_of_users("app-id", None, 1)[0]))
        found, heard = seed(fake)
        assert found == ExistingData(4, there)
        assert sum(heard) == 60 - there
        assert is_seeded(fake)


def test_a_write_of_a_run_that_was_ended_may_still_land_after_the_look(fake: FakeCredits) -> None:
    own = world(history("ada", (10, GRANT), (10, GRANT), (10, GRANT)))
    fake.user("ada", balance=10)
    heard: list[int] = []

    async def run() -> None:
        seeder = seeder_for(fake, own)
        await seeder.scan(lambda _: None)
        fake.server_client.create_transaction("app-id", "ada", delta=10, reason="grant")
        await seeder.create(lambda _: None)
        await seeder.write_transactions(heard.append)

    asyncio.run(run())
    assert is_seeded(fake, own)
    assert sum(heard) == 2


def test_a_server_that_forgets_its_users_meanwhile_is_told_of_by_name(fake: FakeCredits) -> None:
    own = world(history("ada", (10, GRANT), (20, GRANT)))
    fake.user("ada", balance=10)

    async def run() -> None:
        seeder = seeder_for(fake, own)
        await seeder.scan(lambda _: None)
        fake.reset()
        await seeder.create(lambda _: None)
        await seeder.write_transactions(lambda _: None)

    with pytest.raises(TargetError, match="user 'ada', transaction 1: 404 user_not_found"):
        asyncio.run(run())


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
def test_whatever_becomes_of_answers_the_history_is_the_planned_one(fake: FakeCredits, rule: Rule) -> None:
    """Time passes on the sandbox's clock alone."""

    async def sleep(seconds: float) -> None:
        await fake.async_sleep(seconds)

    active = fake.faults.add(rule)
    seeder = Seeder(TINY, site_of(fake), concurrency=3, retry_policy=RetryPolicy(sleep=sleep))
    _, heard = asyncio.run(everything(seeder))
    assert active.fired > 5
    assert is_seeded(fake)
    assert sum(heard) == 60


def test_a_lost_answer_costs_a_single_reading_however_long_the_history(fake: FakeCredits) -> None:
    own = world(history("ada", *[(1, GRANT)] * 300))
    fake.faults.add(Rule(effect=Reset(), operation="createTransaction", phase="after", every=10))
    seed(fake, own)
    assert is_seeded(fake, own)
    assert len(fake.journal.entries(operation="getBalance")) == 30 + 1
    assert len(fake.journal.entries(operation="listTransactions")) == 1


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ([(9, "grant")], "its transaction 1 is 9 grant, and the plan has 10 grant"),
        (
            [(10, "grant"), (-4, "consume"), (4, "refund"), (1, "grant")],
            "transaction 4 is 1 grant, and there is none in",
        ),
        ([(10, "refund")], "its transaction 1 is 10 refund, and the plan has 10 grant"),
    ],
)
def test_a_history_that_is_no_beginning_of_the_plan_is_refused_by_name_before_anything_is_written(
    fake: FakeCredits, there: list[tuple[int, str]], said: str
) -> None:
    own = world(history("ada"), history("bob", (10, GRANT), (-4, CONSUME), (4, REFUND)))
    fake.user("bob")
    for delta, reason in there:
        fake.server_client.create_transaction("app-id", "bob", delta=delta, reason=reason)
    with pytest.raises(TargetError, match=f"user 'bob' has a history that is no beginning of the plan: .*{said}"):
        asyncio.run(seeder_for(fake, own).scan(lambda _: None))
    assert not fake.journal.entries(operation="createUser")


def test_a_write_that_lands_late_is_found_by_the_balance(fake: FakeCredits) -> None:
    """The server applies one write twice: no history shows it in time, as it was the last one."""
    own = world(history("ada", (10, GRANT), (5, GRANT)))
    fake.faults.add(Rule(effect=DuplicateWrite(), operation="createTransaction", phase="write", nth=2))
    with pytest.raises(
        TargetError, match="user 'ada' has a history that is no beginning of the plan: its transaction 3"
    ):
        seed(fake, own)


def test_a_balance_that_is_not_the_plan_s_is_told_though_the_history_is(fake: FakeCredits) -> None:
    own = world(history("ada", (10, GRANT)))

    class Lying(AsyncServerClient):
        async def get_balance(self, application_id: str, user_id: str) -> Any:
            balance = await super().get_balance(application_id, user_id)
            return replace(balance, balance=balance.balance + 1)

    http_client = httpx2.AsyncClient(transport=fake.transport("httpx2"))
    client = Lying("http://lies", fake.api_key, http_client=http_client)
    seeder = Seeder(own, Target(client, "app-id", Contract()))
    with pytest.raises(
        TargetError,
        match="user 'ada' has 1 transactions and a balance of 11, and the plan's number 1 leaves 10: somebody else",
    ):
        asyncio.run(everything(seeder))


def test_somebody_who_writes_beside_is_noticed(fake: FakeCredits) -> None:
    own = world(history("ada", (10, GRANT), (10, GRANT), (10, GRANT), (10, GRANT)))
    fake.faults.add(Rule(effect=Reset(), operation="createTransaction", phase="after", nth=1))

    async def write_too(_seconds: float) -> None:
        fake.server_client.create_transaction("app-id", "ada", delta=10, reason="grant")

    seeder = Seeder(own, site_of(fake), retry_policy=RetryPolicy(sleep=write_too))
    with pytest.raises(
        TargetError,
        match="user 'ada' has 2 transactions and a balance of 20, and the plan's number 1 leaves 10: somebody",
    ):
        asyncio.run(everything(seeder))


def test_a_server_that_stays_broken_is_given_up_after_so_many_tries_with_longer_and_longer_pauses(
    fake: FakeCredits,
) -> None:
    fake.faults.add(Rule(effect=Reset(), operation="createTransaction", phase="before"))
    pauses = Pauses()
    seeder = Seeder(TINY, site_of(fake), concurrency=1, retry_policy=RetryPolicy(max_attempts=4, sleep=pauses))
    with pytest.raises(TargetError, match=r"user '.*', transaction 1: gave up after 4 tries: .*"):
        asyncio.run(everything(seeder))
    assert pauses.told == [0.05, 0.1, 0.2]


def test_a_pause_is_as_long_as_the_server_asks_for(fake: FakeCredits) -> None:
    own = world(history("ada", (10, GRANT)))
    rule = Rule(effect=Status(status=429, retry_after_s=7), operation="createTransaction", phase="before", nth=1)
    fake.faults.add(rule)
    pauses = Pauses()
    asyncio.run(everything(Seeder(own, site_of(fake), retry_policy=RetryPolicy(sleep=pauses))))
    assert pauses.told == [7]


@pytest.mark.parametrize(
    ("effect", "said"),
    [
        (Status(status=402), "user 'ada', transaction 1: 402 insufficient_credits"),
        (Status(status=403), "user 'ada', transaction 1: 403 "),
        (NotJson(status=200), "user 'ada', transaction 1: unusable answer, status 200"),
    ],
)
def test_a_refusal_ends_it_at_once_with_the_user_and_the_transaction(fake: FakeCredits, effect: Any, said: str) -> None:
    own = world(history("ada", (10, GRANT)))
    fake.faults.add(Rule(effect=effect, operation="createTransaction", phase="before"))
    with pytest.raises(TargetError, match=said):
        seed(fake, own)
    assert len(fake.journal.entries(operation="createTransaction")) == 1


def test_a_wrong_key_is_told_at_once(fake: FakeCredits) -> None:
    client = AsyncServerClient(
        "http://fake", "wrong", http_client=httpx2.AsyncClient(transport=fake.transport("httpx2"))
    )
    with pytest.raises(TargetError, match="401 invalid_api_key"):
        asyncio.run(Seeder(TINY, Target(client, "app-id", Contract())).scan(lambda _: None))
    assert fake.journal.total == 1


def test_a_server_that_is_not_there_is_told_at_once() -> None:
    async def look() -> None:
        async with AsyncServerClient("http://127.0.0.1:1", "key") as client:
            await Seeder(TINY, Target(client, "app-id", Contract())).scan(lambda _: None)

    with pytest.raises(TargetError, match="no connection, so it was never sent.*127.0.0.1:1"):
        asyncio.run(look())


def test_no_more_users_are_dealt_with_at_once_than_is_said(fake: FakeCredits) -> None:
    under_way = most = 0

    class Counting(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            try:
                await asyncio.sleep(0)
                return await fake.transport("httpx2").handle_async_request(request)
            finally:
                under_way -= 1

    client = AsyncServerClient("http://fake", fake.api_key, http_client=httpx2.AsyncClient(transport=Counting()))
    asyncio.run(everything(Seeder(TINY, Target(client, "app-id", Contract()), concurrency=3)))
    assert most == 3
    assert is_seeded(fake)


def test_a_world_comes_to_so_much_and_one_that_breaks_the_contract_is_refused_before() -> None:
    own = world(history("ada", (10, GRANT), (-4, CONSUME), (4, REFUND)), history("bob", (1, GRANT)))
    heard: list[int] = []
    assert compute_totals(own, Contract(), "app-id", heard.append) == WorldTotals(2, 4, 11, 4, 4)
    assert heard == [3, 1]
    with pytest.raises(WorldError, match="user 'ada': a balance of 0 plus 10 is over the ceiling of 9"):
        compute_totals(own, Contract(ceiling=9), "app-id", heard.append)


def test_what_only_another_contract_allows_goes_where_it_is_spoken() -> None:
    contract = Contract(floor=-10, sign="free", created_transaction="empty", unknown_user="zero")
    own = world(history("ada", (-10, Reason.GRANT)))
    with FakeCredits(contract=contract) as fake:
        seed(fake, own)
        assert is_seeded(fake, own)
    with FakeCredits() as other, pytest.raises(TargetError, match="transaction 1: 400 validation_error"):
        seed(other, own)


def test_a_client_s_own_refusals_are_no_secret(fake: FakeCredits) -> None:
    """An account that somebody emptied meanwhile can't go on."""
    own = world(history("ada", (10, GRANT), (-10, CONSUME)))

    async def run() -> None:
        seeder = seeder_for(fake, own)
        await seeder.scan(lambda _: None)
        await seeder.create(lambda _: None)

        def take_it_all(_: int) -> None:
            if fake.balance("ada"):
                fake.server_client.create_transaction("app-id", "ada", delta=-10, reason="consume")

        await seeder.write_transactions(take_it_all)

    with pytest.raises(TargetError, match="user 'ada', transaction 2: 402") as refused:
        asyncio.run(run())
    assert isinstance(refused.value.__cause__, InsufficientCredits)
