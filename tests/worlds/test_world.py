"""Worlds: back-dated into a ledger whole or not at all, by the rules of its contract."""

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
from tests.worlds.conftest import CONSUME, GRANT, REFUND, history, world

NOW_MS = to_ms(datetime(2030, 6, 15, 12, 30, tzinfo=UTC))
APPLICATION = "app-id"


def test_a_world_ends_on_the_last_monday_and_starts_within_the_last_year() -> None:
    monday = datetime(2030, 6, 10, tzinfo=UTC)
    for hours in (0, 1, 24 * 5, 24 * 7 - 1):
        now_ms = to_ms(monday + timedelta(hours=hours))
        assert from_ms(world_start_ms(now_ms) + WORLD_SPAN_MS) == monday
        assert now_ms - world_start_ms(now_ms) < 365 * 86_400_000


def test_a_clock_without_a_year_before_it_is_refused() -> None:
    assert world_start_ms(to_ms(datetime(1971, 1, 1, tzinfo=UTC))) >= 0
    with pytest.raises(WorldError, match="the clock is at 1970-12-01: a world needs the year before it"):
        world_start_ms(to_ms(datetime(1970, 12, 1, tzinfo=UTC)))


def test_users_are_loaded_in_order_with_balances_and_with_times_of_the_past() -> None:
    ledger = Ledger(Contract())
    ada = history("ada", (10, GRANT), (-4, CONSUME), (4, REFUND), created=5, times=(5, 6, 6))
    assert world(ada, history("bob", created=7)).load_into(ledger, APPLICATION, NOW_MS) == ("ada", "bob")
    account, start_ms = ledger.get_account(APPLICATION, "ada"), world_start_ms(NOW_MS)
    assert [tuple(row) for row in account.entries()] == [
        (10, GRANT, start_ms + 5, 10),
        (-4, CONSUME, start_ms + 6, 6),
        (4, REFUND, start_ms + 6, 10),
    ]
    assert account.created_at_ms == start_ms + 5
    assert [each.user_id for each in ledger.page_of_users(APPLICATION, None, 9)[0]] == ["ada", "bob"]
    ledger.verify_balances()


@pytest.mark.parametrize(
    ("contract", "second", "said"),
    [
        (
            Contract(),
            history("eve", (1, GRANT), (-2, CONSUME)),
            "user 'eve': user 'eve' has a balance of 1, so 2 can't",
        ),
        (Contract(), history("eve", (-1, GRANT)), "user 'eve': delta must be greater than 0 for reason 'grant'"),
        (Contract(ceiling=9), history("eve", (10, GRANT)), "user 'eve': a balance of 0 plus 10 is over the ceiling"),
        (Contract(), history("eve", (MAX_AMOUNT + 1, GRANT)), "user 'eve': delta must be at most"),
        (Contract(id_max_length=3), history("evelyn"), "user 'evelyn': its id must have at most 3 characters"),
        (Contract(id_pattern="[a-z]+"), history("Eve"), "user 'Eve': its id must match the contract's pattern"),
        (Contract(), history("a\nb"), "its id must not have control characters"),
        (Contract(), history(".."), r"user '\.\.': its id is none"),
        (Contract(applications=("shop",)), history("eve"), "there is no application 'app-id'"),
    ],
)
def test_a_world_that_breaks_a_rule_of_the_contract_is_refused_by_the_user_s_name_and_nobody_is_loaded(
    contract: Contract, second: UserHistory, said: str
) -> None:
    ledger = Ledger(contract)
    with pytest.raises(WorldError, match=f"world 'own' can't be had here: .*{said}"):
        world(history("ada"), second).load_into(ledger, APPLICATION, NOW_MS)
    assert ledger.find_account(APPLICATION, "ada") is None


def test_what_another_contract_allows_is_loaded() -> None:
    ledger = Ledger(Contract(floor=-5, sign="free", ceiling=None))
    world(history("ada", (-5, GRANT))).load_into(ledger, APPLICATION, NOW_MS)
    assert ledger.get_account(APPLICATION, "ada").balance == -5


def test_a_user_who_exists_is_left_alone_and_named() -> None:
    ledger = Ledger(Contract())
    ledger.create_user(APPLICATION, "bob", NOW_MS)
    with pytest.raises(WorldError, match="user 'bob': there is such a user already"):
        world(history("ada"), history("bob")).load_into(ledger, APPLICATION, NOW_MS)
    assert ledger.find_account(APPLICATION, "ada") is None
    world(history("bob")).load_into(ledger, "another-app", NOW_MS)


def counted(size: int) -> tuple[World, list[int]]:
    """Return a world that counts how often it was made."""
    made: list[int] = []

    def make() -> tuple[UserHistory, ...]:
        made.append(1)
        return history("ada", (10, GRANT)), history("bob")

    return World("own", 0, size, make), made


@pytest.mark.parametrize("size", [MAX_KEPT_TRANSACTIONS, MAX_KEPT_TRANSACTIONS + 1])
def test_a_world_is_made_once_for_ledgers_of_one_kind_whatever_its_size(size: int) -> None:
    (own, made), contract = counted(size), Contract()
    ledgers = [Ledger(contract) for _ in range(3)]
    for minute, ledger in enumerate(ledgers):
        assert own.load_into(ledger, APPLICATION, NOW_MS + 60_000 * minute) == ("ada", "bob")
    ledgers[1].append(ledgers[1].get_account(APPLICATION, "ada"), -4, CONSUME, NOW_MS)
    assert [ledger.get_account(APPLICATION, "ada").balance for ledger in ledgers] == [10, 6, 10]
    for ledger in ledgers:
        ledger.verify_balances()
    assert len(made) == 1


WEEK = timedelta(days=7) // timedelta(milliseconds=1)


@pytest.mark.parametrize(("size", "times_made"), [(MAX_KEPT_TRANSACTIONS, 1), (MAX_KEPT_TRANSACTIONS + 1, 4)])
def test_another_week_application_or_contract_has_histories_of_its_own(size: int, times_made: int) -> None:
    """They are moved in time, or checked by other rules; of a world that is too large to keep they are made anew."""
    own, made = counted(size)
    for contract, application, now_ms in (
        (Contract(), APPLICATION, NOW_MS),
        (Contract(), APPLICATION, NOW_MS + WEEK),
        (Contract(), "shop", NOW_MS + WEEK),
    ):
        ledger = Ledger(contract)
        own.load_into(ledger, application, now_ms)
        account = ledger.get_account(application, "ada")
        assert (account.application_id, account.created_at_ms) == (application, world_start_ms(now_ms))
        assert next(account.entries()).at_ms == world_start_ms(now_ms)
    with pytest.raises(WorldError, match="over the ceiling of 9"):
        own.load_into(Ledger(Contract(ceiling=9)), "shop", NOW_MS + WEEK)
    assert len(made) == times_made


def test_a_reset_and_another_sandbox_start_from_a_large_world_without_its_being_made_anew() -> None:
    own, made = counted(MAX_KEPT_TRANSACTIONS + 1)
    with FakeCredits(world=own) as one, FakeCredits(world=own) as another:
        one.server_client.create_transaction(APPLICATION, "ada", delta=-3, reason="consume")
        assert (one.balance("ada"), another.balance("ada")) == (7, 10)
        one.reset()
        assert one.balance("ada") == 10
        assert one.problems() == another.problems() == []
    assert len(made) == 1
