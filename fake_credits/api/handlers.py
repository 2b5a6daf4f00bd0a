"""The handlers of the six operations, which run under the sandbox's lock after authorization."""

from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl

from fake_credits.api.codec import decode_cursor, encode_cursor
from fake_credits.api.exchange import Exchange
from fake_credits.contract import Operation
from fake_credits.errors import InvalidCursor, Problem, UnsupportedMediaType, ValidationError
from fake_credits.http_message import Headers, Response
from fake_credits.ledger import Account, PageRange
from fake_credits.text import short_repr

_MAX_PAGE_SIZE = 1000


def authorize_and_execute(exchange: Exchange, *, clock_skew_s: int = 0) -> None:
    """Check the credential, permissions and ids, and execute the operation, all under the sandbox's lock."""
    with exchange.sandbox.lock:
        exchange.authorize(clock_skew_s)
        id_error = exchange.route_match.id_error
        if id_error is not None:
            raise ValidationError(f"{id_error.field} {id_error.problem}", details=(id_error,))
        execute(exchange)


def execute(exchange: Exchange) -> None:
    """Execute the operation; raise ApiError if it is rejected. The caller must hold the sandbox's lock."""
    exchange.response = OPERATION_HANDLERS[exchange.route_match.operation](exchange)


def _create_user(exchange: Exchange) -> Response:
    exchange.runtime.codec.require_empty_body(_json_body(exchange))
    ledger, now_ms = exchange.sandbox.ledger, exchange.sandbox.clock.now_ms()
    _, application_id, user_id, _, _ = exchange.route_match
    if _is_dry_run(exchange):
        ledger.new_account(application_id, user_id, now_ms)
        return _DRY_RUN_RESPONSE
    account, exchange.committed = ledger.create_user(application_id, user_id, now_ms)
    contract = exchange.runtime.contract
    status = contract.created_user_status if exchange.committed else contract.existing_user_status
    return Response(status, exchange.runtime.codec.encode_user(account))


def _get_user(exchange: Exchange) -> Response:
    return Response(200, exchange.runtime.codec.encode_user(_resolve_account(exchange)))


def _list_users(exchange: Exchange) -> Response:
    start, limit = _parse_page_query(exchange)
    accounts, page = exchange.sandbox.ledger.page_of_users(exchange.route_match.application_id, start, limit)
    page = _apply_cursor_fault(exchange, page, start, len(accounts))
    page_accounts = (accounts[position] for position in page.positions)
    return Response(200, exchange.runtime.codec.encode_user_page(page_accounts, _next_cursor(exchange, page)))


def _get_balance(exchange: Exchange) -> Response:
    account, overrides = _resolve_account(exchange), exchange.overrides
    balance = account.balance
    if overrides is not None and overrides.history_lengths is not None:
        count = overrides.visible_count(account, exchange.sandbox.clock.now_ms())
        balance = account[count - 1].balance if count else 0
    return Response(200, exchange.runtime.codec.encode_balance(balance))


def _create_transaction(exchange: Exchange) -> Response:
    runtime, sandbox = exchange.runtime, exchange.sandbox
    ledger, now_ms = sandbox.ledger, sandbox.clock.now_ms()
    delta, reason = exchange.transaction_input = runtime.codec.decode_transaction(_json_body(exchange))
    ledger.check_amount(delta, reason)
    account = _resolve_account(exchange)
    if _is_dry_run(exchange):
        ledger.preview(account, delta, reason, now_ms)
        return _DRY_RUN_RESPONSE
    entry = ledger.append(account, delta, reason, now_ms)
    if runtime.contract.unknown_user != "refuse":
        ledger.add_account(account)
    exchange.committed = True
    exchange.transaction_number = len(account)
    body = runtime.codec.encode_transaction(entry, len(account) - 1)
    return Response(runtime.contract.created_transaction_status if body else 204, body)


def _list_transactions(exchange: Exchange) -> Response:
    start, limit = _parse_page_query(exchange)
    account, overrides = _resolve_account(exchange), exchange.overrides
    length = len(account)
    if overrides is not None:
        length = overrides.visible_count(account, exchange.sandbox.clock.now_ms())
    page = exchange.sandbox.ledger.page_of_transactions(length, start, limit)
    page = _apply_cursor_fault(exchange, page, start, length)
    entries = map(account.__getitem__, page.positions)
    return Response(200, exchange.runtime.codec.encode_transaction_page(entries, _next_cursor(exchange, page)))


_DRY_RUN_RESPONSE = Response(204)
"""The response to a dry run; it is never sent."""

OPERATION_HANDLERS: Mapping[Operation, Callable[[Exchange], Response]] = {
    Operation.CREATE_USER: _create_user,
    Operation.GET_USER: _get_user,
    Operation.LIST_USERS: _list_users,
    Operation.GET_BALANCE: _get_balance,
    Operation.CREATE_TRANSACTION: _create_transaction,
    Operation.LIST_TRANSACTIONS: _list_transactions,
}


