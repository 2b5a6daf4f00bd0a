"""Test that a ledger cannot be wrong: against a model of ten lines, at its limits, and at a million transactions."""

import gc
import re
import sys
from array import array
from collections.abc import Callable
from functools import partial
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from fake_credits.contract import MAX_AMOUNT, Contract
from fake_credits.errors import (
    ApiError,
    ApplicationNotFound,
    BalanceLimitExceeded,
    InsufficientCredits,
    UserNotFound,
    ValidationError,
)
from fake_credits.fake import FakeCredits
from fake_credits.ledger import REASON_CODES, Account, Ledger, LedgerEntry, LedgerInconsistency, TransactionColumns
from fake_credits.models import Reason

APPLICATION = "app-id"
CEILING = 500
PAGE = 3
ORDERS = ("newest_first", "oldest_first")

users = st.sampled_from(["ada", "bob"])
floors = st.sampled_from([0, -50, None])
deltas = st.integers(-200, 200) | st.sampled_from([0, CEILING, CEILING + 1, -MAX_AMOUNT, MAX_AMOUNT + 1])
reasons = st.sampled_from(list(Reason))


class Model(dict[str, list[LedgerEntry]]):
    """Be the rules of a ledger in ten lines: each user's rows, and whether a transaction may join them."""

    floor: int | None = 0

    def book(self, user: str, delta: int, reason: Reason, at_ms: int) -> LedgerEntry | None:
        balance = sum(row.delta for row in self.get(user, [])) + delta
        sign = delta < 0 if reason is Reason.CONSUME else delta > 0
        within = balance <= CEILING if delta > 0 else self.floor is None or balance >= self.floor
        if user not in self or not sign or abs(delta) > MAX_AMOUNT or not within:
            return None
        self[user].append(LedgerEntry(delta, reason, at_ms, balance))
        return self[user][-1]


class LedgerMachine(RuleBasedStateMachine):
    """Drive a ledger and the model with the same calls, while walks through its pages are under way."""

    @initialize(order=st.sampled_from(ORDERS), floor=floors)
    def start(self, order: Any, floor: int | None) -> None:
        self.ledger = Ledger(Contract(transactions_order=order, floor=floor, ceiling=CEILING))
        self.model = Model()
        self.model.floor = floor
        self.newest_first = order == "newest_first"
        self.walks: list[tuple[str, list[int], int | None, int]] = []
        self.now_ms = 0

    @rule(user=users)
    def create(self, user: str) -> None:
        _, created = self.ledger.create_user(APPLICATION, user, self.now_ms)
        assert created == (user not in self.model)
        self.model.setdefault(user, [])

    @rule(user=users, delta=deltas, reason=reasons)
    def write(self, user: str, delta: int, reason: Reason) -> None:
        self.now_ms += 1
        expected = self.model.book(user, delta, reason, self.now_ms)
        try:
            got = self.ledger.append(self.ledger.get_account(APPLICATION, user), delta, reason, self.now_ms)
        except ApiError:
            got = None
        assert got == expected

    @rule(user=users, past=st.sampled_from([-1, 0, 1]))
    def spend_to_the_floor(self, user: str, past: int) -> None:
        floor, rows = self.model.floor, self.model.get(user)
        if rows and floor is not None:
            self.write(user, floor - rows[-1].balance - past, Reason.CONSUME)

    @rule(user=users, past=st.sampled_from([-1, 0, 1]))
    def grant_to_the_ceiling(self, user: str, past: int) -> None:
        rows = self.model.get(user)
        if rows:
            self.write(user, CEILING - rows[-1].balance + past, Reason.GRANT)

    @rule(user=users)
    def begin_a_walk(self, user: str) -> None:
        if user in self.model:
            self.turn_page(user, [], None, len(self.model[user]))

    @rule()
    def go_on_with_the_oldest_walk(self) -> None:
        if self.walks:
            user, seen, start, begun_at = self.walks.pop(0)
            self.turn_page(user, seen, start, begun_at)

    def turn_page(self, user: str, seen: list[int], start: int | None, begun_at: int) -> None:
        page = self.ledger.page_of_transactions(len(self.ledger.get_account(APPLICATION, user)), start, PAGE)
        seen = [*seen, *page.positions]
        if page.next is not None:
            self.walks.append((user, seen, page.next, begun_at))
        elif self.newest_first:
            assert seen == list(reversed(range(begun_at)))
        else:
            assert seen == list(range(len(self.model[user])))

    @invariant()
    def every_history_is_the_models(self) -> None:
        for user, rows in self.model.items():
            account = self.ledger.get_account(APPLICATION, user)
            assert list(account.entries()) == rows
            assert account.balance == sum(row.delta for row in rows)
            assert self.model.floor is None or all(row.balance >= self.model.floor for row in rows)
        self.ledger.verify_balances()


