"""Own what each of the six operations does once a request is admitted; know nothing of how it came or goes.

Runs whole under the sandbox's lock and never waits.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

import msgspec

from fake_credits.api.codec import TransactionInput, decode_cursor, encode_cursor
from fake_credits.api.contract_runtime import ContractRuntime
from fake_credits.contract import Operation
from fake_credits.errors import InvalidCursor, Problem, UnsupportedMediaType, ValidationError
from fake_credits.faults.context import CursorFault
from fake_credits.http_message import Headers, Response
from fake_credits.ledger import Account, PageRange
from fake_credits.sandbox import Sandbox

__all__ = ["OPERATION_HANDLERS", "FaultOverrides", "OperationCall"]

_MAX_PAGE_SIZE = 1000


@dataclass(slots=True)
class FaultOverrides:
    """Say how a fault bends an operation.

    Reads go back by milliseconds or by writes, not further than ``history_lengths`` (how much each user had when the
    rule was made); lists have a ``cursor_fault``; a ``dry_run`` checks a write and leaves it at that.
    """

    stale_by_ms: int = 0
    stale_by_writes: int = 0
    history_lengths: Mapping[tuple[str, str], int] | None = None
    cursor_fault: CursorFault | None = None
    dry_run: bool = False

    def visible_count(self, account: Account, now_ms: int) -> int:
        """Return how many of a user's transactions can be seen."""
        if self.history_lengths is None:
            return len(account)
        minimum = min(self.history_lengths.get((account.application_id, account.user_id), 0), len(account))
        if self.stale_by_writes:
            return max(minimum, len(account) - self.stale_by_writes)
        positions = range(minimum, len(account))
        return minimum + bisect_right(
            positions, now_ms - self.stale_by_ms, key=lambda position: account[position].at_ms
        )


class OperationCall(msgspec.Struct, eq=False):
    """Be an admitted request before the ledger.

    ``committed`` and ``transaction_number`` (in the history, from 1) say afterwards what it did; ``overrides`` is
    what a fault does to it.
    """

    runtime: ContractRuntime
    sandbox: Sandbox
    operation: Operation
    application_id: str
    user_id: str
    headers: Headers
    query: bytes
    body: bytes
    overrides: FaultOverrides | None
    transaction_input: TransactionInput | None = None
    committed: bool = False
    transaction_number: int = 0

    def resolve_account(self) -> Account:
        """Return the account that the path names; raise UserNotFound or ApplicationNotFound.

        Where the contract knows no unknown users (row 6), one that is missing is made: for a transaction it is
        added only once that is booked, so a refused one leaves nothing behind.
        """
        ledger, policy = self.sandbox.ledger, self.runtime.contract.unknown_user
        existing = None if policy == "refuse" else ledger.find_account(self.application_id, self.user_id)
        if policy == "refuse" or (policy == "zero" and self.operation is Operation.GET_USER):
            return ledger.get_account(self.application_id, self.user_id)
        if existing is not None:
            return existing
        new_account = ledger.new_account(self.application_id, self.user_id, self.sandbox.clock.now_ms())
        if policy == "create" and self.operation is not Operation.CREATE_TRANSACTION:
            ledger.add_account(new_account)
            self.committed = True
        return new_account

    def json_body(self) -> bytes:
        """Return the body; raise UnsupportedMediaType where there is one that does not say it is JSON."""
        if self.body:
            _check_media_type(self.headers)
        return self.body

    def parse_page_query(self) -> tuple[int | None, int]:
        """Return where the page starts (None: at the beginning) and how many entries it may have."""
        contract = self.runtime.contract
        if not self.query:
            return None, contract.page_size
        pairs = parse_qsl(self.query.decode("latin-1"), keep_blank_values=True)
        cursors = [value for name, value in pairs if name == contract.cursor_parameter]
        limits = [value for name, value in pairs if name == contract.limit_parameter != ""]
        if len(cursors) > 1:
            raise InvalidCursor(f"the parameter {contract.cursor_parameter} stands {len(cursors)} times in the query")
        start = decode_cursor(self.sandbox.cursor_key, self._cursor_scope(), cursors[0]) if cursors else None
        if start is not None and self.overrides is not None and self.overrides.cursor_fault == "expired":
            raise InvalidCursor("this cursor has expired: begin the list anew")
        return start, _parse_limit(contract.limit_parameter, limits[-1]) if limits else contract.page_size

    def visible_balance(self, account: Account) -> int:
        """Return the balance that can be seen."""
        if self.overrides is None or self.overrides.history_lengths is None:
            return account.balance
        count = self.overrides.visible_count(account, self.sandbox.clock.now_ms())
        return account[count - 1].balance if count else 0

    def visible_length(self, account: Account) -> int:
        """Return how many transactions can be seen."""
        return (
            len(account)
            if self.overrides is None
            else self.overrides.visible_count(account, self.sandbox.clock.now_ms())
        )

    def apply_cursor_fault(self, page: PageRange, start: int | None, list_length: int) -> PageRange:
        """Return a page of a list of ``size`` as it is shown, which a trick may have turned."""
        fault = None if self.overrides is None else self.overrides.cursor_fault
        if fault is None or not page.positions:
            return page
        if fault == "repeat":
            return PageRange(page.positions, page.positions[0])
        if fault == "cycle" and page.next is None:
            return PageRange(page.positions, 0 if page.positions.step > 0 else list_length - 1)
        if fault == "empty_page" and start is None:
            return PageRange(range(0), page.positions[0])
        return page

    @property
    def is_dry_run(self) -> bool:
        """Tell whether a write is only checked."""
        return self.overrides is not None and self.overrides.dry_run

    def next_cursor(self, position: int | None) -> str | None:
        """Return the cursor for the page that starts at a position, None where there is none."""
        return None if position is None else encode_cursor(self.sandbox.cursor_key, self._cursor_scope(), position)

    def _cursor_scope(self) -> tuple[str, ...]:
        return self.operation.value, self.application_id, self.user_id


