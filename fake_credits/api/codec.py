"""Encoding and decoding of bodies, error responses, and signed pagination cursors.

Row numbers refer to docs/reference/contract.md.
"""

import base64
import binascii
import hashlib
import hmac
import http
from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import NamedTuple, Protocol, cast

import msgspec

from fake_credits.contract import MAX_AMOUNT, Contract, created_at_to_json
from fake_credits.errors import ApiError, InvalidCursor, MalformedJson, MethodNotAllowed, Problem, ValidationError
from fake_credits.http_message import Headers, Response, reason_phrase
from fake_credits.ledger import Account, LedgerEntry
from fake_credits.models import Reason
from fake_credits.strict_json import JsonError, parse_json
from fake_credits.text import short_repr, truncate

_MAX_CACHED_SECONDS = 256
# A lookup is much cheaper than Reason(value), which takes half as long as decoding a body.
_REASON_BY_VALUE = {reason.value: reason for reason in Reason}


class TransactionInput(NamedTuple):
    """The decoded body of createTransaction, before the ledger checks the amount."""

    delta: int
    reason: Reason


class _FastTransactionInput(Protocol):
    delta: float  # a float is left to strict decoding, because 10.0 and 10.00000000000000001 are the same double
    reason: str


class Codec:
    """An encoder and decoder for one contract's request and response bodies."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        name_of = contract.name_of
        self._delta_name, self._reason_name = name_of("delta"), name_of("reason")
        balance_template = f"{{{_template_key(name_of('balance'))}:%d}}".encode()
        self.encode_balance: Callable[[int], bytes] = balance_template.__mod__
        """Return the response body of getBalance."""
        self._transaction_template = ",".join(
            f"{_template_key(name_of(key))}:%s" for key in ("delta", "reason", "createdAt")
        )
        self._user_template = (
            "{"
            + ",".join(f"{_template_key(name_of(key))}:%s" for key in ("applicationId", "userId", "createdAt"))
            + "}"
        )
        self._json_by_reason = {reason: _json_string(reason.value) for reason in Reason}
        self._decode_fast = self._make_fast_decoder()
        self._cached_iso_second = lru_cache(_MAX_CACHED_SECONDS)(_iso_second)

    def _make_fast_decoder(self) -> Callable[[bytes], _FastTransactionInput]:
        struct = msgspec.defstruct(
            "_FastTransactionInput",
            [("delta", int | float), ("reason", str)],
            rename={"delta": self._delta_name, "reason": self._reason_name}.get,
            forbid_unknown_fields=True,
        )
        return cast("Callable[[bytes], _FastTransactionInput]", msgspec.json.Decoder(struct).decode)

    # ------------------------------------------------------------ encoding

    def encode_user(self, account: Account) -> bytes:
        """Return the response body of getUser and createUser."""
        return self._user_json(account).encode()

    def encode_user_page(self, accounts: Iterable[Account], next_cursor: str | None) -> bytes:
        """Return the response body of listUsers."""
        return self._encode_page("users", map(self._user_json, accounts), next_cursor)

    def encode_transaction(self, entry: LedgerEntry, position: int) -> bytes:
        """Return the response body of createTransaction (row 11)."""
        form = self._contract.created_transaction
        if form == "empty":
            return b""
        text = self._transaction_json(entry)
        if form == "wrapped":
            text = f"{{{_json_string(self._contract.name_of('transaction'))}:{text}}}"
        elif form == "id":
            text = f'{text[:-1]},{_json_string(self._contract.name_of("id"))}:"txn_{position + 1}"}}'
        elif form == "balance":
            text = f"{text[:-1]},{_json_string(self._contract.name_of('balance'))}:{entry.balance}}}"
        return text.encode()

    def encode_transaction_page(self, entries: Iterable[LedgerEntry], next_cursor: str | None) -> bytes:
        """Return the response body of listTransactions."""
        return self._encode_page("transactions", map(self._transaction_json, entries), next_cursor)

    def _user_json(self, account: Account) -> str:
        return self._user_template % (
            _json_string(account.application_id),
            _json_string(account.user_id),
            self._timestamp_json(account.created_at_ms),
        )

    def _transaction_json(self, entry: LedgerEntry) -> str:
        return (
            "{"
            + self._transaction_template
            % (entry.delta, self._json_by_reason[entry.reason], self._timestamp_json(entry.at_ms))
            + "}"
        )

    def _timestamp_json(self, ms: int) -> str:
        second, milliseconds = divmod(ms, 1000)
        if self._contract.created_at == "iso_ms":
            return f'"{self._cached_iso_second(second)}.{milliseconds:03d}Z"'
        value = created_at_to_json(self._contract.created_at, ms)
        return f'"{value}"' if isinstance(value, str) else str(value)

    def _encode_page(self, member: str, items: Iterable[str], next_cursor: str | None) -> bytes:
        trailer = ""
        if next_cursor is not None or self._contract.end_of_list != "absent":
            end_of_list = "null" if self._contract.end_of_list == "null" else '""'
            cursor = end_of_list if next_cursor is None else f'"{next_cursor}"'
            trailer = f",{_json_string(self._contract.name_of('nextCursor'))}:{cursor}"
        return f"{{{_json_string(self._contract.name_of(member))}:[{','.join(items)}]{trailer}}}".encode()

    # ------------------------------------------------------------ decoding

    def decode_transaction(self, body: bytes) -> TransactionInput:
        """Return the transaction described by a body.

        Raises MalformedJson for invalid JSON, and a single ValidationError that covers all other problems.
        """
        # Six unescaped quotation marks delimit two member names and one string value, so no member can occur twice.
        if body.count(b'"') == 6 and b"\\" not in body:
            try:
                decoded = self._decode_fast(body)
            except (msgspec.MsgspecError, ValueError):
                pass  # strict decoding reports the problem
            else:
                reason = _REASON_BY_VALUE.get(decoded.reason)
                if reason is not None and isinstance(decoded.delta, int):
                    return TransactionInput(decoded.delta, reason)
        return self._decode_strict(_parse_object(body))

    def require_empty_body(self, body: bytes) -> None:
        """Raise MalformedJson or ValidationError unless a body is empty or an empty JSON object."""
        if body:
            _raise_problems(_unknown_members(_parse_object(body), ()))

    def _decode_strict(self, members: dict[str, object]) -> TransactionInput:
        delta, delta_problem = _read_delta(members, self._delta_name)
        reason, reason_problem = _read_reason(members, self._reason_name)
        problems = [problem for problem in (delta_problem, reason_problem) if problem is not None]
        _raise_problems([*problems, *_unknown_members(members, (self._delta_name, self._reason_name))])
        return TransactionInput(delta, reason)


def _iso_second(second: int) -> str:
    """Format a time, given in seconds since 1970, as ISO 8601 without a time zone.

    `Codec` caches the results, because transactions on a page often share a second.
    """
    return str(created_at_to_json("iso_s", second * 1000)).removesuffix("Z")


def _json_string(text: str) -> str:
    return msgspec.json.encode(text).decode()


def _template_key(name: str) -> str:
    """Return a member's name as JSON, escaped for ``%`` formatting."""
    return _json_string(name).replace("%", "%%")