class ClientMachine(RuleBasedStateMachine):
    """Drive a fake through its `ServerClient`, and the model with the same calls."""

    @initialize(order=st.sampled_from(ORDERS), floor=floors)
    def start(self, order: Any, floor: int | None) -> None:
        contract = Contract(transactions_order=order, floor=floor, ceiling=CEILING, page_size=PAGE)
        self.fake = FakeCredits(contract=contract)
        self.client = self.fake.server_client
        self.model = Model()
        self.model.floor = floor
        self.newest_first = order == "newest_first"

    @rule(user=users)
    def create(self, user: str) -> None:
        self.client.create_user(APPLICATION, user)
        self.model.setdefault(user, [])

    @rule(user=users, delta=deltas, reason=reasons)
    def write(self, user: str, delta: int, reason: Reason) -> None:
        expected = self.model.book(user, delta, reason, 0)
        try:
            got = self.client.create_transaction(APPLICATION, user, delta=delta, reason=reason)
        except ApiError:
            assert expected is None
        else:
            assert expected is not None
            assert (got.delta, got.reason) == (delta, reason)

    @rule(user=users, past=st.sampled_from([-1, 0, 1]))
    def spend_to_the_floor(self, user: str, past: int) -> None:
        floor, rows = self.model.floor, self.model.get(user)
        if rows and floor is not None:
            self.write(user, floor - rows[-1].balance - past, Reason.CONSUME)

    @rule(user=users, past=st.sampled_from([-1, 0, 1]))
    def grant_to_the_ceiling(self, user: str, past: int) -> None:
        rows = self.model.get(user)
        if rows:
            self.write(user, CEILING - rows[-1].balance + past, Reason.GRANT)

    @rule(user=users, deltas=st.lists(st.integers(1, 9), max_size=5))
    def walk_while_another_writes(self, user: str, deltas: list[int]) -> None:
        if user not in self.model:
            return
        before = [row.delta for row in self.model[user]]
        seen: list[int] = []
        for transaction in self.client.iter_transactions(APPLICATION, user):
            seen.append(transaction.delta)
            if deltas:
                self.write(user, deltas.pop(), Reason.GRANT)
        after = [row.delta for row in self.model[user]]
        assert seen == (before[::-1] if self.newest_first else after[: len(seen)])
        assert len(seen) >= len(before)

    @invariant()
    def every_balance_is_the_models(self) -> None:
        for user, rows in self.model.items():
            assert self.client.get_balance(APPLICATION, user).balance == sum(row.delta for row in rows)
        assert self.fake.problems() == []


def run(machine: type[RuleBasedStateMachine], *, examples: int, repeatable: bool = True) -> None:
    """Run a machine in histories of 50 steps: the same ones every time, or new ones."""
    bounds = settings(max_examples=examples, stateful_step_count=50, derandomize=repeatable)
    run_state_machine_as_test(machine, settings=bounds)


def test_a_ledger_agrees_with_its_model_after_every_step() -> None:
    run(LedgerMachine, examples=100)


def test_a_fake_agrees_with_the_model_over_its_client() -> None:
    run(ClientMachine, examples=50)


@pytest.mark.slow
def test_a_ledger_agrees_with_its_model_in_two_thousand_histories() -> None:
    run(LedgerMachine, examples=2000, repeatable=False)


@pytest.mark.slow
def test_a_fake_agrees_with_the_model_in_three_hundred_histories() -> None:
    run(ClientMachine, examples=300, repeatable=False)


def opened(**words: Any) -> tuple[Ledger, Account, Callable[[int, Reason], LedgerEntry]]:
    """Return a ledger under a contract, its one account, and a function that books on it."""
    ledger = Ledger(Contract(**words))
    account, _ = ledger.create_user(APPLICATION, "ada", 0)
    return ledger, account, partial(ledger.append, account, at_ms=1)


