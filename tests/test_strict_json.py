"""Test the strict JSON reader: anything that RFC 8259 does not allow raises an error that says what is wrong."""

import pytest

from fake_credits.strict_json import JsonError, parse_json


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the body is empty"),
        (b"\xef\xbb\xbf{}", "starts with a byte order mark"),
        (b"{", "is not valid JSON"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": 1e999}', "'1e999' is not a JSON number"),
        (b'{"a": 1, "a": 2}', "has the member 'a' twice"),
        (b'{"a": "\\ud800"}', "has a lone surrogate"),
        (b'{"a": "\xff"}', "is not valid UTF-8"),
        (b"[" * 100_000, "is nested too deeply"),
        (b"9" * 5000, "an integer must have at most 1000 digits, not 5000"),
    ],
)
def test_text_that_is_not_strict_json_is_rejected(data: bytes, message: str) -> None:
    with pytest.raises(JsonError, match=message):
        parse_json(data)


def test_nesting_over_the_limit_is_rejected() -> None:
    assert parse_json(b"[[[]]]", max_depth=2) == [[[]]]
    with pytest.raises(JsonError, match="is nested more than 1 levels deep"):
        parse_json(b"[[[]]]", max_depth=1)