def _parse_object(body: bytes) -> dict[str, object]:
    try:
        # Given thousands of digits, int() raises an error about interpreter settings; such numbers are invalid anyway.
        value = parse_json(
            body,
            parse_int=lambda digits: int(digits) if len(digits) < 100 else Decimal(digits),
            parse_float=_parse_decimal,
        )
    except JsonError as error:
        raise MalformedJson(str(error)) from None
    if not isinstance(value, dict):
        raise ValidationError(
            f"the body must be a JSON object, not {_json_type_name(value)}",
            details=(Problem("", f"must be a JSON object, not {_json_type_name(value)}"),),
        )
    return cast("dict[str, object]", value)


def _parse_decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:  # the exponent is too large for Decimal; the number is invalid anyway
        return Decimal("1e-999999" if "e-" in text.lower() else "1e999999")


def _read_delta(members: dict[str, object], name: str) -> tuple[int, Problem | None]:
    if name not in members:
        return 0, Problem(name, "is missing: an integer is required")
    value = members[name]
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return 0, Problem(name, f"must be an integer, not {_json_type_name(value)}")
    if not -MAX_AMOUNT <= value <= MAX_AMOUNT:
        return 0, Problem(name, f"must be at most {MAX_AMOUNT} (2^53 - 1) in magnitude, not {truncate(str(value))}")
    if value != int(value):
        return 0, Problem(name, f"must be an integer, not {truncate(str(value))}")
    return int(value), None


def _read_reason(members: dict[str, object], name: str) -> tuple[Reason, Problem | None]:
    choices = ", ".join(f"{reason.value!r}" for reason in Reason)
    if name not in members:
        return Reason.GRANT, Problem(name, f"is missing: one of {choices} is required")
    value = members[name]
    if not isinstance(value, str):
        return Reason.GRANT, Problem(name, f"must be one of {choices}, not {_json_type_name(value)}")
    if value not in Reason.__members__.values():
        return Reason.GRANT, Problem(name, f"must be one of {choices}, not {short_repr(value)}")
    return Reason(value), None


