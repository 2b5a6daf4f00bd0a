"""The ledger: users, transactions and balances.

Each method either succeeds completely or changes nothing. The caller must hold the sandbox's lock and pass the current
time as an argument. Histories are stored in columns: even a user with a million transactions needs only four arrays,
which the garbage collector does not traverse.
"""

from array import array
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from fake_credits.contract import MAX_AMOUNT, Contract
from fake_credits.errors import (
    ApplicationNotFound,
    BalanceLimitExceeded,
    InsufficientCredits,
    Problem,
    UserNotFound,
    ValidationError,
)
from fake_credits.models import Reason
from fake_credits.text import short_repr

_REASONS_BY_CODE = tuple(Reason)
REASON_CODES = {reason: code for code, reason in enumerate(_REASONS_BY_CODE)}
"""The number that stands for each reason in `TransactionColumns.reasons`."""

_SIGN_BY_REASON = {Reason.GRANT: 1, Reason.REFUND: 1, Reason.CONSUME: -1}
_IS_CREDIT_BY_CODE = bytes(_SIGN_BY_REASON[reason] > 0 for reason in _REASONS_BY_CODE).ljust(
    256, b"\0"
)  # indexed by code, for `bytes.translate`
_MAX_COLUMN_VALUE = 2**63 - 1  # the limit of a 64-bit column, for contracts without a floor or ceiling


class LedgerEntry(NamedTuple):
    """A committed transaction; ``balance`` is the balance after it."""

    delta: int
    reason: Reason
    at_ms: int
    balance: int


class TransactionColumns(NamedTuple):
    """Transactions in columns, oldest first.

    ``reasons`` contains codes from `REASON_CODES`, and ``times`` contains milliseconds since 1970.
    """

    deltas: "array[int]"
    reasons: "array[int]"
    times: "array[int]"

    def entries(self) -> "Iterator[tuple[int, Reason, int]]":
        """Yield each transaction as a tuple of arguments for `Ledger.append`."""
        return zip(self.deltas, map(_REASONS_BY_CODE.__getitem__, self.reasons), self.times, strict=True)


class PageRange(NamedTuple):
    """The list positions of a page's items, in page order; ``next`` is where the next page starts, or None."""

    positions: range
    next: int | None


class LedgerInconsistency(AssertionError):
    """An inconsistency in the ledger; this always indicates a bug in the fake."""


class Account:
    """A user of one application, with the complete history, oldest first."""

    __slots__ = (
        "_balances",
        "_deltas",
        "_is_shared",
        "_reasons",
        "_times",
        "application_id",
        "balance",
        "created_at_ms",
        "user_id",
    )

    def __init__(self, application_id: str, user_id: str, created_at_ms: int) -> None:
        self.application_id = application_id
        self.user_id = user_id
        self.created_at_ms = created_at_ms
        self.balance = 0
        self._deltas = array("q")
        self._reasons = array("b")
        self._times = array("q")
        self._balances = array("q")
        self._is_shared = False

    def __repr__(self) -> str:
        return (
            f"<Account {self.user_id!r} in {self.application_id!r}: balance={self.balance}, transactions={len(self)}>"
        )

    def __len__(self) -> int:
        return len(self._deltas)

    def __getitem__(self, position: int) -> LedgerEntry:
        reason = _REASONS_BY_CODE[self._reasons[position]]
        return LedgerEntry(self._deltas[position], reason, self._times[position], self._balances[position])

    def entries(self) -> Iterator[LedgerEntry]:
        """Iterate over the history, oldest first."""
        return map(self.__getitem__, range(len(self)))

    def copy_on_write(self) -> "Account":
        """Return a copy that shares the history until either account is written to; don't call this during a write."""
        copy: Account = object.__new__(Account)
        copy.application_id, copy.user_id = self.application_id, self.user_id
        copy.created_at_ms, copy.balance = self.created_at_ms, self.balance
        copy._deltas, copy._reasons = self._deltas, self._reasons
        copy._times, copy._balances = self._times, self._balances
        copy._is_shared = self._is_shared = True
        return copy

    def append_entry(self, entry: LedgerEntry) -> None:
        """Append a transaction that the ledger has checked; called only by the ledger."""
        if self._is_shared:
            self._deltas, self._reasons = self._deltas[:], self._reasons[:]
            self._times, self._balances = self._times[:], self._balances[:]
            self._is_shared = False
        self._deltas.append(entry.delta)
        self._reasons.append(REASON_CODES[entry.reason])
        self._times.append(entry.at_ms)
        self._balances.append(entry.balance)
        self.balance = entry.balance

    def append_columns(self, columns: TransactionColumns, balances: "array[int]") -> None:
        """Append transactions that the ledger has checked, with the balance after each; called only by the ledger."""
        # Unlike extend(), concatenation allocates no spare capacity, and leaves arrays shared with a copy unchanged.
        self._deltas = self._deltas + columns.deltas
        self._reasons = self._reasons + columns.reasons
        self._times = self._times + columns.times
        self._balances = self._balances + balances
        self.balance = balances[-1] if balances else self.balance


