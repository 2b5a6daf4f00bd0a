"""Test formatting text for display: masking secrets, escaping, truncating and aligning columns."""

import pytest

from fake_credits.text import align_columns, escape_control, mask_query, mask_url, redact, short_repr, truncate


def test_redact_replaces_api_keys_and_tokens() -> None:
    text = "a secret-key b eyJh.eyJz.c-_2 c"
    assert redact(text, "secret-key") == "a <api key> b <token> c"
    assert redact("plain", "") == "plain"


def test_escape_control_escapes_control_characters() -> None:
    assert escape_control("a\x1b[2J\u202e\n✓") == r"a\x1b[2J\u202e\n✓"


def test_truncate_cuts_long_text_with_ellipsis() -> None:
    assert truncate("x" * 48) == "x" * 48
    assert truncate("x" * 49) == "x" * 47 + "…"


def test_short_repr_is_printable_and_at_most_80_characters() -> None:
    assert short_repr("é\n") == r"'é\n'"
    assert len(short_repr("x" * 1000)) == 80
    assert short_repr(10**400) == "an integer of 1329 bits"


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert align_columns([["#", "user", ""], ["10", "ada", "x"]]) == ["#   user", "10  ada   x"]


@pytest.mark.parametrize(
    ("target", "masked"),
    [
        (b"/users", b"/users"),
        (b"/users?", b"/users?"),
        (b"/users?api_key", b"/users?api_key"),
        (b"/users?cursor=a&limit=5", b"/users?cursor=a&limit=5"),
        (b"/key=a?x=b", b"/key=a?x=b"),
        (b"/u?api_key=S&x=1", b"/u?api_key=***&x=1"),
        (b"/u?sig=S&pwd=S&sessionId=S&design=1", b"/u?sig=***&pwd=***&sessionId=***&design=1"),
        (b"/u?API-Key=S=S", b"/u?API-Key=***"),
        (b"/u?api%5Fkey=S", b"/u?api%5Fkey=***"),
        (b"/u?%61ccess_token=S?S", b"/u?%61ccess_token=***"),
        (b"/u?a=1&password=S&client_secret=S&jwt=S", b"/u?a=1&password=***&client_secret=***&jwt=***"),
        (b"/u?Authorization=Bearer%20S&key=", b"/u?Authorization=***&key=***"),
        (b"/u?page_token=a&token=S", b"/u?page_token=a&token=***"),
        (b"/u?\xffkey=S", b"/u?\xffkey=***"),
    ],
    ids=str,
)
def test_mask_query_replaces_values_that_may_be_secrets(target: bytes, masked: bytes) -> None:
    assert mask_query(target, ("page_token",)) == masked


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("https://credits.internal/api", "https://credits.internal/api"),
        ("https://credits.internal/?k=SECRET#SECRET", "https://credits.internal/?***"),
        ("https://credits.internal#SECRET", "https://credits.internal#***"),
        ("https://me:SECRET@credits.internal/?k=SECRET@", "https://***@credits.internal/?***"),
        ("https://me:SEC/RET@credits.internal", "https://***@credits.internal"),
        ("me:SECRET@credits.internal\n", "***@credits.internal\n"),
        ("SECRET\n@h?\nSECRET", "***@h?***"),
        ("", ""),
        ("?", "?"),
    ],
)
def test_mask_url_replaces_user_information_query_and_fragment(url: str, masked: str) -> None:
    assert mask_url(url) == masked