@pytest.mark.parametrize(
    ("delta", "reason"),
    [(-1, Reason.GRANT), (-1, Reason.REFUND), (1, Reason.CONSUME), *((0, reason) for reason in Reason)],
)
def test_a_sign_that_contradicts_the_reason_and_zero_are_refused(delta: int, reason: Reason) -> None:
    ledger, account, _ = opened(floor=None)
    with pytest.raises(ValidationError) as refused:
        ledger.append(account, delta, reason, 1)
    assert [problem.field for problem in refused.value.details] == ["delta"]
    assert len(account) == 0


@pytest.mark.parametrize(("delta", "reason"), [(-5, Reason.GRANT), (-5, Reason.REFUND), (5, Reason.CONSUME)])
def test_a_free_sign_lets_any_reason_move_either_way(delta: int, reason: Reason) -> None:
    ledger, account, _ = opened(sign="free", floor=None)
    assert ledger.append(account, delta, reason, 1) == LedgerEntry(delta, reason, 1, delta)


def test_a_free_sign_still_refuses_zero() -> None:
    ledger, _, _ = opened(sign="free")
    with pytest.raises(ValidationError, match="must not be 0"):
        ledger.check_amount(0, Reason.GRANT)


def test_the_largest_amount_is_the_largest_exact_integer_of_javascript() -> None:
    ledger, account, _ = opened()
    ledger.append(account, 2**53 - 1, Reason.GRANT, 1)
    ledger.append(account, -(2**53 - 1), Reason.CONSUME, 1)
    assert [row.balance for row in account.entries()] == [2**53 - 1, 0]


@pytest.mark.parametrize("delta", [2**53, -(2**53), 2**63, 10**400])
def test_a_larger_amount_is_refused_and_a_long_one_is_not_spelt_out(delta: int) -> None:
    ledger, account, _ = opened(sign="free", floor=None, ceiling=None)
    with pytest.raises(ValidationError, match=r"2\^53 - 1") as refused:
        ledger.append(account, delta, Reason.GRANT, 1)
    assert len(refused.value.message) < 120
    assert len(account) == 0


def test_a_balance_may_reach_the_ceiling_and_not_pass_it() -> None:
    ledger, account, _ = opened(ceiling=100)
    ledger.append(account, 100, Reason.GRANT, 1)
    with pytest.raises(BalanceLimitExceeded):
        ledger.append(account, 1, Reason.REFUND, 1)
    assert account.balance == 100


def test_by_default_the_ceiling_is_the_largest_amount() -> None:
    ledger, account, _ = opened()
    ledger.append(account, MAX_AMOUNT, Reason.GRANT, 1)
    with pytest.raises(BalanceLimitExceeded):
        ledger.append(account, 1, Reason.GRANT, 1)


@pytest.mark.parametrize("sign", [1, -1])
def test_without_ceiling_and_floor_a_balance_stops_at_what_64_bits_hold(sign: int) -> None:
    """The columns are 64 bits wide; the refusal leaves all of them as they were."""
    ledger, account, _ = opened(ceiling=None, floor=None, sign="free")
    for _ in range(1024):
        ledger.append(account, sign * MAX_AMOUNT, Reason.GRANT, 1)
    with pytest.raises(BalanceLimitExceeded, match="64 bits"):
        ledger.append(account, sign * MAX_AMOUNT, Reason.GRANT, 1)
    assert len(account) == 1024
    ledger.verify_balances()


@pytest.mark.parametrize("floor", [0, -10])
def test_a_balance_may_fall_to_the_floor_and_not_below(floor: int) -> None:
    ledger, account, _ = opened(floor=floor)
    ledger.append(account, 5, Reason.GRANT, 1)
    ledger.append(account, floor - 5, Reason.CONSUME, 1)
    with pytest.raises(InsufficientCredits):
        ledger.append(account, -1, Reason.CONSUME, 1)
    assert [row.balance for row in account.entries()] == [5, floor]


def test_no_floor_means_that_overdraft_is_allowed() -> None:
    ledger, account, _ = opened(floor=None)
    assert ledger.append(account, -10, Reason.CONSUME, 1).balance == -10
    ledger.verify_balances()


def test_an_existing_user_is_returned_as_it_is() -> None:
    ledger, account, _ = opened()
    again, created = ledger.create_user(APPLICATION, "ada", 99)
    assert again is account
    assert not created
    assert account.created_at_ms == 0


