"""Loading worlds into a ledger: back-dating, contract rules and reuse."""

from datetime import UTC, datetime, timedelta

import pytest

from fake_credits.clock import from_ms, to_ms
from fake_credits.contract import MAX_AMOUNT, Contract
from fake_credits.fake import FakeCredits
from fake_credits.ledger import Ledger
from fake_credits.worlds.world import (
    MAX_KEPT_TRANSACTIONS,
    WORLD_SPAN_MS,
    UserHistory,
    World,
    WorldError,
    world_start_ms,
)
from tests.worlds.conftest import CONSUME, GRANT, REFUND, build_world, make_history

NOW_MS = to_ms(datetime(2030, 6, 15, 12, 30, tzinfo=UTC))
APPLICATION = "app-id"


def test_world_ends_on_the_last_monday_and_starts_within_the_last_year() -> None:
    monday = datetime(2030, 6, 10, tzinfo=UTC)
    for hours in (0, 1, 24 * 5, 24 * 7 - 1):
        now_ms = to_ms(monday + timedelta(hours=hours))
        assert from_ms(world_start_ms(now_ms) + WORLD_SPAN_MS) == monday
        assert now_ms - world_start_ms(now_ms) < 365 * 86_400_000


def test_clock_in_1970_raises_world_error() -> None:
    assert world_start_ms(to_ms(datetime(1971, 1, 1, tzinfo=UTC))) >= 0
    with pytest.raises(
        WorldError, match="at 1970-12-01, but a world covers the year before that date and can't start before 1970"
    ):
        world_start_ms(to_ms(datetime(1970, 12, 1, tzinfo=UTC)))


def test_users_are_loaded_in_order_with_back_dated_entries() -> None:
    ledger = Ledger(Contract())
    ada = make_history("ada", (10, GRANT), (-4, CONSUME), (4, REFUND), created_ms=5, times=(5, 6, 6))
    assert build_world(ada, make_history("bob", created_ms=7)).load_into(ledger, APPLICATION, NOW_MS) == (
        "ada",
        "bob",
    )
    account, start_ms = ledger.get_account(APPLICATION, "ada"), world_start_ms(NOW_MS)
    assert [tuple(row) for row in account.entries()] == [
        (10, GRANT, start_ms + 5, 10),
        (-4, CONSUME, start_ms + 6, 6),
        (4, REFUND, start_ms + 6, 10),
    ]
    assert account.created_at_ms == start_ms + 5
    assert [account.user_id for account in ledger.page_of_users(APPLICATION, None, 9)[0]] == ["ada", "bob"]
    ledger.verify_balances()


@pytest.mark.parametrize(
    ("contract", "invalid_history", "message"),
    [
        (
            Contract(),
            make_history("eve", (1, GRANT), (-2, CONSUME)),
            "user 'eve': user 'eve' has a balance of 1, which can't",
        ),
        (Contract(), make_history("eve", (-1, GRANT)), "user 'eve': delta must be greater than 0 for reason 'grant'"),
        (
            Contract(ceiling=9),
            make_history("eve", (10, GRANT)),
            "user 'eve': a balance of 0 plus 10 exceeds the ceiling",
        ),
        (Contract(), make_history("eve", (MAX_AMOUNT + 1, GRANT)), "user 'eve': delta must be at most"),
        (Contract(id_max_length=3), make_history("evelyn"), "user 'evelyn': the id must be at most 3 characters long"),
        (Contract(id_pattern="[a-z]+"), make_history("Eve"), "user 'Eve': the id must match the contract's pattern"),
        (Contract(), make_history("a\nb"), "the id must not contain control characters"),
        (Contract(), make_history(".."), r"user '\.\.': the id is not allowed"),
        (Contract(applications=("shop",)), make_history("eve"), "unknown application 'app-id'"),
    ],
)
def test_world_that_violates_the_contract_loads_no_users(
    contract: Contract, invalid_history: UserHistory, message: str
) -> None:
    ledger = Ledger(contract)
    with pytest.raises(WorldError, match=f"world 'own' can't be used here: .*{message}"):
        build_world(make_history("ada"), invalid_history).load_into(ledger, APPLICATION, NOW_MS)
    assert ledger.find_account(APPLICATION, "ada") is None


