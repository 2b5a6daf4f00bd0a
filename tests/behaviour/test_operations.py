"""Every operation, through the clients under any contract."""

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
from tests.behaviour.conftest import APP, NOW, ApiEnvironment

UNUSUAL_IDS = ["a/b", "..a", "ü", "日本", " ", "a b", "%2F", "a?b#c", "auth0|1", "a+b", "x" * 256]


def with_contract_precision(env: ApiEnvironment, moment: datetime = NOW) -> datetime:
    """Return a time truncated to the contract's precision."""
    return moment if env.contract.created_at in ("iso_ms", "unix_ms") else moment.replace(microsecond=0)


def test_created_user_equals_user_read_back(env: ApiEnvironment) -> None:
    created = env.server.create_user(APP, "ada")
    assert (created.application_id, created.user_id) == (APP, "ada")
    assert created.created_at == with_contract_precision(env)
    assert created.created_at.tzinfo is UTC
    assert env.server.get_user(APP, "ada") == created


def test_creating_existing_user_changes_nothing(env: ApiEnvironment) -> None:
    server = env.server
    created = server.create_user(APP, "ada")
    server.create_transaction(APP, "ada", delta=5, reason="grant")
    env.fake.clock.advance(seconds=60)
    assert server.create_user(APP, "ada") == created
    assert server.get_balance(APP, "ada").balance == 5
    assert len(server.list_users(APP).users) == 1


def test_new_user_has_zero_balance_and_empty_history(env: ApiEnvironment) -> None:
    env.server.create_user(APP, "ada")
    assert env.server.get_balance(APP, "ada").balance == 0
    page = env.server.list_transactions(APP, "ada")
    assert (page.transactions, page.next_cursor) == ((), None)


def test_application_without_users_has_empty_list(env: ApiEnvironment) -> None:
    page = env.server.list_users(APP)
    assert (page.users, page.next_cursor) == ((), None)


@pytest.mark.parametrize("count", [1, 20, 45])
def test_every_user_is_listed_once_in_contract_order(env: ApiEnvironment, count: int) -> None:
    names = [f"user-{number}" for number in range(count)]
    for name in names:
        env.fake.user(name)
    listed = [user.user_id for user in env.server.iter_users(APP)]
    assert listed == (names if env.contract.users_order == "oldest_first" else names[::-1])


def test_page_has_contract_size_and_last_page_has_no_cursor(env: ApiEnvironment) -> None:
    size = env.contract.page_size
    env.fake.user("ada")
    for _ in range(2 * size):
        env.server.create_transaction(APP, "ada", delta=1, reason="grant")
    first = env.server.list_transactions(APP, "ada")
    assert first.next_cursor is not None
    second = env.server.list_transactions(APP, "ada", first.next_cursor)
    assert [len(first.transactions), len(second.transactions)] == [size, size]
    assert second.next_cursor is None


def test_transactions_add_up_to_the_balance(env: ApiEnvironment) -> None:
    server = env.server
    server.create_user(APP, "ada")
    changes = [(100, Reason.GRANT), (-30, Reason.CONSUME), (5, Reason.REFUND), (-75, Reason.CONSUME)]
    balance = 0
    for delta, reason in changes:
        created = server.create_transaction(APP, "ada", delta=delta, reason=reason)
        assert (created.delta, created.reason, created.created_at) == (delta, reason, with_contract_precision(env))
        balance += delta
        assert server.get_balance(APP, "ada").balance == balance
    history = [(item.delta, item.reason) for item in server.iter_transactions(APP, "ada")]
    assert history == (changes if env.contract.transactions_order == "oldest_first" else changes[::-1])


def test_long_history_is_read_completely(env: ApiEnvironment) -> None:
    env.fake.user("ada")
    with env.fake.sandbox.lock:
        account = env.fake.sandbox.ledger.get_account(APP, "ada")
        for delta in range(1, 65):
            env.fake.sandbox.ledger.append(account, delta, Reason.GRANT, env.fake.clock.now_ms())
    deltas = [item.delta for item in env.server.iter_transactions(APP, "ada")]
    expected = list(range(1, 65))
    assert deltas == (expected if env.contract.transactions_order == "oldest_first" else expected[::-1])
    assert [item.delta for item in env.user().iter_transactions("ada")] == deltas


def test_concurrent_write_neither_skips_nor_repeats_entries(env: ApiEnvironment) -> None:
    server, size = env.server, env.contract.page_size
    env.fake.user("ada")
    for delta in range(1, size + 3):
        server.create_transaction(APP, "ada", delta=delta, reason="grant")
    first = server.list_transactions(APP, "ada")
    server.create_transaction(APP, "ada", delta=1000, reason="grant")
    second = server.list_transactions(APP, "ada", first.next_cursor)
    deltas = [item.delta for item in (*first.transactions, *second.transactions) if item.delta != 1000]
    assert sorted(deltas) == list(range(1, size + 3))