def test_a_closed_list_of_applications_refuses_any_other_and_names_its_own() -> None:
    ledger = Ledger(Contract(applications=("b", "a")))
    ledger.create_user("a", "ada", 0)
    for call in (
        lambda: ledger.create_user("c", "ada", 0),
        lambda: ledger.get_account("c", "ada"),
        lambda: ledger.page_of_users("c", None, 20),
    ):
        with pytest.raises(ApplicationNotFound, match=r"known: a, b"):
            call()


def test_an_unknown_user_is_reported_with_the_application_that_has_one() -> None:
    ledger, _, _ = opened()
    with pytest.raises(UserNotFound, match="application 'app-id' does have one"):
        ledger.get_account("app-1d", "ada")


def test_an_unknown_user_that_exists_nowhere_is_reported_with_the_way_to_create_one() -> None:
    ledger, _, _ = opened()
    with pytest.raises(UserNotFound, match="create it with createUser first"):
        ledger.get_account(APPLICATION, "bob")
    assert ledger.find_account(APPLICATION, "bob") is None


def test_an_application_without_users_has_an_empty_page() -> None:
    accounts, page = Ledger(Contract()).page_of_users("nobody-here", None, 20)
    assert (list(accounts), list(page.positions), page.next) == ([], [], None)


@pytest.mark.parametrize(
    ("order", "expected"),
    [("oldest_first", [[0, 1, 2], [3, 4, 5], [6, 7]]), ("newest_first", [[6, 5, 4], [3, 2, 1], [0]])],
)
def test_pages_of_users_miss_and_repeat_nobody_while_one_joins(order: Any, expected: list[list[int]]) -> None:
    ledger = Ledger(Contract(users_order=order))
    for number in range(7):
        ledger.create_user(APPLICATION, str(number), 0)
    pages: list[list[int]] = []
    start: int | None = None
    while True:
        _, page = ledger.page_of_users(APPLICATION, start, 3)
        pages.append(list(page.positions))
        ledger.create_user(APPLICATION, "late", 0)
        start = page.next
        if start is None:
            break
    assert pages == expected


@pytest.mark.parametrize("column", ["_deltas", "_balances"])
def test_verify_finds_a_column_that_was_tampered_with(column: str) -> None:
    ledger, account, book = opened()
    for _ in range(5):
        book(10, Reason.GRANT)
    ledger.verify_balances()
    getattr(account, column)[3] += 1
    with pytest.raises(LedgerInconsistency, match="transaction 3"):
        ledger.verify_balances()


def test_verify_finds_a_balance_that_is_not_the_sum() -> None:
    ledger, account, book = opened()
    book(10, Reason.GRANT)
    account.balance = 11
    with pytest.raises(LedgerInconsistency, match="the deltas sum to 10"):
        ledger.verify_balances()


def test_verify_finds_a_history_that_went_below_the_floor() -> None:
    ledger, account, _ = opened()
    account.append_entry(LedgerEntry(-5, Reason.CONSUME, 1, -5))
    account.append_entry(LedgerEntry(5, Reason.GRANT, 1, 0))
    with pytest.raises(LedgerInconsistency, match="below the floor of 0, to -5"):
        ledger.verify_balances()


@pytest.fixture(scope="module")
def million() -> tuple[Account, int]:
    """Return an account of a million transactions, and how many objects the collector walked for its first."""
    ledger, account, _ = opened()
    append, grant = ledger.append, Reason.GRANT
    append(account, 1, grant, 0)
    walked = walked_for(account)
    for at_ms in range(1, 1_000_000):
        append(account, 1, grant, at_ms)
    return account, walked


def walked_for(account: Account) -> int:
    """Return how many objects that the garbage collector knows are reached from an account alone."""
    return 1 + sum(map(gc.is_tracked, gc.get_referents(account)))


@pytest.mark.slow
def test_a_million_transactions_give_the_garbage_collector_nothing_to_walk(million: tuple[Account, int]) -> None:
    account, walked_for_one = million
    assert walked_for(account) == walked_for_one


@pytest.mark.slow
def test_a_million_transactions_take_at_most_sixty_bytes_each(million: tuple[Account, int]) -> None:
    account, _ = million
    assert len(account) == 1_000_000
    assert sum(map(sys.getsizeof, gc.get_referents(account))) <= 60 * len(account)


