"""Own what each of the six operations does once a request is admitted; know nothing of how it came or goes.

Runs whole under the sandbox's lock and never waits.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

import msgspec

from fake_credits.contract import Operation
from fake_credits.errors import InvalidCursor, Problem, UnsupportedMediaType, ValidationError
from fake_credits.faults.stage import PageTrick
from fake_credits.ledger import Account, Slice
from fake_credits.sandbox import Sandbox
from fake_credits.web.answer import Answer, Headers
from fake_credits.web.cursors import open_cursor, seal_cursor
from fake_credits.web.service import Service
from fake_credits.web.wire import Order

__all__ = ["OPERATIONS", "Bent", "Request"]

_PAGE_MAX = 1000


@dataclass(slots=True)
class Bent:
    """Say how a fault bends an operation.

    Reads go back by milliseconds or by writes, not further than ``baseline`` (how much each user had when the rule was
    made); lists play a ``trick``; a ``rehearsal`` checks a write and leaves it at that.
    """

    by_ms: int = 0
    by_writes: int = 0
    baseline: Mapping[tuple[str, str], int] | None = None
    trick: PageTrick | None = None
    rehearsal: bool = False

    def visible(self, account: Account, now_ms: int) -> int:
        """Return how many of a user's transactions can be seen."""
        if self.baseline is None:
            return len(account)
        oldest = min(self.baseline.get((account.application_id, account.user_id), 0), len(account))
        if self.by_writes:
            return max(oldest, len(account) - self.by_writes)
        written = range(oldest, len(account))
        return oldest + bisect_right(written, now_ms - self.by_ms, key=lambda position: account[position].at_ms)


class Request(msgspec.Struct, eq=False):
    """Be an admitted request before the ledger.

    ``order``, ``committed`` and ``transaction`` (its number in the history, from 1) say afterwards what it did;
    ``bent`` is what a fault does to it.
    """

    service: Service
    sandbox: Sandbox
    operation: Operation
    application_id: str
    user_id: str
    headers: Headers
    query: bytes
    body: bytes
    bent: Bent | None
    order: Order | None = None
    committed: bool = False
    transaction: int = 0

    def account(self) -> Account:
        """Return the account that the path names; raise UserNotFound or ApplicationNotFound.

        Where the contract knows no unknown users (row 6), one that is missing is made: for a transaction it is
        adopted only once that is booked, so a refused one leaves nothing behind.
        """
        ledger, policy = self.sandbox.ledger, self.service.contract.unknown_user
        found = None if policy == "refuse" else ledger.find(self.application_id, self.user_id)
        if policy == "refuse" or (policy == "zero" and self.operation is Operation.GET_USER):
            return ledger.account(self.application_id, self.user_id)
        if found is not None:
            return found
        made = ledger.stranger(self.application_id, self.user_id, self.sandbox.clock.now_ms())
        if policy == "create" and self.operation is not Operation.CREATE_TRANSACTION:
            ledger.adopt(made)
            self.committed = True
        return made

    def json_body(self) -> bytes:
        """Return the body; raise UnsupportedMediaType where there is one that does not say it is JSON."""
        if self.body:
            _check_media_type(self.headers)
        return self.body

    def page_request(self) -> tuple[int | None, int]:
        """Return where the page starts (None: at the beginning) and how many entries it may have."""
        contract = self.service.contract
        if not self.query:
            return None, contract.page_size
        pairs = parse_qsl(self.query.decode("latin-1"), keep_blank_values=True)
        cursors = [value for name, value in pairs if name == contract.cursor_parameter]
        limits = [value for name, value in pairs if name == contract.limit_parameter != ""]
        if len(cursors) > 1:
            raise InvalidCursor(f"the parameter {contract.cursor_parameter} stands {len(cursors)} times in the query")
        start = open_cursor(self.sandbox.cursor_key, self._list_name(), cursors[0]) if cursors else None
        if start is not None and self.bent is not None and self.bent.trick == "expired":
            raise InvalidCursor("this cursor has expired: begin the list anew")
        return start, _limit(contract.limit_parameter, limits[-1]) if limits else contract.page_size

    def balance_of(self, account: Account) -> int:
        """Return the balance that can be seen."""
        if self.bent is None or self.bent.baseline is None:
            return account.balance
        visible = self.bent.visible(account, self.sandbox.clock.now_ms())
        return account[visible - 1].balance if visible else 0

    def size_of(self, account: Account) -> int:
        """Return how many transactions can be seen."""
        return len(account) if self.bent is None else self.bent.visible(account, self.sandbox.clock.now_ms())

    def turned(self, page: Slice, start: int | None, size: int) -> Slice:
        """Return a page of a list of ``size`` as it is shown, which a trick may have turned."""
        trick = None if self.bent is None else self.bent.trick
        if trick is None or not page.positions:
            return page
        if trick == "repeat":
            return Slice(page.positions, page.positions[0])
        if trick == "cycle" and page.next is None:
            return Slice(page.positions, 0 if page.positions.step > 0 else size - 1)
        if trick == "empty_page" and start is None:
            return Slice(range(0), page.positions[0])
        return page

    @property
    def is_rehearsal(self) -> bool:
        """Tell whether a write is only checked."""
        return self.bent is not None and self.bent.rehearsal

    def next_cursor(self, position: int | None) -> str | None:
        """Return the cursor for the page that starts at a position, None where there is none."""
        return None if position is None else seal_cursor(self.sandbox.cursor_key, self._list_name(), position)

    def _list_name(self) -> tuple[str, ...]:
        return self.operation.value, self.application_id, self.user_id


