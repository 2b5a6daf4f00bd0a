"""The codec: agreement between fast and strict decoding, and every configurable form of a body."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fake_credits.api import codec
from fake_credits.api.codec import Codec, TransactionInput
from fake_credits.contract import DEFAULT_CONTRACT, MAX_AMOUNT
from fake_credits.errors import ApiError, MalformedJson, Problem, ValidationError
from fake_credits.ledger import Account, LedgerEntry
from fake_credits.models import Reason

CODEC = Codec(DEFAULT_CONTRACT)

NUMBERS = st.one_of(
    st.integers().map(str),
    st.integers(-(2**54), 2**54).map(str),
    st.floats(allow_nan=True, allow_infinity=True).map(repr),
    st.from_regex(r"-?[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?", fullmatch=True),
    st.sampled_from(["true", "null", "[]", '"1"', "NaN", "01", "+1", "1.", "-", "1e22", "9007199254740991.0"]),
)
REASONS = st.one_of(
    st.sampled_from(['"grant"', '"consume"', '"refund"', '"gr\\u0061nt"', "1", "null", '"gift"']),
    st.text(max_size=5).map(json.dumps),
)
SPACES = st.sampled_from(["", "", "", " ", "\n", "\t ", "\v", "\xa0", "\ufeff"])


@st.composite
def transaction_bodies(draw: st.DrawFn) -> bytes:
    """Draw a valid or nearly valid createTransaction body."""
    members = [f'"delta"{draw(SPACES)}:{draw(SPACES)}{draw(NUMBERS)}', f'"reason":{draw(SPACES)}{draw(REASONS)}']
    members += draw(st.lists(st.sampled_from(['"delta":1', '"reason":"grant"', '"x":1', '"":"']), max_size=1))
    members = draw(st.permutations(members))[: draw(st.integers(1, 3))]
    text = (
        draw(SPACES) + "{" + ",".join(members) + draw(st.sampled_from(["}", "}", "}", ",}", "", "}}"])) + draw(SPACES)
    )
    return text.encode("utf-8", "surrogatepass")


def decode_result(read: Callable[[], TransactionInput]) -> object:
    """Return the decoded input, or the error type with the fields at fault."""
    try:
        transaction = read()
    except ApiError as error:
        return type(error), tuple(problem.field for problem in error.details)
    return transaction, type(transaction.delta)


def decode_strictly(body: bytes) -> TransactionInput:
    strict_codec: Any = CODEC
    transaction: TransactionInput = strict_codec._decode_strict(codec._parse_object(body))  # pyright: ignore[reportPrivateUsage]
    return transaction


def with_amount_limit(read: Callable[[], TransactionInput]) -> Callable[[], TransactionInput]:
    """Make `read` reject a delta over the limit, as strict decoding does; fast decoding leaves that to the ledger."""

    def decode() -> TransactionInput:
        transaction = read()
        if abs(transaction.delta) > MAX_AMOUNT:
            raise ValidationError("too large", details=(Problem("delta", "is too large"),))
        return transaction

    return decode


@settings(max_examples=300)
@given(body=transaction_bodies() | st.binary(max_size=50))
@example(b'{"delta":10.00000000000000000001,"reason":"grant"}')
@example(b'{"delta":90071992547409911e-1,"reason":"grant"}')
@example(b'{"delta":1e-400,"reason":"grant"}')
@example(b'{"delta":-0.0,"reason":"grant"}')
@example(b'{"delta":1e22,"reason":"grant"}')
@example(b'{"delta":9223372036854775808,"reason":"grant"}')
@example(b'{"delta":1,"delta":2,"reason":"grant"}')
@example(b'{"delta":1,"reason":"\xed\xa0\x80"}')
@example(b'\xef\xbb\xbf{"delta":1,"reason":"grant"}')
@example(b'{"delta":1,"reason":"grant"}\x00')
@example(b'\x0b{"delta":1,"reason":"grant"}')
def test_fast_and_strict_decoding_agree(body: bytes) -> None:
    assert decode_result(with_amount_limit(lambda: CODEC.decode_transaction(body))) == decode_result(
        lambda: decode_strictly(body)
    )


@given(delta=st.integers(-MAX_AMOUNT, MAX_AMOUNT), reason=st.sampled_from(Reason))
def test_transaction_input_round_trips_through_json(delta: int, reason: Reason) -> None:
    for separators in ((",", ":"), (", ", ": ")):
        body = json.dumps({"delta": delta, "reason": reason}, separators=separators).encode()
        assert CODEC.decode_transaction(body) == TransactionInput(delta, reason)


def test_validation_lists_all_problems_up_to_20() -> None:
    body = json.dumps({"delta": "1", "reason": 1, **{f"x{number}": 0 for number in range(50)}}).encode()
    with pytest.raises(ValidationError) as caught:
        CODEC.decode_transaction(body)
    assert [problem.field for problem in caught.value.details[:3]] == ["delta", "reason", "x0"]
    assert len(caught.value.details) == 20


def test_duplicate_member_among_thousands_is_named() -> None:
    names = [f'"{number:x}":0' for number in range(8_000)]
    with pytest.raises(MalformedJson, match="'1f3f' twice"):
        CODEC.decode_transaction(("{" + ",".join([*names, names[-1]]) + "}").encode())


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(application=TEXTS, user=TEXTS, at_ms=st.integers(0, 253_402_300_799_999))
def test_user_with_any_ids_encodes_as_json(application: str, user: str, at_ms: int) -> None:
    body = json.loads(CODEC.encode_user(Account(application, user, at_ms)))
    assert list(body) == ["applicationId", "userId", "createdAt"]
    assert (body["applicationId"], body["userId"]) == (application, user)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("plain", b'{"delta":5,"reason":"grant","createdAt":"1970-01-01T00:00:00.000Z"}'),
        ("id", b'{"delta":5,"reason":"grant","createdAt":"1970-01-01T00:00:00.000Z","id":"txn_1"}'),
        ("balance", b'{"delta":5,"reason":"grant","createdAt":"1970-01-01T00:00:00.000Z","balance":9}'),
        ("wrapped", b'{"transaction":{"delta":5,"reason":"grant","createdAt":"1970-01-01T00:00:00.000Z"}}'),
        ("empty", b""),
    ],
)
def test_created_transaction_encodes_in_each_configured_form(form: Any, expected: bytes) -> None:
    codec = Codec(replace(DEFAULT_CONTRACT, created_transaction=form))
    assert codec.encode_transaction(LedgerEntry(5, Reason.GRANT, 0, 9), 0) == expected


@pytest.mark.parametrize(
    ("end", "trailer"), [("absent", b""), ("null", b',"nextCursor":null'), ("empty", b',"nextCursor":""')]
)
def test_end_of_list_encodes_in_each_configured_form(end: Any, trailer: bytes) -> None:
    codec = Codec(replace(DEFAULT_CONTRACT, end_of_list=end))
    assert codec.encode_user_page([], None) == b'{"users":[]' + trailer + b"}"
    assert codec.encode_user_page([], "c") == b'{"users":[],"nextCursor":"c"}'


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("iso_ms", b'"1970-01-01T00:00:01.999Z"'),
        ("iso_s", b'"1970-01-01T00:00:01Z"'),
        ("unix_s", b"1"),
        ("unix_ms", b"1999"),
    ],
)
def test_created_at_encodes_in_each_configured_form(form: Any, value: bytes) -> None:
    codec = Codec(replace(DEFAULT_CONTRACT, created_at=form))
    assert b'"createdAt":' + value in codec.encode_user(Account("a", "u", 1999))


def test_field_names_can_be_renamed() -> None:
    codec = Codec(replace(DEFAULT_CONTRACT, field_names={"delta": "amount", "reason": "kind", "balance": "credits"}))
    assert codec.decode_transaction(b'{"amount":1,"kind":"grant"}') == TransactionInput(1, Reason.GRANT)
    assert codec.encode_balance(5) == b'{"credits":5}'
    with pytest.raises(ValidationError, match="amount is missing"):
        codec.decode_transaction(b'{"delta":1,"kind":"grant"}')