def _unknown_members(members: dict[str, object], allowed: tuple[str, ...]) -> list[Problem]:
    problem = (
        f"is not allowed in this body (allowed: {', '.join(allowed)})"
        if allowed
        else ("is not allowed: send an empty object")
    )
    return [Problem(short_repr(name).strip("'"), problem) for name in members if name not in allowed]


def _raise_problems(problems: list[Problem]) -> None:
    if problems:
        first = problems[0]
        more = f" (first of {len(problems)} problems)" if len(problems) > 1 else ""
        raise ValidationError(f"{first.field} {first.problem}{more}", details=tuple(problems[:20]))


_JSON_TYPE_NAMES: dict[type, str] = {
    str: "a string",
    int: "a number",
    Decimal: "a number",
    list: "an array",
    dict: "an object",
}


def _json_type_name(value: object) -> str:
    if isinstance(value, bool):
        return f"a boolean ({str(value).lower()})"
    return "null" if value is None else _JSON_TYPE_NAMES[type(value)]


_POSITION_BYTES = 6
_SIGNATURE_BYTES = 12


def encode_cursor(key: bytes, scope: tuple[str, ...], position: int) -> str:
    """Return the cursor for a position in the list identified by ``scope``."""
    position_bytes = position.to_bytes(_POSITION_BYTES, "big")
    # Length prefixes make the encoding unambiguous.
    scope_bytes = b"".join(len(part).to_bytes(4, "big") + part for part in (text.encode() for text in scope))
    signature = hashlib.blake2b(position_bytes + scope_bytes, digest_size=_SIGNATURE_BYTES, key=key).digest()
    return base64.urlsafe_b64encode(position_bytes + signature).decode("ascii")


def decode_cursor(key: bytes, scope: tuple[str, ...], cursor: str) -> int:
    """Return the position encoded in a cursor; raise InvalidCursor if it was not issued for this list."""
    try:
        encoded = cursor.encode("ascii")
        position = int.from_bytes(base64.b64decode(encoded, altchars=b"-_", validate=True)[:_POSITION_BYTES], "big")
    except (UnicodeEncodeError, binascii.Error):
        raise _invalid_cursor() from None
    # Compare the encoded forms, because several base64 strings can decode to the same bytes.
    if not hmac.compare_digest(encoded, encode_cursor(key, scope, position).encode("ascii")):
        raise _invalid_cursor()
    return position


def _invalid_cursor() -> InvalidCursor:
    return InvalidCursor("this cursor was not issued for this list: pass back nextCursor unchanged, to the same list")


_CHALLENGE_ERRORS = {
    "invalid_api_key": ', error="invalid_token"',
    "invalid_token": ', error="invalid_token"',
    "token_expired": ', error="invalid_token"',
    "insufficient_scope": ', error="insufficient_scope"',
}


def error_response(contract: Contract, error: ApiError, request_id: str, *, status: int | None = None) -> Response:
    """Return an error response in the contract's form (row 18), with the contract's status (row 19) by default."""
    status = contract.status_of(error) if status is None else status
    response = Response(
        status, _error_body(contract, error, status, request_id), _error_headers(contract, error, status)
    )
    if contract.error_body == "problem":
        response.media_type = b"application/problem+json"
    return response


def error_cause(error: ApiError) -> str:
    """Return the value of ``X-Fake-Credits-Cause`` for an error."""
    if error.fault:
        return f"fault:{error.fault}"
    return f"{error.cause}:{error.auth_reason or error.code}" if error.cause == "auth" else error.cause


def _error_body(contract: Contract, error: ApiError, status: int, request_id: str) -> bytes:
    fields: dict[str, object] = {"code": error.code, "message": error.message}
    if contract.error_body == "problem":
        title = reason_phrase(status) or error.code
        fields = {"type": "about:blank", "title": title, "status": status, "detail": error.message, "code": error.code}
    if contract.error_body != "flat":
        fields["requestId"] = request_id
        if error.details:
            fields["details"] = [{"field": detail.field, "problem": detail.problem} for detail in error.details]
    return msgspec.json.encode({"error": fields} if contract.error_body == "nested" else fields)


def _error_headers(contract: Contract, error: ApiError, status: int) -> Headers:
    headers: Headers = [(b"x-fake-credits-cause", error_cause(error).encode("ascii", "replace"))]
    if status == http.HTTPStatus.UNAUTHORIZED:
        # Every 401 carries a challenge, which includes an error only if a credential was rejected (RFC 6750, section
        # 3.1).
        scheme = contract.user_token.scheme or contract.api_key.scheme or "Bearer"
        challenge = f'{scheme} realm="credits"{_CHALLENGE_ERRORS.get(error.code, "")}'
        headers.append((b"www-authenticate", challenge.encode("ascii")))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", error.allow.encode("ascii")))
    return headers
