"""Test the ledger: against a reference model, at its limits, and with a million transactions."""

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
BALANCE_CEILING = 500
PAGE = 3
ORDERS = ("newest_first", "oldest_first")

users = st.sampled_from(["ada", "bob"])
floors = st.sampled_from([0, -50, None])
deltas = st.integers(-200, 200) | st.sampled_from(
    [0, BALANCE_CEILING, BALANCE_CEILING + 1, -MAX_AMOUNT, MAX_AMOUNT + 1]
)
reasons = st.sampled_from(list(Reason))


class LedgerModel(dict[str, list[LedgerEntry]]):
    """Reference model of a ledger: the entries of each user, and the rules for appending one."""

    floor: int | None = 0

    def append(self, user: str, delta: int, reason: Reason, at_ms: int) -> LedgerEntry | None:
        balance = sum(row.delta for row in self.get(user, [])) + delta
        has_valid_sign = delta < 0 if reason is Reason.CONSUME else delta > 0
        is_within_limits = balance <= BALANCE_CEILING if delta > 0 else self.floor is None or balance >= self.floor
        if user not in self or not has_valid_sign or abs(delta) > MAX_AMOUNT or not is_within_limits:
            return None
        self[user].append(LedgerEntry(delta, reason, at_ms, balance))
        return self[user][-1]


class LedgerMachine(RuleBasedStateMachine):
    """A state machine that applies the same calls to a ledger and the model while page walks are in progress."""

    @initialize(order=st.sampled_from(ORDERS), floor=floors)
    def start(self, order: Any, floor: int | None) -> None:
        self.ledger = Ledger(Contract(transactions_order=order, floor=floor, ceiling=BALANCE_CEILING))
        self.model = LedgerModel()
        self.model.floor = floor
        self.newest_first = order == "newest_first"
        self.page_walks: list[tuple[str, list[int], int | None, int]] = []
        self.now_ms = 0

    @rule(user=users)
    def create(self, user: str) -> None:
        _, created = self.ledger.create_user(APPLICATION, user, self.now_ms)
        assert created == (user not in self.model)
        self.model.setdefault(user, [])

    @rule(user=users, delta=deltas, reason=reasons)
    def write(self, user: str, delta: int, reason: Reason) -> None:
        self.now_ms += 1
        expected = self.model.append(user, delta, reason, self.now_ms)
        try:
            entry = self.ledger.append(self.ledger.get_account(APPLICATION, user), delta, reason, self.now_ms)
        except ApiError:
            entry = None
        assert entry == expected

    @rule(user=users, offset=st.sampled_from([-1, 0, 1]))
    def spend_to_floor(self, user: str, offset: int) -> None:
        floor, rows = self.model.floor, self.model.get(user)
        if rows and floor is not None:
            self.write(user, floor - rows[-1].balance - offset, Reason.CONSUME)

    @rule(user=users, offset=st.sampled_from([-1, 0, 1]))
    def grant_to_ceiling(self, user: str, offset: int) -> None:
        rows = self.model.get(user)
        if rows:
            self.write(user, BALANCE_CEILING - rows[-1].balance + offset, Reason.GRANT)

    @rule(user=users)
    def begin_page_walk(self, user: str) -> None:
        if user in self.model:
            self.turn_page(user, [], None, len(self.model[user]))

    @rule()
    def continue_oldest_page_walk(self) -> None:
        if self.page_walks:
            user, positions, start, initial_count = self.page_walks.pop(0)
            self.turn_page(user, positions, start, initial_count)

    def turn_page(self, user: str, positions: list[int], start: int | None, initial_count: int) -> None:
        page = self.ledger.page_of_transactions(len(self.ledger.get_account(APPLICATION, user)), start, PAGE)
        positions = [*positions, *page.positions]
        if page.next is not None:
            self.page_walks.append((user, positions, page.next, initial_count))
        elif self.newest_first:
            assert positions == list(reversed(range(initial_count)))
        else:
            assert positions == list(range(len(self.model[user])))

    @invariant()
    def histories_match_model(self) -> None:
        for user, rows in self.model.items():
            account = self.ledger.get_account(APPLICATION, user)
            assert list(account.entries()) == rows
            assert account.balance == sum(row.delta for row in rows)
            assert self.model.floor is None or all(row.balance >= self.model.floor for row in rows)
        self.ledger.verify_balances()


