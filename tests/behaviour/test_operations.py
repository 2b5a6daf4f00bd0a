"""What each operation does, as our clients see it under any contract."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice

import pytest

from fake_credits.contract import MAX_AMOUNT, Operation, RouteTemplate
from fake_credits.errors import (
    BalanceLimitExceeded,
    InsufficientCredits,
    InvalidCursor,
    RouteNotFound,
    UserNotFound,
    ValidationError,
)
from fake_credits.models import Reason
from tests.behaviour.conftest import APP, NOW, World

ODD_IDS = ["a/b", "..a", "ü", "日本", " ", "a b", "%2F", "a?b#c", "auth0|1", "a+b", "x" * 256]


def as_sent(world: World, moment: datetime = NOW) -> datetime:
    """Return a moment as exactly as the contract can say it."""
    return moment if world.contract.created_at in ("iso_ms", "unix_ms") else moment.replace(microsecond=0)


def test_a_user_that_is_created_is_the_user_that_is_read(world: World) -> None:
    created = world.server.create_user(APP, "ada")
    assert (created.application_id, created.user_id) == (APP, "ada")
    assert created.created_at == as_sent(world)
    assert created.created_at.tzinfo is UTC
    assert world.server.get_user(APP, "ada") == created


def test_creating_a_user_again_changes_nothing(world: World) -> None:
    server = world.server
    created = server.create_user(APP, "ada")
    server.create_transaction(APP, "ada", delta=5, reason="grant")
    world.fake.clock.advance(seconds=60)
    assert server.create_user(APP, "ada") == created
    assert server.get_balance(APP, "ada").balance == 5
    assert len(server.list_users(APP).users) == 1


def test_a_new_user_has_no_credits_and_no_history(world: World) -> None:
    world.server.create_user(APP, "ada")
    assert world.server.get_balance(APP, "ada").balance == 0
    page = world.server.list_transactions(APP, "ada")
    assert (page.transactions, page.next_cursor) == ((), None)


def test_an_application_without_users_has_an_empty_list(world: World) -> None:
    page = world.server.list_users(APP)
    assert (page.users, page.next_cursor) == ((), None)


@pytest.mark.parametrize("count", [1, 20, 45])
def test_every_user_is_listed_once_in_the_contracts_order(world: World, count: int) -> None:
    names = [f"user-{number}" for number in range(count)]
    for name in names:
        world.fake.user(name)
    listed = [user.user_id for user in world.server.iter_users(APP)]
    assert listed == (names if world.contract.users_order == "oldest_first" else names[::-1])


def test_a_page_has_the_contracts_size_and_the_last_has_no_cursor(world: World) -> None:
    size = world.contract.page_size
    world.fake.user("ada")
    for _ in range(2 * size):
        world.server.create_transaction(APP, "ada", delta=1, reason="grant")
    first = world.server.list_transactions(APP, "ada")
    assert first.next_cursor is not None
    second = world.server.list_transactions(APP, "ada", first.next_cursor)
    assert [len(first.transactions), len(second.transactions)] == [size, size]
    assert second.next_cursor is None


def test_grants_consumptions_and_refunds_add_up_to_the_balance(world: World) -> None:
    server = world.server
    server.create_user(APP, "ada")
    moves = [(100, Reason.GRANT), (-30, Reason.CONSUME), (5, Reason.REFUND), (-75, Reason.CONSUME)]
    balance = 0
    for delta, reason in moves:
        made = server.create_transaction(APP, "ada", delta=delta, reason=reason)
        assert (made.delta, made.reason, made.created_at) == (delta, reason, as_sent(world))
        balance += delta
        assert server.get_balance(APP, "ada").balance == balance
    history = [(each.delta, each.reason) for each in server.iter_transactions(APP, "ada")]
    assert history == (moves if world.contract.transactions_order == "oldest_first" else moves[::-1])


def test_a_long_history_is_read_whole_over_many_pages(world: World) -> None:
    world.fake.user("ada")
    with world.fake.sandbox.lock:
        account = world.fake.sandbox.ledger.get_account(APP, "ada")
        for delta in range(1, 65):
            world.fake.sandbox.ledger.append(account, delta, Reason.GRANT, world.fake.clock.now_ms())
    deltas = [each.delta for each in world.server.iter_transactions(APP, "ada")]
    expected = list(range(1, 65))
    assert deltas == (expected if world.contract.transactions_order == "oldest_first" else expected[::-1])
    assert [each.delta for each in world.user().iter_transactions("ada")] == deltas


def test_what_is_written_meanwhile_makes_no_entry_skip_or_repeat(world: World) -> None:
    server, size = world.server, world.contract.page_size
    world.fake.user("ada")
    for delta in range(1, size + 3):
        server.create_transaction(APP, "ada", delta=delta, reason="grant")
    first = server.list_transactions(APP, "ada")
    server.create_transaction(APP, "ada", delta=1000, reason="grant")
    second = server.list_transactions(APP, "ada", first.next_cursor)
    seen = [each.delta for each in (*first.transactions, *second.transactions) if each.delta != 1000]
    assert sorted(seen) == list(range(1, size + 3))


def test_an_overdraft_is_refused_whole_with_the_contracts_status(world: World) -> None:
    world.fake.user("ada", balance=10)
    with pytest.raises(InsufficientCredits) as caught:
        world.server.create_transaction(APP, "ada", delta=-11, reason="consume")
    assert caught.value.status == world.contract.status_of(InsufficientCredits)
    assert world.server.get_balance(APP, "ada").balance == 10
    assert len(world.server.list_transactions(APP, "ada").transactions) == 1


def test_the_last_credit_can_be_consumed(world: World) -> None:
    world.fake.user("ada", balance=10)
    world.server.create_transaction(APP, "ada", delta=-10, reason="consume")
    assert world.server.get_balance(APP, "ada").balance == 0


def test_a_grant_over_the_ceiling_is_refused(world: World) -> None:
    world.fake.user("ada", balance=MAX_AMOUNT)
    with pytest.raises(BalanceLimitExceeded) as caught:
        world.server.create_transaction(APP, "ada", delta=1, reason="refund")
    assert caught.value.status == 400
    assert world.server.get_balance(APP, "ada").balance == MAX_AMOUNT


@pytest.mark.parametrize(
    ("delta", "reason", "member"),
    [
        (-1, "grant", "delta"),
        (-1, "refund", "delta"),
        (1, "consume", "delta"),
        (0, "grant", "delta"),
        (1.5, "grant", "delta"),
        (2**53, "grant", "delta"),
        (1, "gift", "reason"),
    ],
)
def test_a_transaction_that_breaks_a_rule_names_the_member_by_its_name_on_the_wire(
    world: World, delta: float, reason: str, member: str
) -> None:
    world.fake.user("ada", balance=10)
    with pytest.raises(ValidationError) as caught:
        world.server.create_transaction(APP, "ada", delta=delta, reason=reason)
    name = world.contract.name_of(member)
    assert name in caught.value.message
    if world.contract.error_body != "flat":
        assert [each.field for each in caught.value.details] == [name]
    assert world.fake.balance("ada") == 10


def test_users_and_applications_know_nothing_of_each_other(world: World) -> None:
    server = world.server
    for app, user, amount in [(APP, "ada", 1), (APP, "bob", 2), ("other", "ada", 3)]:
        server.create_user(app, user)
        server.create_transaction(app, user, delta=amount, reason="grant")
    assert [server.get_balance(*whose).balance for whose in [(APP, "ada"), (APP, "bob"), ("other", "ada")]] == [1, 2, 3]
    assert [user.user_id for user in server.iter_users("other")] == ["ada"]
    assert [each.delta for each in server.iter_transactions(APP, "bob")] == [2]


@pytest.mark.parametrize("operation", ["get_user", "get_balance", "list_transactions", "create_transaction"])
def test_a_user_who_does_not_exist_is_not_found(world: World, operation: str) -> None:
    world.fake.user("ada", application_id="other")
    words = {"delta": 1, "reason": "grant"} if operation == "create_transaction" else {}
    with pytest.raises(UserNotFound, match="application 'other' does have one") as caught:
        getattr(world.server, operation)(APP, "ada", **words)
    assert caught.value.status == 404
    assert world.server.list_users(APP).users == ()


def test_an_id_is_compared_exactly_and_comes_back_as_it_was(world: World) -> None:
    for user_id in ODD_IDS:
        assert world.server.create_user("a/p?p", user_id).user_id == user_id
        read = world.user(user_id, "a/p?p").get_user(user_id)
        assert (read.application_id, read.user_id) == ("a/p?p", user_id)


def test_a_cursor_that_no_list_gave_out_is_refused(world: World) -> None:
    world.fake.user("ada")
    for cursor in ("", "rubbish", "☃", "AAAA", "null"):
        with pytest.raises(InvalidCursor) as caught:
            world.server.list_transactions(APP, "ada", cursor)
        assert caught.value.status == 400


def test_a_cursor_is_good_for_its_own_list_only(world: World) -> None:
    for user in ("ada", "bob"):
        world.fake.user(user)
        with world.fake.sandbox.lock:
            account = world.fake.sandbox.ledger.get_account(APP, user)
            for _ in range(25):
                world.fake.sandbox.ledger.append(account, 1, Reason.GRANT, 0)
    cursor = world.server.list_transactions(APP, "ada").next_cursor
    with pytest.raises(InvalidCursor):
        world.server.list_transactions(APP, "bob", cursor)
    with pytest.raises(InvalidCursor):
        world.server.list_users(APP, cursor)
    assert world.user().list_transactions("ada", cursor) == world.server.list_transactions(APP, "ada", cursor)


def test_a_walk_fetches_no_page_before_it_is_needed(world: World) -> None:
    for number in range(world.contract.page_size + 1):
        world.fake.user(f"user-{number}")
    before = len(world.fake.journal)
    list(islice(world.server.iter_users(APP), 1))
    fetched = len(world.fake.journal) - before
    assert fetched in (1, 2)  # the blocking twin of an async walk is read whole


def test_a_client_of_another_contract_is_told_the_nearest_operation_and_what_moves_it(world: World) -> None:
    wanted = world.contract.routes[Operation.GET_BALANCE]
    moved = {**world.contract.routes, Operation.GET_BALANCE: RouteTemplate(wanted.method, wanted.path + "_of")}
    stranger = world.server_with(world.fake.api_key, replace(world.contract, routes=moved))
    with pytest.raises(RouteNotFound) as caught:
        stranger.get_balance(APP, "ada")
    assert f"the nearest operation is getBalance: {wanted}" in caught.value.message
    assert "routes.getBalance" in caught.value.message
