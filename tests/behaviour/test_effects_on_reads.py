"""Effects on reads and authentication, over both drivers."""

from collections.abc import Iterator
from typing import Any

import pytest

from fake_credits.client.user import UserClient
from fake_credits.contract import Contract
from fake_credits.errors import (
    InsufficientCredits,
    InvalidApiKey,
    InvalidCursor,
    InvalidResponse,
    InvalidToken,
    RateLimited,
    TokenExpired,
    UserNotFound,
)
from fake_credits.fake import ClientMode, FakeCredits
from fake_credits.faults.effects import (
    BadCursor,
    RateLimit,
    SchemaDrift,
    StaleRead,
    Unauthorized,
)
from fake_credits.transports.in_process import IN_PROCESS_BASE_URL
from fake_credits.transports.shared_resources import SharedResources
from tests.behaviour.conftest import CONTRACTS
from tests.behaviour.effect_cases import START, open_transport

APP, ADA = "app-id", "ada"


@pytest.fixture
def fake(mode: ClientMode, shared: SharedResources) -> Iterator[FakeCredits]:
    """Yield a sandbox with a frozen clock, in which ada has 100 credits."""
    with FakeCredits(mode=mode, shared=shared, users={ADA: 100}, clock=START) as fake:
        yield fake
        fake.sandbox.ledger.verify_balances()
        assert fake.sandbox.bugs == []


def spend(fake: FakeCredits, delta: int = -1) -> Any:
    return fake.server_client.create_transaction(APP, ADA, delta=delta, reason="consume")


def balance(fake: FakeCredits) -> int:
    return fake.server_client.get_balance(APP, ADA).balance


def history(fake: FakeCredits) -> list[int]:
    """Return the deltas of the transaction list, newest first."""
    return [item.delta for item in fake.server_client.iter_transactions(APP, ADA)]


# ------------------------------------------------------------ rate_limit


def retry_after_of_call(fake: FakeCredits, user: str = ADA) -> int | None:
    """Make a call; return Retry-After in seconds if it is rejected, else None."""
    try:
        fake.user_client(user).get_balance(user)
    except RateLimited as error:
        return error.retry_after_s
    return None


def test_rate_limit_window_slides_and_admits_after_retry_after(fake: FakeCredits) -> None:
    fake.faults.add(RateLimit(2, 10))
    assert retry_after_of_call(fake) is None
    fake.clock.advance(seconds=3)
    assert retry_after_of_call(fake) is None
    fake.clock.advance(seconds=1)
    assert retry_after_of_call(fake) == 6
    fake.clock.advance(seconds=5.999)
    assert retry_after_of_call(fake) == 1
    fake.clock.advance(seconds=0.001)
    assert retry_after_of_call(fake) is None
    assert retry_after_of_call(fake) == 3


def test_rejected_calls_are_not_counted_by_rate_limit(fake: FakeCredits) -> None:
    fake.faults.add(RateLimit(1, 10))
    assert retry_after_of_call(fake) is None
    for _ in range(9):
        fake.clock.advance(seconds=1)
        assert retry_after_of_call(fake) is not None
    fake.clock.advance(seconds=1)
    assert retry_after_of_call(fake) is None


def test_rate_limit_counts_all_users_unless_per_user(fake: FakeCredits) -> None:
    fake.user("bob")
    rule = fake.faults.add(RateLimit(1, 10))
    assert [retry_after_of_call(fake), retry_after_of_call(fake, "bob")] == [None, 10]
    rule.remove()
    fake.faults.add(RateLimit(1, 10), per="user")
    assert [retry_after_of_call(fake), retry_after_of_call(fake, "bob"), retry_after_of_call(fake)] == [None, None, 10]


def test_retry_after_is_rounded_up_to_whole_seconds(fake: FakeCredits) -> None:
    fake.faults.add(RateLimit(1, 0.25))
    assert [retry_after_of_call(fake), retry_after_of_call(fake)] == [None, 1]
    fake.clock.advance(seconds=0.25)
    assert retry_after_of_call(fake) is None


# ------------------------------------------------------------ stale_read


def test_stale_read_hides_last_writes_in_balance_and_list(fake: FakeCredits) -> None:
    spend(fake, -1)
    fake.faults.add(StaleRead(by_writes=2))
    assert (balance(fake), history(fake)) == (99, [-1, 100])
    spend(fake, -10)
    spend(fake, -20)
    assert (balance(fake), history(fake)) == (99, [-1, 100])
    spend(fake, -30)
    assert (balance(fake), history(fake)) == (89, [-10, -1, 100])
    assert fake.balance(ADA) == 39