class ClientMachine(RuleBasedStateMachine):
    """A state machine that applies the same calls to a fake, through its `ServerClient`, and to the model."""

    @initialize(order=st.sampled_from(ORDERS), floor=floors)
    def start(self, order: Any, floor: int | None) -> None:
        contract = Contract(transactions_order=order, floor=floor, ceiling=BALANCE_CEILING, page_size=PAGE)
        self.fake = FakeCredits(contract=contract)
        self.client = self.fake.server_client
        self.model = LedgerModel()
        self.model.floor = floor
        self.newest_first = order == "newest_first"

    @rule(user=users)
    def create(self, user: str) -> None:
        self.client.create_user(APPLICATION, user)
        self.model.setdefault(user, [])

    @rule(user=users, delta=deltas, reason=reasons)
    def write(self, user: str, delta: int, reason: Reason) -> None:
        expected = self.model.append(user, delta, reason, 0)
        try:
            entry = self.client.create_transaction(APPLICATION, user, delta=delta, reason=reason)
        except ApiError:
            assert expected is None
        else:
            assert expected is not None
            assert (entry.delta, entry.reason) == (delta, reason)

    @rule(user=users, offset=st.sampled_from([-1, 0, 1]))
    def spend_to_floor(self, user: str, offset: int) -> None:
        floor, rows = self.model.floor, self.model.get(user)
        if rows and floor is not None:
            self.write(user, floor - rows[-1].balance - offset, Reason.CONSUME)

    @rule(user=users, offset=st.sampled_from([-1, 0, 1]))
    def grant_to_ceiling(self, user: str, offset: int) -> None:
        rows = self.model.get(user)
        if rows:
            self.write(user, BALANCE_CEILING - rows[-1].balance + offset, Reason.GRANT)

    @rule(user=users, deltas=st.lists(st.integers(1, 9), max_size=5))
    def walk_while_writing(self, user: str, deltas: list[int]) -> None:
        if user not in self.model:
            return
        before = [row.delta for row in self.model[user]]
        page_deltas: list[int] = []
        for transaction in self.client.iter_transactions(APPLICATION, user):
            page_deltas.append(transaction.delta)
            if deltas:
                self.write(user, deltas.pop(), Reason.GRANT)
        after = [row.delta for row in self.model[user]]
        assert page_deltas == (before[::-1] if self.newest_first else after[: len(page_deltas)])
        assert len(page_deltas) >= len(before)

    @invariant()
    def balances_match_model(self) -> None:
        for user, rows in self.model.items():
            assert self.client.get_balance(APPLICATION, user).balance == sum(row.delta for row in rows)
        assert self.fake.problems() == []


def run_machine(machine: type[RuleBasedStateMachine], *, examples: int, derandomize: bool = True) -> None:
    """Run a state machine for 50 steps per example, deterministically unless ``derandomize`` is false."""
    machine_settings = settings(max_examples=examples, stateful_step_count=50, derandomize=derandomize)
    run_state_machine_as_test(machine, settings=machine_settings)


def test_ledger_matches_model_after_every_step() -> None:
    run_machine(LedgerMachine, examples=50)


def test_fake_matches_model_through_server_client() -> None:
    run_machine(ClientMachine, examples=50)


@pytest.mark.slow
def test_ledger_matches_model_in_two_thousand_runs() -> None:
    run_machine(LedgerMachine, examples=2000, derandomize=False)


@pytest.mark.slow
def test_fake_matches_model_in_three_hundred_runs() -> None:
    run_machine(ClientMachine, examples=300, derandomize=False)


def new_ledger(**contract_options: Any) -> tuple[Ledger, Account, Callable[[int, Reason], LedgerEntry]]:
    """Return a ledger with the contract options, its only account, and a function that appends to that account."""
    ledger = Ledger(Contract(**contract_options))
    account, _ = ledger.create_user(APPLICATION, "ada", 0)
    return ledger, account, partial(ledger.append, account, at_ms=1)


