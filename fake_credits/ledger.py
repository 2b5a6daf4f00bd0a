"""Own users, transactions and balances; know nothing of HTTP, of credentials, of locks or of clocks.

Pure and synchronous: each call happens whole or not at all, and time comes in as an argument. The caller holds the
sandbox's lock. Histories are columns, not objects: a million transactions of one user are four arrays, which the
garbage collector never walks.
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

__all__ = ["REASON_CODES", "Account", "Ledger", "LedgerEntry", "LedgerInconsistency", "PageRange", "TransactionColumns"]

_REASONS_BY_CODE = tuple(Reason)
REASON_CODES = {reason: code for code, reason in enumerate(_REASONS_BY_CODE)}
"""What a reason is in a column of reasons."""

_SIGN_BY_REASON = {Reason.GRANT: 1, Reason.REFUND: 1, Reason.CONSUME: -1}
_IS_CREDIT_BY_CODE = bytes(_SIGN_BY_REASON[reason] > 0 for reason in _REASONS_BY_CODE).ljust(
    256, b"\0"
)  # by code, for `bytes.translate`
_MAX_COLUMN_VALUE = 2**63 - 1  # what a column holds, where the contract has no ceiling or no floor


class LedgerEntry(NamedTuple):
    """Be one transaction as it was booked; ``balance`` is the balance after it."""

    delta: int
    reason: Reason
    at_ms: int
    balance: int


class TransactionColumns(NamedTuple):
    """Be many transactions, oldest first: ``reasons`` are `REASON_CODES`, ``times`` milliseconds since 1970."""

    deltas: "array[int]"
    reasons: "array[int]"
    times: "array[int]"

    def entries(self) -> "Iterator[tuple[int, Reason, int]]":
        """Walk them as the arguments of `Ledger.append`."""
        return zip(self.deltas, map(_REASONS_BY_CODE.__getitem__, self.reasons), self.times, strict=True)


class PageRange(NamedTuple):
    """Be one page's positions in a list, in the page's order; ``next`` is where the following page starts."""

    positions: range
    next: int | None


class LedgerInconsistency(AssertionError):
    """Report a ledger that contradicts itself: a bug of the fake."""


class Account:
    """Be one user of one application with the whole history, oldest first."""

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
        return f"<Account {self.user_id!r} of {self.application_id!r}: {self.balance} in {len(self)} transactions>"

    def __len__(self) -> int:
        return len(self._deltas)

    def __getitem__(self, position: int) -> LedgerEntry:
        reason = _REASONS_BY_CODE[self._reasons[position]]
        return LedgerEntry(self._deltas[position], reason, self._times[position], self._balances[position])

    def entries(self) -> Iterator[LedgerEntry]:
        """Walk the history, oldest first."""
        return map(self.__getitem__, range(len(self)))

    def copy_on_write(self) -> "Account":
        """Return another account of this history, which both share until one of them goes on; nobody may write now."""
        copy: Account = object.__new__(Account)
        copy.application_id, copy.user_id = self.application_id, self.user_id
        copy.created_at_ms, copy.balance = self.created_at_ms, self.balance
        copy._deltas, copy._reasons = self._deltas, self._reasons
        copy._times, copy._balances = self._times, self._balances
        copy._is_shared = self._is_shared = True
        return copy

    def append_entry(self, entry: LedgerEntry) -> None:
        """Append a transaction that the ledger has checked; nobody else calls this."""
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
        """Append what the ledger has checked, with the balance after each; nobody else calls this."""
        # Added, not extended: the sums have no room to spare, and share nothing with what was given.
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


class Ledger:
    """Keep accounts by application, and refuse what would break the contract's rules."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._applications: dict[str, _Application] = {}
        self._allowed_applications = None if contract.applications is None else frozenset(contract.applications)

    def __repr__(self) -> str:
        users = sum(len(application.ordered_accounts) for application in self._applications.values())
        return f"<Ledger of {users} users in {len(self._applications)} applications>"

    @property
    def contract(self) -> Contract:
        """Return the contract whose rules it keeps."""
        return self._contract

    def create_user(self, application_id: str, user_id: str, at_ms: int) -> tuple[Account, bool]:
        """Return the user's account and whether it was made now; an existing one is not touched.

        Raises ApplicationNotFound where the contract has a closed list of applications.
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
        """Return a user's account; raise UserNotFound or ApplicationNotFound."""
        application = self._applications.get(application_id)
        account = None if application is None else application.accounts_by_id.get(user_id)
        if account is None:
            self._check_application(application_id)
            raise UserNotFound(self._not_found_message(application_id, user_id))
        return account

    def find_account(self, application_id: str, user_id: str) -> Account | None:
        """Return a user's account, or None where there is none."""
        application = self._applications.get(application_id)
        return None if application is None else application.accounts_by_id.get(user_id)

    def new_account(self, application_id: str, user_id: str, at_ms: int) -> Account:
        """Return an empty account that the ledger does not know until it is added; raise ApplicationNotFound."""
        self._check_application(application_id)
        return Account(application_id, user_id, at_ms)

    def add_account(self, account: Account) -> None:
        """Add an account made by `new_account`, or its twin; one that is known already stays as it is."""
        application = self._applications.setdefault(account.application_id, _Application())
        if account.user_id not in application.accounts_by_id:
            application.add(account)

    def check_amount(self, delta: int, reason: Reason) -> None:
        """Raise ValidationError where an amount breaks a rule that needs no account (rows 7 and 8)."""
        if delta == 0:
            raise self._delta_error("must not be 0")
        if not -MAX_AMOUNT <= delta <= MAX_AMOUNT:
            raise self._delta_error(f"must be at most {MAX_AMOUNT} in size (2^53 - 1), not {short_repr(delta)}")
        if self._contract.sign == "by_reason" and delta * _SIGN_BY_REASON[reason] < 0:
            sign = "greater" if _SIGN_BY_REASON[reason] > 0 else "less"
            raise self._delta_error(f"must be {sign} than 0 for reason {reason.value!r}, not {delta}")

    def _delta_error(self, problem: str) -> ValidationError:
        name = self._contract.name_of("delta")
        return ValidationError(f"{name} {problem}", details=(Problem(name, problem),))

    def append(self, account: Account, delta: int, reason: Reason, at_ms: int) -> LedgerEntry:
        """Book one transaction and return it.

        Raises ValidationError, InsufficientCredits or BalanceLimitExceeded, and then nothing has changed.
        """
        entry = self.preview(account, delta, reason, at_ms)
        account.append_entry(entry)
        return entry

    def preview(self, account: Account, delta: int, reason: Reason, at_ms: int) -> LedgerEntry:
        """Return the transaction that `append` would book, or raise what it would; nothing changes."""
        self.check_amount(delta, reason)
        balance = account.balance + delta
        floor, ceiling = self._contract.floor, self._contract.ceiling
        if delta < 0 and floor is not None and balance < floor:
            floor_note = "" if floor == 0 else f" (it may fall to {floor})"
            raise InsufficientCredits(
                f"user {account.user_id!r} has a balance of {account.balance}, so {-delta} can't be taken{floor_note}"
            )
        if delta > 0 and ceiling is not None and balance > ceiling:
            raise BalanceLimitExceeded(f"a balance of {account.balance} plus {delta} is over the ceiling of {ceiling}")
        if abs(balance) > _MAX_COLUMN_VALUE:
            raise BalanceLimitExceeded(f"a balance of {account.balance} plus {delta} is more than 64 bits hold")
        return LedgerEntry(delta, reason, at_ms, balance)

    def extend(self, account: Account, columns: TransactionColumns) -> None:
        """Book many transactions at once, each by the rules of `append`: all of them or, where one is refused, none.

        Ten times as fast as `append`. Raises what `append` would.
        """
        try:
            balances = array("q", list(accumulate(columns.deltas, initial=account.balance))[1:])
        except OverflowError:
            balances = array("q")
        if not self._are_all_allowed(columns, balances):  # then one by one, which raises for the first that is not
            scratch = Account(account.application_id, account.user_id, account.created_at_ms)
            scratch.balance = account.balance
            balances = array("q", [self.append(scratch, *transaction).balance for transaction in columns.entries()])
        account.append_columns(columns, balances)

    def _are_all_allowed(self, columns: TransactionColumns, balances: "array[int]") -> bool:
        """Tell whether all transactions keep the rules, by column: no balance before them breaks a limit."""
        if not balances:
            return False
        deltas, (floor, ceiling) = columns.deltas, (self._contract.floor, self._contract.ceiling)
        if 0 in deltas or not -MAX_AMOUNT <= min(deltas) <= max(deltas) <= MAX_AMOUNT:
            return False
        credit_flags = bytes(map((0).__lt__, deltas))
        if self._contract.sign == "by_reason" and credit_flags != columns.reasons.tobytes().translate(
            _IS_CREDIT_BY_CODE
        ):
            return False
        return (floor is None or min(balances) >= floor) and (ceiling is None or max(balances) <= ceiling)

    def history_lengths(self) -> dict[tuple[str, str], int]:
        """Return how many transactions each user of each application has."""
        return {
            (account.application_id, account.user_id): len(account)
            for application in self._applications.values()
            for account in application.ordered_accounts
        }

    def page_of_transactions(self, size: int, start: int | None, limit: int) -> PageRange:
        """Return the positions of one page of a history of ``size`` in the contract's order.

        ``start`` is an earlier ``next``.
        """
        newest_first = self._contract.transactions_order == "newest_first"
        if start is not None and newest_first:
            start = min(start, size - 1)
        return _page_range(size, start, limit, newest_first=newest_first)

    def page_of_users(self, application_id: str, start: int | None, limit: int) -> tuple[Sequence[Account], PageRange]:
        """Return the application's users, oldest first, and the positions of one page in the contract's order."""
        self._check_application(application_id)
        application = self._applications.get(application_id)
        accounts: Sequence[Account] = () if application is None else application.ordered_accounts
        return accounts, _page_range(
            len(accounts), start, limit, newest_first=self._contract.users_order == "newest_first"
        )

    def verify_balances(self) -> None:
        """Raise LedgerInconsistency where a balance is not the sum of its deltas, at any moment of any history."""
        for application in self._applications.values():
            for account in application.ordered_accounts:
                _verify_account(account, self._contract.floor)

    def _check_application(self, application_id: str) -> None:
        if self._allowed_applications is not None and application_id not in self._allowed_applications:
            allowed = ", ".join(sorted(self._allowed_applications)) or "none"
            raise ApplicationNotFound(f"there is no application {application_id!r} (known: {allowed})")

    def _not_found_message(self, application_id: str, user_id: str) -> str:
        message = f"application {application_id!r} has no user {user_id!r}"
        for other_id, other_application in self._applications.items():
            if user_id in other_application.accounts_by_id:
                return f"{message}; application {other_id!r} does have one"
        return f"{message}; create it with createUser first"


def _page_range(size: int, start: int | None, limit: int, *, newest_first: bool) -> PageRange:
    """Cut a page out of an append-only list: positions never move, so nothing is skipped or repeated."""
    if newest_first:
        first = size - 1 if start is None else start
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
                f"{account!r}: transaction {position} says {entry.balance}, the deltas sum to {balance}"
            )
        if entry.delta < 0 and floor is not None and balance < floor:
            raise LedgerInconsistency(
                f"{account!r}: transaction {position} went below the floor of {floor}, to {balance}"
            )
    if account.balance != balance:
        raise LedgerInconsistency(f"{account!r}: the deltas sum to {balance}")