def test_stale_read_never_hides_entries_from_before_the_rule(fake: FakeCredits) -> None:
    for rule in (StaleRead(by_writes=1000), StaleRead(by_ms=86_400_000)):
        spend(fake)
        with fake.faults(rule):
            assert (balance(fake), len(history(fake))) == (fake.balance(ADA), 101 - fake.balance(ADA))


def test_stale_read_catches_up_after_its_lag(fake: FakeCredits) -> None:
    fake.faults.add(StaleRead(by_ms=500))
    spend(fake, -10)
    fake.clock.advance(seconds=0.3)
    spend(fake, -20)
    assert (balance(fake), history(fake)) == (100, [100])
    fake.clock.advance(seconds=0.199)
    assert balance(fake) == 100
    fake.clock.advance(seconds=0.001)
    assert (balance(fake), history(fake)) == (90, [-10, 100])
    fake.clock.advance(seconds=0.3)
    assert (balance(fake), history(fake)) == (70, [-20, -10, 100])


def test_stale_read_affects_neither_users_nor_write_checks(fake: FakeCredits) -> None:
    fake.faults.add(StaleRead(by_writes=1000))
    fake.server_client.create_user(APP, "bob")
    fake.server_client.create_transaction(APP, "bob", delta=5, reason="grant")
    assert fake.user_client("bob").get_balance("bob").balance == 0
    assert fake.server_client.list_transactions(APP, "bob").transactions == ()
    assert fake.server_client.get_user(APP, "bob").user_id == "bob"
    with pytest.raises(UserNotFound):
        fake.server_client.get_balance(APP, "nobody")
    with pytest.raises(InsufficientCredits):
        fake.server_client.create_transaction(APP, "bob", delta=-6, reason="consume")


def test_stale_read_for_one_user_leaves_others_unchanged(fake: FakeCredits) -> None:
    fake.user("bob", balance=5)
    fake.faults.add(StaleRead(by_writes=5), user="bob")
    spend(fake)
    fake.server_client.create_transaction(APP, "bob", delta=-5, reason="consume")
    assert (balance(fake), fake.server_client.get_balance(APP, "bob").balance) == (99, 5)


def test_stale_list_pages_end_at_the_stale_position(fake: FakeCredits) -> None:
    fake.faults.add(StaleRead(by_writes=7))
    for number in range(1, 65):
        spend(fake, -1 - number % 2)
    deltas = history(fake)
    assert len(deltas) == 65 - 7
    assert sum(deltas) == balance(fake)


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS)
def test_cursor_from_fresh_read_works_in_stale_list(
    shared: SharedResources, mode: ClientMode, contract: Contract
) -> None:
    """A cursor beyond the stale position is accepted, and no item is returned twice."""
    with FakeCredits(mode=mode, shared=shared, contract=contract, users={ADA: 5}, clock=START) as fake:
        client, size = fake.server_client, contract.page_size
        stale_rule = fake.faults.add(StaleRead(by_writes=2 * size))
        for _ in range(2 * size):
            client.create_transaction(APP, ADA, delta=1, reason="grant")
        stale_rule.remove()
        page = client.list_transactions(APP, ADA)
        collected = len(page.transactions)
        with fake.faults(StaleRead(by_writes=1)):
            client.create_transaction(APP, ADA, delta=1, reason="grant")
            while page.next_cursor is not None:
                page = client.list_transactions(APP, ADA, page.next_cursor)
                collected += len(page.transactions)
        assert collected == 2 * size + 1


def test_configured_stale_read_rule_restarts_after_reset(shared: SharedResources, mode: ClientMode) -> None:
    options: dict[str, Any] = {"users": {ADA: 100}, "faults": [StaleRead(by_writes=5)], "clock": START}
    with FakeCredits(mode=mode, shared=shared, **options) as fake:
        for _ in range(2):
            assert balance(fake) == 100
            spend(fake)
            assert (balance(fake), fake.balance(ADA)) == (100, 99)
            fake.reset()


# ------------------------------------------------------------ bad_cursor


@pytest.fixture(params=[3, 45], ids=["one page", "three pages"])
def item_count(request: pytest.FixtureRequest, fake: FakeCredits) -> int:
    """Create users and transactions, and return the number of each."""
    count: int = request.param
    for number in range(count - 1):
        fake.user(f"user-{number}")
        fake.user(ADA, balance=200 + number)
    return count