@pytest.mark.parametrize(
    ("delta", "reason"),
    [(-1, Reason.GRANT), (-1, Reason.REFUND), (1, Reason.CONSUME), *((0, reason) for reason in Reason)],
)
def test_zero_and_sign_contradicting_reason_are_rejected(delta: int, reason: Reason) -> None:
    ledger, account, _ = new_ledger(floor=None)
    with pytest.raises(ValidationError) as error:
        ledger.append(account, delta, reason, 1)
    assert [problem.field for problem in error.value.details] == ["delta"]
    assert len(account) == 0


@pytest.mark.parametrize(("delta", "reason"), [(-5, Reason.GRANT), (-5, Reason.REFUND), (5, Reason.CONSUME)])
def test_free_sign_allows_either_sign_for_any_reason(delta: int, reason: Reason) -> None:
    ledger, account, _ = new_ledger(sign="free", floor=None)
    assert ledger.append(account, delta, reason, 1) == LedgerEntry(delta, reason, 1, delta)


def test_free_sign_rejects_zero() -> None:
    ledger, _, _ = new_ledger(sign="free")
    with pytest.raises(ValidationError, match="must not be 0"):
        ledger.check_amount(0, Reason.GRANT)


def test_largest_amount_is_2_to_the_53_minus_1() -> None:
    ledger, account, _ = new_ledger()
    ledger.append(account, 2**53 - 1, Reason.GRANT, 1)
    ledger.append(account, -(2**53 - 1), Reason.CONSUME, 1)
    assert [row.balance for row in account.entries()] == [2**53 - 1, 0]


@pytest.mark.parametrize("delta", [2**53, -(2**53), 2**63, 10**400])
def test_too_large_amount_is_rejected_with_short_message(delta: int) -> None:
    ledger, account, _ = new_ledger(sign="free", floor=None, ceiling=None)
    with pytest.raises(ValidationError, match=r"2\^53 - 1") as error:
        ledger.append(account, delta, Reason.GRANT, 1)
    assert len(error.value.message) < 120
    assert len(account) == 0


def test_balance_may_reach_but_not_exceed_ceiling() -> None:
    ledger, account, _ = new_ledger(ceiling=100)
    ledger.append(account, 100, Reason.GRANT, 1)
    with pytest.raises(BalanceLimitExceeded):
        ledger.append(account, 1, Reason.REFUND, 1)
    assert account.balance == 100


def test_default_ceiling_is_largest_amount() -> None:
    ledger, account, _ = new_ledger()
    ledger.append(account, MAX_AMOUNT, Reason.GRANT, 1)
    with pytest.raises(BalanceLimitExceeded):
        ledger.append(account, 1, Reason.GRANT, 1)


@pytest.mark.parametrize("sign", [1, -1])
def test_balance_without_floor_or_ceiling_is_limited_to_64_bits(sign: int) -> None:
    """The columns are 64 bits wide; a rejected transaction changes none of them."""
    ledger, account, _ = new_ledger(ceiling=None, floor=None, sign="free")
    for _ in range(1024):
        ledger.append(account, sign * MAX_AMOUNT, Reason.GRANT, 1)
    with pytest.raises(BalanceLimitExceeded, match="64 bits"):
        ledger.append(account, sign * MAX_AMOUNT, Reason.GRANT, 1)
    assert len(account) == 1024
    ledger.verify_balances()


@pytest.mark.parametrize("floor", [0, -10])
def test_balance_may_reach_but_not_fall_below_floor(floor: int) -> None:
    ledger, account, _ = new_ledger(floor=floor)
    ledger.append(account, 5, Reason.GRANT, 1)
    ledger.append(account, floor - 5, Reason.CONSUME, 1)
    with pytest.raises(InsufficientCredits):
        ledger.append(account, -1, Reason.CONSUME, 1)
    assert [row.balance for row in account.entries()] == [5, floor]


def test_overdraft_is_allowed_without_floor() -> None:
    ledger, account, _ = new_ledger(floor=None)
    assert ledger.append(account, -10, Reason.CONSUME, 1).balance == -10
    ledger.verify_balances()


