"""Cursors decode only for the same list and the same key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_credits.api.codec import decode_cursor, encode_cursor
from fake_credits.errors import InvalidCursor

KEY = bytes(range(16))
POSITIONS = st.integers(0, 2**48 - 1)
SCOPES = st.tuples(st.text(max_size=10), st.text(max_size=10), st.text(max_size=10))


@given(scope=SCOPES, position=POSITIONS)
def test_cursor_decodes_to_its_position(scope: tuple[str, ...], position: int) -> None:
    assert decode_cursor(KEY, scope, encode_cursor(KEY, scope, position)) == position


@given(scope=SCOPES, other=SCOPES, position=POSITIONS)
def test_cursor_is_rejected_in_another_scope(scope: tuple[str, ...], other: tuple[str, ...], position: int) -> None:
    cursor = encode_cursor(KEY, scope, position)
    if scope != other:
        with pytest.raises(InvalidCursor):
            decode_cursor(KEY, other, cursor)


@pytest.mark.parametrize("other", [("a", "bc", ""), ("ab", "", "c"), ("ab", "c"), ("abc",), ("", "ab", "c")])
def test_scopes_joining_to_same_text_are_distinct(other: tuple[str, ...]) -> None:
    with pytest.raises(InvalidCursor):
        decode_cursor(KEY, other, encode_cursor(KEY, ("ab", "c", ""), 1))


@given(scope=SCOPES, position=POSITIONS, key=st.binary(min_size=16, max_size=16))
def test_cursor_is_rejected_under_another_key(scope: tuple[str, ...], position: int, key: bytes) -> None:
    if key != KEY:
        with pytest.raises(InvalidCursor):
            decode_cursor(key, scope, encode_cursor(KEY, scope, position))


@given(scope=SCOPES, text=st.text(max_size=40) | st.from_regex(r"[A-Za-z0-9_-]{24}=?", fullmatch=True))
def test_arbitrary_text_is_rejected(scope: tuple[str, ...], text: str) -> None:
    with pytest.raises(InvalidCursor):
        decode_cursor(KEY, scope, text)


@given(position=POSITIONS, index=st.integers(0, 23), char=st.characters(codec="ascii"))
def test_cursor_with_any_changed_character_is_rejected(position: int, index: int, char: str) -> None:
    """Base64 can encode the same bytes in several ways, but only one of them is a valid cursor."""
    scope = ("listUsers", "app-id", "")
    cursor = encode_cursor(KEY, scope, position)
    changed = cursor[:index] + char + cursor[index + 1 :]
    if changed != cursor:
        with pytest.raises(InvalidCursor):
            decode_cursor(KEY, scope, changed)


@given(scope=SCOPES, position=POSITIONS)
def test_cursor_needs_no_url_encoding(scope: tuple[str, ...], position: int) -> None:
    cursor = encode_cursor(KEY, scope, position)
    assert len(cursor) == 24
    assert cursor.replace("-", "").replace("_", "").isalnum()