def _is_dry_run(exchange: Exchange) -> bool:
    return exchange.overrides is not None and exchange.overrides.dry_run


def _resolve_account(exchange: Exchange) -> Account:
    """Return the account named in the path, or a new one if the contract accepts unknown users for the operation.

    See docs/reference/contract.md, row 6. For a transaction, a new account is added to the ledger only once the
    transaction is committed. Raises ApplicationNotFound for an unknown application, and UserNotFound for an unknown
    user if the contract doesn't accept unknown users for the operation.
    """
    ledger, policy = exchange.sandbox.ledger, exchange.runtime.contract.unknown_user
    operation, application_id, user_id, _, _ = exchange.route_match
    if policy == "refuse" or (policy == "zero" and operation is Operation.GET_USER):
        return ledger.get_account(application_id, user_id)
    existing = ledger.find_account(application_id, user_id)
    if existing is not None:
        return existing
    new_account = ledger.new_account(application_id, user_id, exchange.sandbox.clock.now_ms())
    if policy == "create" and operation is not Operation.CREATE_TRANSACTION:
        ledger.add_account(new_account)
        exchange.committed = True
    return new_account


def _json_body(exchange: Exchange) -> bytes:
    """Return the body; raise UnsupportedMediaType if it is neither empty nor declared as JSON."""
    headers, headers_by_name = exchange.request.headers, exchange.headers_by_name
    is_repeated = len(headers) != len(headers_by_name)
    if exchange.body and (is_repeated or headers_by_name.get(b"content-type") != b"application/json"):
        _check_media_type(headers)
    return exchange.body


def _check_media_type(headers: Headers) -> None:
    content_types = [value for name, value in headers if name == b"content-type"]
    if len(content_types) != 1:
        problem = f"{len(content_types)} Content-Type headers" if content_types else "a body but no Content-Type"
        raise UnsupportedMediaType(f"the request has {problem}: send Content-Type: application/json")
    media_type, _, parameters = content_types[0].decode("latin-1").lower().partition(";")
    charset = parameters.replace(" ", "").replace('"', "")
    if media_type.strip() != "application/json" or charset not in ("", "charset=utf-8"):
        raise UnsupportedMediaType(
            f"Content-Type is {content_types[0].decode('latin-1')[:60]!r}: send application/json"
        )


def _parse_page_query(exchange: Exchange) -> tuple[int | None, int]:
    """Return the position of the page's first entry (None for the first page) and the page size."""
    contract = exchange.runtime.contract
    if not exchange.query:
        return None, contract.page_size
    pairs = parse_qsl(exchange.query.decode("latin-1"), keep_blank_values=True)
    cursors = [value for name, value in pairs if name == contract.cursor_parameter]
    limits = [value for name, value in pairs if name == contract.limit_parameter != ""]
    if len(cursors) > 1:
        raise InvalidCursor(
            f"the parameter {contract.cursor_parameter} must occur at most once, not {len(cursors)} times"
        )
    start = decode_cursor(exchange.sandbox.cursor_key, _cursor_scope(exchange), cursors[0]) if cursors else None
    if start is not None and exchange.overrides is not None and exchange.overrides.cursor_fault == "expired":
        raise InvalidCursor("this cursor has expired: start over from the first page")
    return start, _parse_limit(contract.limit_parameter, limits[-1]) if limits else contract.page_size


def _parse_limit(name: str, text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= _MAX_PAGE_SIZE:
        return int(text)
    problem = f"must be an integer from 1 to {_MAX_PAGE_SIZE}, not {short_repr(text)}"
    raise ValidationError(f"{name} {problem}", details=(Problem(name, problem),))


def _apply_cursor_fault(exchange: Exchange, page: PageRange, start: int | None, list_length: int) -> PageRange:
    """Apply the cursor fault, if any, to a page of a list with ``list_length`` entries; return the resulting page."""
    fault = None if exchange.overrides is None else exchange.overrides.cursor_fault
    if fault is None or not page.positions:
        return page
    if fault == "repeat":
        return PageRange(page.positions, page.positions[0])
    if fault == "cycle" and page.next is None:
        return PageRange(page.positions, 0 if page.positions.step > 0 else list_length - 1)
    if fault == "empty_page" and start is None:
        return PageRange(range(0), page.positions[0])
    return page


def _next_cursor(exchange: Exchange, page: PageRange) -> str | None:
    if page.next is None:
        return None
    return encode_cursor(exchange.sandbox.cursor_key, _cursor_scope(exchange), page.next)


def _cursor_scope(exchange: Exchange) -> tuple[str, ...]:
    operation, application_id, user_id, _, _ = exchange.route_match
    return operation.value, application_id, user_id