def test_create_user_returns_existing_user_unchanged() -> None:
    ledger, account, _ = new_ledger()
    existing, created = ledger.create_user(APPLICATION, "ada", 99)
    assert existing is account
    assert not created
    assert account.created_at_ms == 0


def test_unlisted_application_error_lists_known_applications() -> None:
    ledger = Ledger(Contract(applications=("b", "a")))
    ledger.create_user("a", "ada", 0)
    for call in (
        lambda: ledger.create_user("c", "ada", 0),
        lambda: ledger.get_account("c", "ada"),
        lambda: ledger.page_of_users("c", None, 20),
    ):
        with pytest.raises(ApplicationNotFound, match=r"known: a, b"):
            call()


def test_unknown_user_error_names_application_that_has_user() -> None:
    ledger, _, _ = new_ledger()
    with pytest.raises(UserNotFound, match=", but application 'app-id' does"):
        ledger.get_account("app-1d", "ada")


def test_unknown_user_error_suggests_create_user() -> None:
    ledger, _, _ = new_ledger()
    with pytest.raises(UserNotFound, match="create the user with createUser first"):
        ledger.get_account(APPLICATION, "bob")
    assert ledger.find_account(APPLICATION, "bob") is None


def test_application_without_users_has_empty_page() -> None:
    accounts, page = Ledger(Contract()).page_of_users("nobody-here", None, 20)
    assert (list(accounts), list(page.positions), page.next) == ([], [], None)


@pytest.mark.parametrize(
    ("order", "expected"),
    [("oldest_first", [[0, 1, 2], [3, 4, 5], [6, 7]]), ("newest_first", [[6, 5, 4], [3, 2, 1], [0]])],
)
def test_user_pages_stay_consistent_while_users_are_created(order: Any, expected: list[list[int]]) -> None:
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
def test_verify_detects_modified_column(column: str) -> None:
    ledger, account, append = new_ledger()
    for _ in range(5):
        append(10, Reason.GRANT)
    ledger.verify_balances()
    getattr(account, column)[3] += 1
    with pytest.raises(LedgerInconsistency, match="transaction 3"):
        ledger.verify_balances()


def test_verify_detects_balance_that_differs_from_sum() -> None:
    ledger, account, append = new_ledger()
    append(10, Reason.GRANT)
    account.balance = 11
    with pytest.raises(LedgerInconsistency, match="the deltas sum to 10"):
        ledger.verify_balances()


def test_verify_detects_history_below_floor() -> None:
    ledger, account, _ = new_ledger()
    account.append_entry(LedgerEntry(-5, Reason.CONSUME, 1, -5))
    account.append_entry(LedgerEntry(5, Reason.GRANT, 1, 0))
    with pytest.raises(LedgerInconsistency, match="took the balance to -5, below the floor of 0"):
        ledger.verify_balances()


@pytest.fixture(scope="module")
def million_transactions() -> tuple[Account, int]:
    """Return an account with a million transactions, and its count of GC-tracked objects after the first one."""
    ledger, account, _ = new_ledger()
    append, grant = ledger.append, Reason.GRANT
    append(account, 1, grant, 0)
    tracked_objects = count_tracked_objects(account)
    for at_ms in range(1, 1_000_000):
        append(account, 1, grant, at_ms)
    return account, tracked_objects


def count_tracked_objects(account: Account) -> int:
    """Return the number of GC-tracked objects: the account and those that it refers to directly."""
    return 1 + sum(map(gc.is_tracked, gc.get_referents(account)))


@pytest.mark.slow
def test_million_transactions_add_no_gc_tracked_objects(million_transactions: tuple[Account, int]) -> None:
    account, tracked_objects_of_one = million_transactions
    assert count_tracked_objects(account) == tracked_objects_of_one


@pytest.mark.slow
def test_million_transactions_use_at_most_60_bytes_each(million_transactions: tuple[Account, int]) -> None:
    account, _ = million_transactions
    assert len(account) == 1_000_000
    assert sum(map(sys.getsizeof, gc.get_referents(account))) <= 60 * len(account)