def _create_user(call: OperationCall) -> Response:
    call.runtime.codec.require_empty_body(call.json_body())
    if call.is_dry_run:
        call.sandbox.ledger.new_account(call.application_id, call.user_id, 0)
        return _DRY_RUN_RESPONSE
    account, created = call.sandbox.ledger.create_user(call.application_id, call.user_id, call.sandbox.clock.now_ms())
    call.committed = created
    contract = call.runtime.contract
    status = contract.created_user_status if created else contract.existing_user_status
    return Response(status, call.runtime.codec.encode_user(account))


def _get_user(call: OperationCall) -> Response:
    return Response(200, call.runtime.codec.encode_user(call.resolve_account()))


def _list_users(call: OperationCall) -> Response:
    start, limit = call.parse_page_query()
    accounts, page = call.sandbox.ledger.page_of_users(call.application_id, start, limit)
    if call.overrides is not None:
        page = call.apply_cursor_fault(page, start, len(accounts))
    page_accounts = (accounts[position] for position in page.positions)
    return Response(200, call.runtime.codec.encode_user_page(page_accounts, call.next_cursor(page.next)))


def _get_balance(call: OperationCall) -> Response:
    return Response(200, call.runtime.codec.encode_balance(call.visible_balance(call.resolve_account())))


def _create_transaction(call: OperationCall) -> Response:
    transaction_input = call.transaction_input = call.runtime.codec.decode_transaction(call.json_body())
    ledger = call.sandbox.ledger
    ledger.check_amount(transaction_input.delta, transaction_input.reason)
    account = call.resolve_account()
    if call.is_dry_run:
        ledger.preview(account, transaction_input.delta, transaction_input.reason, 0)
        return _DRY_RUN_RESPONSE
    entry = ledger.append(account, transaction_input.delta, transaction_input.reason, call.sandbox.clock.now_ms())
    if call.runtime.contract.unknown_user != "refuse":
        ledger.add_account(account)
    call.committed = True
    call.transaction_number = len(account)
    body = call.runtime.codec.encode_transaction(entry, len(account) - 1)
    return Response(call.runtime.contract.created_transaction_status if body else 204, body)


def _list_transactions(call: OperationCall) -> Response:
    start, limit = call.parse_page_query()
    account = call.resolve_account()
    length = call.visible_length(account)
    page = call.sandbox.ledger.page_of_transactions(length, start, limit)
    if call.overrides is not None:
        page = call.apply_cursor_fault(page, start, length)
    entries = map(account.__getitem__, page.positions)
    return Response(200, call.runtime.codec.encode_transaction_page(entries, call.next_cursor(page.next)))


_DRY_RUN_RESPONSE = Response(204, b"")
"""What a rehearsal answers, to nobody."""

OPERATION_HANDLERS: Mapping[Operation, Callable[[OperationCall], Response]] = {
    Operation.CREATE_USER: _create_user,
    Operation.GET_USER: _get_user,
    Operation.LIST_USERS: _list_users,
    Operation.GET_BALANCE: _get_balance,
    Operation.CREATE_TRANSACTION: _create_transaction,
    Operation.LIST_TRANSACTIONS: _list_transactions,
}


def _check_media_type(headers: Headers) -> None:
    content_types = [value for name, value in headers if name == b"content-type"]
    if content_types == [b"application/json"]:
        return
    if len(content_types) != 1:
        problem = "has no Content-Type" if not content_types else f"has {len(content_types)} Content-Type headers"
        raise UnsupportedMediaType(f"the body {problem}: send Content-Type: application/json")
    media_type, _, parameters = content_types[0].decode("latin-1").lower().partition(";")
    charset = parameters.replace(" ", "").replace('"', "")
    if media_type.strip() != "application/json" or charset not in ("", "charset=utf-8"):
        raise UnsupportedMediaType(
            f"Content-Type is {content_types[0].decode('latin-1')[:60]!r}: send application/json"
        )


def _parse_limit(name: str, text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= _MAX_PAGE_SIZE:
        return int(text)
    problem = f"must be an integer from 1 to {_MAX_PAGE_SIZE}"
    raise ValidationError(f"{name} {problem}", details=(Problem(name, problem),))