def list_iterators(fake: FakeCredits) -> list[Iterator[Any]]:
    client = fake.server_client
    return [client.iter_users(APP), client.iter_transactions(APP, ADA), fake.user_client(ADA).iter_transactions(ADA)]


@pytest.mark.parametrize("kind", ["repeat", "cycle"])
def test_iterators_detect_an_endless_list(fake: FakeCredits, item_count: int, kind: Any) -> None:
    fake.faults.add(BadCursor(kind))
    for items in list_iterators(fake):
        with pytest.raises(InvalidResponse, match="the list would never end"):
            list(items)


def test_cycle_returns_every_item_before_repeating(fake: FakeCredits, item_count: int) -> None:
    fake.faults.add(BadCursor("cycle"))
    client = fake.server_client
    first = page = client.list_users(APP)
    collected = list(page.users)
    while len(collected) < item_count:
        page = client.list_users(APP, page.next_cursor)
        collected += page.users
    assert len({user.user_id for user in collected}) == item_count == len(collected)
    assert client.list_users(APP, page.next_cursor).users == first.users


def test_expired_cursor_is_rejected_but_first_page_is_not(fake: FakeCredits, item_count: int) -> None:
    fake.faults.add(BadCursor("expired"))
    for items in list_iterators(fake):
        if item_count == 3:
            assert len(list(items)) == 3
        else:
            with pytest.raises(InvalidCursor, match="expired") as caught:
                list(items)
            assert caught.value.status == 400


def test_empty_first_page_loses_no_item(fake: FakeCredits, item_count: int) -> None:
    expected = [list(items) for items in list_iterators(fake)]
    fake.faults.add(BadCursor("empty_page"))
    assert [list(items) for items in list_iterators(fake)] == expected
    assert fake.server_client.list_users(APP).users == ()


@pytest.mark.parametrize("kind", ["repeat", "cycle", "expired", "empty_page"])
def test_bad_cursor_does_not_affect_empty_list(fake: FakeCredits, kind: Any) -> None:
    fake.faults.add(BadCursor(kind))
    assert list(fake.server_client.iter_users("nothing")) == []


# ------------------------------------------------------------ schema_drift and unauthorized


def test_clients_accept_schema_drift(fake: FakeCredits) -> None:
    with fake.faults(SchemaDrift("extra_field")):
        assert (balance(fake), history(fake), spend(fake).delta) == (100, [100], -1)
    with fake.faults(SchemaDrift("unknown_reason")):
        assert spend(fake).reason == "adjustment"
        assert {item.reason for item in fake.server_client.iter_transactions(APP, ADA)} == {"adjustment"}
    with fake.faults(SchemaDrift("null_for_absent")):
        assert len(history(fake)) == 3
    assert history(fake) == [-1, -1, 100]


def test_missing_field_raises_invalid_response_naming_it(fake: FakeCredits) -> None:
    fake.faults.add(SchemaDrift("missing_optional"))
    with pytest.raises(InvalidResponse, match="createdAt"):
        spend(fake)
    assert fake.balance(ADA) == 99


def test_revoked_key_affects_server_client_only(fake: FakeCredits) -> None:
    fake.faults.add(Unauthorized("revoked"))
    with pytest.raises(InvalidApiKey, match="revoked"):
        spend(fake)
    assert fake.user_client(ADA).get_balance(ADA).balance == 100


def test_rotated_keys_affect_user_client_only(fake: FakeCredits) -> None:
    fake.faults.add(Unauthorized("rotated"))
    with pytest.raises(InvalidToken, match="rotated"):
        fake.user_client(ADA).get_balance(ADA)
    assert balance(fake) == 100


@pytest.mark.parametrize(("skew_s", "expired"), [(54, False), (64, False), (65, True), (86_400, True)])
def test_clock_skew_expires_token_early(
    fake: FakeCredits, mode: ClientMode, shared: SharedResources, skew_s: int, expired: bool
) -> None:
    """The token is valid for 60 s, plus 5 s of leeway."""
    token = fake.token(ADA, expires_in_s=60)
    fake.faults.add(Unauthorized(clock_skew_s=skew_s))
    with open_transport(fake, mode, shared) as transport:
        client = UserClient(IN_PROCESS_BASE_URL, APP, token, transport=transport)
        if expired:
            with pytest.raises(TokenExpired):
                client.get_balance(ADA)
        else:
            assert client.get_balance(ADA).balance == 100