def test_reprs_count_and_name_and_no_more() -> None:
    ledger, account, book = opened()
    book(7, Reason.GRANT)
    assert repr(ledger) == "<Ledger of 1 users in 1 applications>"
    assert repr(account) == "<Account 'ada' of 'app-id': 7 in 1 transactions>"


def columns_of(*rows: tuple[int, Reason]) -> TransactionColumns:
    codes = array("b", [REASON_CODES[reason] for _, reason in rows])
    return TransactionColumns(array("q", [delta for delta, _ in rows]), codes, array("q", range(len(rows))))


@pytest.mark.parametrize("sign", ["by_reason", "free"])
@settings(max_examples=150)
@given(floor=floors, rows=st.lists(st.tuples(deltas, reasons), max_size=8))
def test_many_transactions_at_once_are_booked_as_one_by_one_or_refused_as_the_first_that_is(
    sign: Any, floor: int | None, rows: list[tuple[int, Reason]]
) -> None:
    ledger = Ledger(Contract(floor=floor, ceiling=CEILING, sign=sign))
    one_by_one, at_once = (ledger.create_user(APPLICATION, user, 0)[0] for user in ("ada", "bob"))
    for account in (one_by_one, at_once):
        ledger.append(account, 100, Reason.GRANT, 0)
    refusal = ""
    try:
        for at_ms, (delta, reason) in enumerate(rows):
            ledger.append(one_by_one, delta, reason, at_ms)
    except ApiError as error:
        refusal = str(error).replace("ada", "bob")
    if refusal:
        with pytest.raises(ApiError, match=f"^{re.escape(refusal)}$"):
            ledger.extend(at_once, columns_of(*rows))
        assert (len(at_once), at_once.balance) == (1, 100)
    else:
        ledger.extend(at_once, columns_of(*rows))
        assert list(at_once.entries()) == list(one_by_one.entries())
        assert at_once.balance == one_by_one.balance
    ledger.verify_balances()


def test_a_balance_that_no_column_holds_is_refused_at_once_too() -> None:
    ledger = Ledger(Contract(floor=None, ceiling=None))
    account, _ = ledger.create_user(APPLICATION, "ada", 0)
    rows = [(MAX_AMOUNT, Reason.GRANT)] * 1025
    with pytest.raises(BalanceLimitExceeded, match="64 bits"):
        ledger.extend(account, columns_of(*rows))
    assert len(account) == 0
    ledger.extend(account, columns_of(*rows[:1024]))
    assert account.balance == 1024 * MAX_AMOUNT


def test_what_was_booked_at_once_shares_nothing_with_what_was_given() -> None:
    ledger = Ledger(Contract())
    account, _ = ledger.create_user(APPLICATION, "ada", 0)
    given_columns = columns_of((5, Reason.GRANT))
    ledger.extend(account, given_columns)
    given_columns.deltas[0] = 7
    ledger.append(account, 1, Reason.GRANT, 1)
    assert [row.delta for row in account.entries()] == [5, 1]
    assert len(given_columns.times) == 1


def test_twins_share_a_history_until_one_of_them_goes_on() -> None:
    ledgers = [Ledger(Contract()) for _ in range(3)]
    original = ledgers[0].new_account(APPLICATION, "ada", 7)
    ledgers[0].extend(original, columns_of((5, Reason.GRANT), (-2, Reason.CONSUME)))
    before, twins = list(original.entries()), [original.copy_on_write() for _ in ledgers]
    for ledger, twin in zip(ledgers, twins, strict=True):
        ledger.add_account(twin)
    ledgers[0].append(twins[0], 1, Reason.GRANT, 9)
    ledgers[0].append(twins[0], -4, Reason.CONSUME, 9)
    ledgers[1].extend(twins[1], columns_of((8, Reason.GRANT)))
    ledgers[1].append(twins[1], -11, Reason.CONSUME, 9)
    assert [[row.delta for row in twin.entries()] for twin in twins] == [[5, -2, 1, -4], [5, -2, 8, -11], [5, -2]]
    assert [(twin.balance, twin.created_at_ms) for twin in twins] == [(0, 7), (0, 7), (3, 7)]
    assert list(original.entries()) == list(twins[2].entries()) == before
    for ledger in ledgers:
        ledger.verify_balances()