class _Application:
    __slots__ = ("accounts_by_id", "ordered_accounts")

    def __init__(self) -> None:
        self.accounts_by_id: dict[str, Account] = {}
        self.ordered_accounts: list[Account] = []

    def add(self, account: Account) -> None:
        self.accounts_by_id[account.user_id] = account
        self.ordered_accounts.append(account)

    def remove(self, account: Account) -> None:
        del self.accounts_by_id[account.user_id]
        self.ordered_accounts.remove(account)


class Ledger:
    """The accounts of all applications, under the rules of a contract."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self._applications: dict[str, _Application] = {}
        self._allowed_applications = None if contract.applications is None else frozenset(contract.applications)

    def __repr__(self) -> str:
        users = sum(len(application.ordered_accounts) for application in self._applications.values())
        return f"<Ledger: applications={len(self._applications)}, users={users}>"

    def create_user(self, application_id: str, user_id: str, at_ms: int) -> tuple[Account, bool]:
        """Create a user if needed; return the user's account, and whether it is new.

        An existing account is not changed. Raises ApplicationNotFound if the contract lists the known applications and
        ``application_id`` is not one of them.
        """
        self._check_application(application_id)
        application = self._applications.get(application_id)
        if application is None:
            application = self._applications[application_id] = _Application()
        account = application.accounts_by_id.get(user_id)
        if account is not None:
            return account, False
        account = Account(application_id, user_id, at_ms)
        application.add(account)
        return account, True

    def get_account(self, application_id: str, user_id: str) -> Account:
        """Return a user's account.

        Raises UserNotFound or ApplicationNotFound if there is no such user or application.
        """
        account = self.find_account(application_id, user_id)
        if account is None:
            self._check_application(application_id)
            raise UserNotFound(self._not_found_message(application_id, user_id))
        return account

    def find_account(self, application_id: str, user_id: str) -> Account | None:
        """Return a user's account, or None."""
        application = self._applications.get(application_id)
        return None if application is None else application.accounts_by_id.get(user_id)

    def new_account(self, application_id: str, user_id: str, at_ms: int) -> Account:
        """Create an account without adding it to the ledger; raise ApplicationNotFound for an unknown application."""
        self._check_application(application_id)
        return Account(application_id, user_id, at_ms)

    def accounts(self, application_id: str) -> tuple[Account, ...]:
        """Return an application's accounts, oldest first; raise ApplicationNotFound for an unknown application."""
        self._check_application(application_id)
        application = self._applications.get(application_id)
        return () if application is None else tuple(application.ordered_accounts)

    def remove_account(self, application_id: str, user_id: str) -> Account:
        """Remove and return a user's account.

        Raises UserNotFound or ApplicationNotFound if there is no such user or application.
        """
        account = self.get_account(application_id, user_id)
        self._applications[application_id].remove(account)
        return account

    def add_account(self, account: Account) -> None:
        """Add an account created by `new_account` or `copy_on_write`; do nothing if the user already has one."""
        application = self._applications.setdefault(account.application_id, _Application())
        if account.user_id not in application.accounts_by_id:
            application.add(account)

    def check_amount(self, delta: int, reason: Reason) -> None:
        """Raise ValidationError if an amount breaks a rule that does not depend on the account.

        See docs/reference/contract.md, rows 7 and 8.
        """
        if delta == 0:
            raise self._delta_error("must not be 0")
        if not -MAX_AMOUNT <= delta <= MAX_AMOUNT:
            raise self._delta_error(f"must be at most {MAX_AMOUNT} (2^53 - 1) in magnitude, not {short_repr(delta)}")
        if self.contract.sign == "by_reason" and delta * _SIGN_BY_REASON[reason] < 0:
            sign = "greater" if _SIGN_BY_REASON[reason] > 0 else "less"
            raise self._delta_error(f"must be {sign} than 0 for reason {reason.value!r}, not {delta}")

    def _delta_error(self, problem: str) -> ValidationError:
        name = self.contract.name_of("delta")
        return ValidationError(f"{name} {problem}", details=(Problem(name, problem),))

    def append(self, account: Account, delta: int, reason: Reason, at_ms: int) -> LedgerEntry:
        """Append a transaction and return it.

        Raises ValidationError, InsufficientCredits or BalanceLimitExceeded, without changing anything, if the
        transaction is not allowed.
        """
        entry = self.preview(account, delta, reason, at_ms)
        account.append_entry(entry)
        return entry

    def preview(self, account: Account, delta: int, reason: Reason, at_ms: int) -> LedgerEntry:
        """Return the transaction that `append` would append, without appending it; raise the same errors."""
        self.check_amount(delta, reason)
        balance = account.balance + delta
        floor, ceiling = self.contract.floor, self.contract.ceiling
        if delta < 0 and floor is not None and balance < floor:
            floor_note = "" if floor == 0 else f" (the floor is {floor})"
            raise InsufficientCredits(
                f"user {account.user_id!r} has a balance of {account.balance}, "
                f"which can't be reduced by {-delta}{floor_note}"
            )
        if delta > 0 and ceiling is not None and balance > ceiling:
            raise BalanceLimitExceeded(f"a balance of {account.balance} plus {delta} exceeds the ceiling of {ceiling}")
        if abs(balance) > _MAX_COLUMN_VALUE:
            raise BalanceLimitExceeded(f"a balance of {account.balance} plus {delta} does not fit in 64 bits")
        return LedgerEntry(delta, reason, at_ms, balance)

    def extend(self, account: Account, columns: TransactionColumns) -> None:
        """Append all transactions, or none of them if `append` would reject any.

        This is much faster than calling `append` for each transaction, and raises the same errors.
        """
        try:
            balances = array("q", list(accumulate(columns.deltas, initial=account.balance))[1:])
        except OverflowError:
            balances = array("q")
        if not self._are_all_allowed(columns, balances):  # append one by one to raise the first error, if any
            scratch = Account(account.application_id, account.user_id, account.created_at_ms)
            scratch.balance = account.balance
            balances = array("q", [self.append(scratch, *transaction).balance for transaction in columns.entries()])
        account.append_columns(columns, balances)

    def _are_all_allowed(self, columns: TransactionColumns, balances: "array[int]") -> bool:
        """Return whether all transactions are certain to be allowed; if not, they must be checked one by one."""
        if not balances:
            return False
        deltas, (floor, ceiling) = columns.deltas, (self.contract.floor, self.contract.ceiling)
        if 0 in deltas or not -MAX_AMOUNT <= min(deltas) <= max(deltas) <= MAX_AMOUNT:
            return False
        credit_flags = bytes(map((0).__lt__, deltas))
        if self.contract.sign == "by_reason" and credit_flags != columns.reasons.tobytes().translate(
            _IS_CREDIT_BY_CODE
        ):
            return False
        return (floor is None or min(balances) >= floor) and (ceiling is None or max(balances) <= ceiling)

    def history_lengths(self) -> dict[tuple[str, str], int]:
        """Return the number of transactions of each user, keyed by application id and user id."""
        return {
            (account.application_id, account.user_id): len(account)
            for application in self._applications.values()
            for account in application.ordered_accounts
        }

    def page_of_transactions(self, size: int, start: int | None, limit: int) -> PageRange:
        """Return the positions of one page in a history of ``size`` transactions, in the contract's order.

        ``start`` is the ``next`` of an earlier page, or None for the first page.
        """
        return _page_range(size, start, limit, newest_first=self.contract.transactions_order == "newest_first")

    def page_of_users(self, application_id: str, start: int | None, limit: int) -> tuple[Sequence[Account], PageRange]:
        """Return an application's users, oldest first, and the positions of one page in the contract's order."""
        self._check_application(application_id)
        application = self._applications.get(application_id)
        accounts: Sequence[Account] = () if application is None else application.ordered_accounts
        return accounts, _page_range(
            len(accounts), start, limit, newest_first=self.contract.users_order == "newest_first"
        )

    def verify_balances(self) -> None:
        """Raise LedgerInconsistency if a balance is wrong.

        Each balance must be the sum of the deltas so far, and no debit may have taken it below the floor.
        """
        for application in self._applications.values():
            for account in application.ordered_accounts:
                _verify_account(account, self.contract.floor)

    def _check_application(self, application_id: str) -> None:
        if self._allowed_applications is not None and application_id not in self._allowed_applications:
            allowed = ", ".join(sorted(self._allowed_applications)) or "none"
            raise ApplicationNotFound(f"unknown application {application_id!r} (known: {allowed})")

    def _not_found_message(self, application_id: str, user_id: str) -> str:
        message = f"application {application_id!r} has no user {user_id!r}"
        for other_id, other_application in self._applications.items():
            if user_id in other_application.accounts_by_id:
                return f"{message}, but application {other_id!r} does"
        return f"{message}; create the user with createUser first"


def _page_range(size: int, start: int | None, limit: int, *, newest_first: bool) -> PageRange:
    """Return the positions of one page of a list.

    Paging never skips or repeats an entry unless a test deletes a user, because lists otherwise only grow.
    """
    if newest_first:
        first = size - 1 if start is None else min(start, size - 1)
        last = max(first - limit, -1)
        return PageRange(range(first, last, -1), last if last >= 0 else None)
    first = 0 if start is None else start
    last = min(first + limit, size)
    return PageRange(range(first, last), last if last < size else None)


def _verify_account(account: Account, floor: int | None) -> None:
    balance = 0
    for position, entry in enumerate(account.entries()):
        balance += entry.delta
        if entry.balance != balance:
            raise LedgerInconsistency(
                f"{account!r}: transaction {position} has balance {entry.balance}, but the deltas sum to {balance}"
            )
        if entry.delta < 0 and floor is not None and balance < floor:
            raise LedgerInconsistency(
                f"{account!r}: transaction {position} took the balance to {balance}, below the floor of {floor}"
            )
    if account.balance != balance:
        raise LedgerInconsistency(f"{account!r}: the balance is {account.balance}, but the deltas sum to {balance}")