def test_overdraft_is_rejected_with_contract_status(env: ApiEnvironment) -> None:
    env.fake.user("ada", balance=10)
    with pytest.raises(InsufficientCredits) as caught:
        env.server.create_transaction(APP, "ada", delta=-11, reason="consume")
    assert caught.value.status == env.contract.status_of(InsufficientCredits)
    assert env.server.get_balance(APP, "ada").balance == 10
    assert len(env.server.list_transactions(APP, "ada").transactions) == 1


def test_last_credit_can_be_consumed(env: ApiEnvironment) -> None:
    env.fake.user("ada", balance=10)
    env.server.create_transaction(APP, "ada", delta=-10, reason="consume")
    assert env.server.get_balance(APP, "ada").balance == 0


def test_grant_over_ceiling_is_rejected(env: ApiEnvironment) -> None:
    env.fake.user("ada", balance=MAX_AMOUNT)
    with pytest.raises(BalanceLimitExceeded) as caught:
        env.server.create_transaction(APP, "ada", delta=1, reason="refund")
    assert caught.value.status == 400
    assert env.server.get_balance(APP, "ada").balance == MAX_AMOUNT


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
def test_validation_error_names_field_as_in_contract(
    env: ApiEnvironment, delta: float, reason: str, member: str
) -> None:
    env.fake.user("ada", balance=10)
    with pytest.raises(ValidationError) as caught:
        env.server.create_transaction(APP, "ada", delta=delta, reason=reason)
    name = env.contract.name_of(member)
    assert name in caught.value.message
    if env.contract.error_body != "flat":
        assert [item.field for item in caught.value.details] == [name]
    assert env.fake.balance("ada") == 10


def test_users_and_applications_are_isolated(env: ApiEnvironment) -> None:
    server = env.server
    for app, user, amount in [(APP, "ada", 1), (APP, "bob", 2), ("other", "ada", 3)]:
        server.create_user(app, user)
        server.create_transaction(app, user, delta=amount, reason="grant")
    assert [server.get_balance(*key).balance for key in [(APP, "ada"), (APP, "bob"), ("other", "ada")]] == [1, 2, 3]
    assert [user.user_id for user in server.iter_users("other")] == ["ada"]
    assert [item.delta for item in server.iter_transactions(APP, "bob")] == [2]


@pytest.mark.parametrize("operation", ["get_user", "get_balance", "list_transactions", "create_transaction"])
def test_unknown_user_is_not_found(env: ApiEnvironment, operation: str) -> None:
    env.fake.user("ada", application_id="other")
    arguments = {"delta": 1, "reason": "grant"} if operation == "create_transaction" else {}
    with pytest.raises(UserNotFound, match=", but application 'other' does") as caught:
        getattr(env.server, operation)(APP, "ada", **arguments)
    assert caught.value.status == 404
    assert env.server.list_users(APP).users == ()


def test_ids_are_preserved_exactly(env: ApiEnvironment) -> None:
    for user_id in UNUSUAL_IDS:
        assert env.server.create_user("a/p?p", user_id).user_id == user_id
        read = env.user(user_id, "a/p?p").get_user(user_id)
        assert (read.application_id, read.user_id) == ("a/p?p", user_id)


def test_invalid_cursor_is_rejected(env: ApiEnvironment) -> None:
    env.fake.user("ada")
    for cursor in ("", "rubbish", "☃", "AAAA", "null"):
        with pytest.raises(InvalidCursor) as caught:
            env.server.list_transactions(APP, "ada", cursor)
        assert caught.value.status == 400


def test_cursor_is_valid_for_its_own_list_only(env: ApiEnvironment) -> None:
    for user in ("ada", "bob"):
        env.fake.user(user)
        with env.fake.sandbox.lock:
            account = env.fake.sandbox.ledger.get_account(APP, user)
            for _ in range(25):
                env.fake.sandbox.ledger.append(account, 1, Reason.GRANT, 0)
    cursor = env.server.list_transactions(APP, "ada").next_cursor
    with pytest.raises(InvalidCursor):
        env.server.list_transactions(APP, "bob", cursor)
    with pytest.raises(InvalidCursor):
        env.server.list_users(APP, cursor)
    assert env.user().list_transactions("ada", cursor) == env.server.list_transactions(APP, "ada", cursor)


def test_iterator_fetches_pages_lazily(env: ApiEnvironment) -> None:
    for number in range(env.contract.page_size + 1):
        env.fake.user(f"user-{number}")
    before = len(env.fake.journal)
    list(islice(env.server.iter_users(APP), 1))
    page_count = len(env.fake.journal) - before
    assert page_count in (1, 2)  # the blocking wrapper exhausts async iterators


def test_unknown_route_error_names_nearest_operation_and_its_setting(env: ApiEnvironment) -> None:
    route = env.contract.routes[Operation.GET_BALANCE]
    routes = {**env.contract.routes, Operation.GET_BALANCE: RouteTemplate(route.method, route.path + "_of")}
    client = env.server_with(env.fake.api_key, replace(env.contract, routes=routes))
    with pytest.raises(RouteNotFound) as caught:
        client.get_balance(APP, "ada")
    assert f"the nearest operation is getBalance: {route}" in caught.value.message
    assert "routes.getBalance" in caught.value.message