def test_world_is_checked_against_the_ledgers_contract() -> None:
    ledger = Ledger(Contract(floor=-5, sign="free", ceiling=None))
    build_world(make_history("ada", (-5, GRANT))).load_into(ledger, APPLICATION, NOW_MS)
    assert ledger.get_account(APPLICATION, "ada").balance == -5


def test_existing_user_raises_and_loads_no_users() -> None:
    ledger = Ledger(Contract())
    ledger.create_user(APPLICATION, "bob", NOW_MS)
    with pytest.raises(WorldError, match="user 'bob': a user with this id already exists"):
        build_world(make_history("ada"), make_history("bob")).load_into(ledger, APPLICATION, NOW_MS)
    assert ledger.find_account(APPLICATION, "ada") is None
    build_world(make_history("bob")).load_into(ledger, "another-app", NOW_MS)


def counting_world(size: int) -> tuple[World, list[int]]:
    """Return a world and a list that grows each time the world's histories are generated."""
    calls: list[int] = []

    def histories() -> tuple[UserHistory, ...]:
        calls.append(1)
        return make_history("ada", (10, GRANT)), make_history("bob")

    return World("own", 0, size, histories), calls


@pytest.mark.parametrize("size", [MAX_KEPT_TRANSACTIONS, MAX_KEPT_TRANSACTIONS + 1])
def test_histories_are_generated_once_for_equal_ledgers(size: int) -> None:
    (custom_world, calls), contract = counting_world(size), Contract()
    ledgers = [Ledger(contract) for _ in range(3)]
    for minute, ledger in enumerate(ledgers):
        assert custom_world.load_into(ledger, APPLICATION, NOW_MS + 60_000 * minute) == ("ada", "bob")
    ledgers[1].append(ledgers[1].get_account(APPLICATION, "ada"), -4, CONSUME, NOW_MS)
    assert [ledger.get_account(APPLICATION, "ada").balance for ledger in ledgers] == [10, 6, 10]
    for ledger in ledgers:
        ledger.verify_balances()
    assert len(calls) == 1


WEEK_MS = timedelta(days=7) // timedelta(milliseconds=1)


@pytest.mark.parametrize(("size", "call_count"), [(MAX_KEPT_TRANSACTIONS, 1), (MAX_KEPT_TRANSACTIONS + 1, 4)])
def test_different_week_application_or_contract_regenerates_only_large_worlds(size: int, call_count: int) -> None:
    """The histories of a small world are kept and reused; those of a world too large to keep are generated again."""
    custom_world, calls = counting_world(size)
    for contract, application, now_ms in (
        (Contract(), APPLICATION, NOW_MS),
        (Contract(), APPLICATION, NOW_MS + WEEK_MS),
        (Contract(), "shop", NOW_MS + WEEK_MS),
    ):
        ledger = Ledger(contract)
        custom_world.load_into(ledger, application, now_ms)
        account = ledger.get_account(application, "ada")
        assert (account.application_id, account.created_at_ms) == (application, world_start_ms(now_ms))
        assert next(account.entries()).at_ms == world_start_ms(now_ms)
    with pytest.raises(WorldError, match="exceeds the ceiling of 9"):
        custom_world.load_into(Ledger(Contract(ceiling=9)), "shop", NOW_MS + WEEK_MS)
    assert len(calls) == call_count


def test_reset_and_second_sandbox_reuse_a_large_world() -> None:
    custom_world, calls = counting_world(MAX_KEPT_TRANSACTIONS + 1)
    with FakeCredits(world=custom_world) as first, FakeCredits(world=custom_world) as second:
        first.server_client.create_transaction(APPLICATION, "ada", delta=-3, reason="consume")
        assert (first.balance("ada"), second.balance("ada")) == (7, 10)
        first.reset()
        assert first.balance("ada") == 10
        assert first.problems() == second.problems() == []
    assert len(calls) == 1