def test_reprs_contain_counts_and_names_only() -> None:
    ledger, account, append = new_ledger()
    append(7, Reason.GRANT)
    assert repr(ledger) == "<Ledger: applications=1, users=1>"
    assert repr(account) == "<Account 'ada' in 'app-id': balance=7, transactions=1>"


def columns_of(*rows: tuple[int, Reason]) -> TransactionColumns:
    codes = array("b", [REASON_CODES[reason] for _, reason in rows])
    return TransactionColumns(array("q", [delta for delta, _ in rows]), codes, array("q", range(len(rows))))


@pytest.mark.parametrize("sign", ["by_reason", "free"])
@settings(max_examples=150)
@given(floor=floors, rows=st.lists(st.tuples(deltas, reasons), max_size=8))
def test_extend_matches_appends_or_raises_first_error(
    sign: Any, floor: int | None, rows: list[tuple[int, Reason]]
) -> None:
    ledger = Ledger(Contract(floor=floor, ceiling=BALANCE_CEILING, sign=sign))
    appended, extended = (ledger.create_user(APPLICATION, user, 0)[0] for user in ("ada", "bob"))
    for account in (appended, extended):
        ledger.append(account, 100, Reason.GRANT, 0)
    refusal = ""
    try:
        for at_ms, (delta, reason) in enumerate(rows):
            ledger.append(appended, delta, reason, at_ms)
    except ApiError as error:
        refusal = str(error).replace("ada", "bob")
    if refusal:
        with pytest.raises(ApiError, match=f"^{re.escape(refusal)}$"):
            ledger.extend(extended, columns_of(*rows))
        assert (len(extended), extended.balance) == (1, 100)
    else:
        ledger.extend(extended, columns_of(*rows))
        assert list(extended.entries()) == list(appended.entries())
        assert extended.balance == appended.balance
    ledger.verify_balances()


def test_extend_rejects_balance_beyond_64_bits() -> None:
    ledger = Ledger(Contract(floor=None, ceiling=None))
    account, _ = ledger.create_user(APPLICATION, "ada", 0)
    rows = [(MAX_AMOUNT, Reason.GRANT)] * 1025
    with pytest.raises(BalanceLimitExceeded, match="64 bits"):
        ledger.extend(account, columns_of(*rows))
    assert len(account) == 0
    ledger.extend(account, columns_of(*rows[:1024]))
    assert account.balance == 1024 * MAX_AMOUNT


def test_extend_copies_given_columns() -> None:
    ledger = Ledger(Contract())
    account, _ = ledger.create_user(APPLICATION, "ada", 0)
    columns = columns_of((5, Reason.GRANT))
    ledger.extend(account, columns)
    columns.deltas[0] = 7
    ledger.append(account, 1, Reason.GRANT, 1)
    assert [row.delta for row in account.entries()] == [5, 1]
    assert len(columns.times) == 1


def test_copy_on_write_accounts_do_not_affect_each_other() -> None:
    ledgers = [Ledger(Contract()) for _ in range(3)]
    original = ledgers[0].new_account(APPLICATION, "ada", 7)
    ledgers[0].extend(original, columns_of((5, Reason.GRANT), (-2, Reason.CONSUME)))
    before, copies = list(original.entries()), [original.copy_on_write() for _ in ledgers]
    for ledger, copy in zip(ledgers, copies, strict=True):
        ledger.add_account(copy)
    ledgers[0].append(copies[0], 1, Reason.GRANT, 9)
    ledgers[0].append(copies[0], -4, Reason.CONSUME, 9)
    ledgers[1].extend(copies[1], columns_of((8, Reason.GRANT)))
    ledgers[1].append(copies[1], -11, Reason.CONSUME, 9)
    assert [[row.delta for row in copy.entries()] for copy in copies] == [[5, -2, 1, -4], [5, -2, 8, -11], [5, -2]]
    assert [(copy.balance, copy.created_at_ms) for copy in copies] == [(0, 7), (0, 7), (3, 7)]
    assert list(original.entries()) == list(copies[2].entries()) == before
    for ledger in ledgers:
        ledger.verify_balances()
