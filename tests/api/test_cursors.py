"""Cursors: what goes in comes out, for the same list and the same key only."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_credits.api.codec import decode_cursor, encode_cursor
from fake_credits.errors import InvalidCursor

KEY = bytes(range(16))
POSITIONS = st.integers(0, 2**48 - 1)
SCOPES = st.tuples(st.text(max_size=10), st.text(max_size=10), st.text(max_size=10))


@given(scope=SCOPES, position=POSITIONS)
def test_a_cursor_opens_to_its_position(scope: tuple[str, ...], position: int) -> None:
    assert decode_cursor(KEY, scope, encode_cursor(KEY, scope, position)) == position


@given(one=SCOPES, other=SCOPES, position=POSITIONS)
def test_it_opens_in_its_own_list_only(one: tuple[str, ...], other: tuple[str, ...], position: int) -> None:
    cursor = encode_cursor(KEY, one, position)
    if one != other:
        with pytest.raises(InvalidCursor):
            decode_cursor(KEY, other, cursor)


@pytest.mark.parametrize("other", [("a", "bc", ""), ("ab", "", "c"), ("ab", "c"), ("abc",), ("", "ab", "c")])
def test_scopes_that_join_to_the_same_text_differ(other: tuple[str, ...]) -> None:
    with pytest.raises(InvalidCursor):
        decode_cursor(KEY, other, encode_cursor(KEY, ("ab", "c", ""), 1))


@given(scope=SCOPES, position=POSITIONS, key=st.binary(min_size=16, max_size=16))
def test_it_opens_under_its_own_key_only(scope: tuple[str, ...], position: int, key: bytes) -> None:
    if key != KEY:
        with pytest.raises(InvalidCursor):
            decode_cursor(key, scope, encode_cursor(KEY, scope, position))


@given(scope=SCOPES, text=st.text(max_size=40) | st.from_regex(r"[A-Za-z0-9_-]{24}=?", fullmatch=True))
def test_nothing_else_opens(scope: tuple[str, ...], text: str) -> None:
    with pytest.raises(InvalidCursor):
        decode_cursor(KEY, scope, text)


@given(position=POSITIONS, at=st.integers(0, 23), char=st.characters(codec="ascii"))
def test_any_other_text_is_another_cursor(position: int, at: int, char: str) -> None:
    """Base64 has several texts for some bytes; a cursor has one."""
    scope = ("listUsers", "app-id", "")
    cursor = encode_cursor(KEY, scope, position)
    changed = cursor[:at] + char + cursor[at + 1 :]
    if changed != cursor:
        with pytest.raises(InvalidCursor):
            decode_cursor(KEY, scope, changed)


@given(scope=SCOPES, position=POSITIONS)
def test_a_cursor_needs_no_encoding_in_a_query(scope: tuple[str, ...], position: int) -> None:
    cursor = encode_cursor(KEY, scope, position)
    assert len(cursor) == 24
    assert cursor.replace("-", "").replace("_", "").isalnum()