def _create_user(request: Request) -> Answer:
    request.service.codec.no_body(request.json_body())
    if request.is_rehearsal:
        request.sandbox.ledger.stranger(request.application_id, request.user_id, 0)
        return _UNSEEN
    account, created = request.sandbox.ledger.create_user(
        request.application_id, request.user_id, request.sandbox.clock.now_ms()
    )
    request.committed = created
    contract = request.service.contract
    status = contract.created_user_status if created else contract.existing_user_status
    return Answer(status, request.service.codec.user(account))


def _get_user(request: Request) -> Answer:
    return Answer(200, request.service.codec.user(request.account()))


def _list_users(request: Request) -> Answer:
    start, limit = request.page_request()
    accounts, page = request.sandbox.ledger.page_of_users(request.application_id, start, limit)
    if request.bent is not None:
        page = request.turned(page, start, len(accounts))
    shown = (accounts[position] for position in page.positions)
    return Answer(200, request.service.codec.users(shown, request.next_cursor(page.next)))


def _get_balance(request: Request) -> Answer:
    return Answer(200, request.service.codec.balance(request.balance_of(request.account())))


def _create_transaction(request: Request) -> Answer:
    order = request.order = request.service.codec.order(request.json_body())
    ledger = request.sandbox.ledger
    ledger.check(order.delta, order.reason)
    account = request.account()
    if request.is_rehearsal:
        ledger.examine(account, order.delta, order.reason, 0)
        return _UNSEEN
    row = ledger.append(account, order.delta, order.reason, request.sandbox.clock.now_ms())
    if request.service.contract.unknown_user != "refuse":
        ledger.adopt(account)
    request.committed = True
    request.transaction = len(account)
    body = request.service.codec.transaction(row, len(account) - 1)
    return Answer(request.service.contract.created_transaction_status if body else 204, body)


def _list_transactions(request: Request) -> Answer:
    start, limit = request.page_request()
    account = request.account()
    size = request.size_of(account)
    page = request.sandbox.ledger.page_of_transactions(size, start, limit)
    if request.bent is not None:
        page = request.turned(page, start, size)
    rows = map(account.__getitem__, page.positions)
    return Answer(200, request.service.codec.transactions(rows, request.next_cursor(page.next)))


_UNSEEN = Answer(204, b"")
"""What a rehearsal answers, to nobody."""

OPERATIONS: Mapping[Operation, Callable[[Request], Answer]] = {
    Operation.CREATE_USER: _create_user,
    Operation.GET_USER: _get_user,
    Operation.LIST_USERS: _list_users,
    Operation.GET_BALANCE: _get_balance,
    Operation.CREATE_TRANSACTION: _create_transaction,
    Operation.LIST_TRANSACTIONS: _list_transactions,
}


def _check_media_type(headers: Headers) -> None:
    sent = [value for name, value in headers if name == b"content-type"]
    if sent == [b"application/json"]:
        return
    if len(sent) != 1:
        problem = "has no Content-Type" if not sent else f"has {len(sent)} Content-Type headers"
        raise UnsupportedMediaType(f"the body {problem}: send Content-Type: application/json")
    media_type, _, parameters = sent[0].decode("latin-1").lower().partition(";")
    charset = parameters.replace(" ", "").replace('"', "")
    if media_type.strip() != "application/json" or charset not in ("", "charset=utf-8"):
        raise UnsupportedMediaType(f"Content-Type is {sent[0].decode('latin-1')[:60]!r}: send application/json")


def _limit(name: str, text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= _PAGE_MAX:
        return int(text)
    problem = f"must be an integer from 1 to {_PAGE_MAX}"
    raise ValidationError(f"{name} {problem}", details=(Problem(name, problem),))
