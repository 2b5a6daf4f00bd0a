"""Test text for display: without secrets, printable, truncated, and aligned in columns."""

from fake_credits.text import align_columns, escape_control, redact, short_repr, truncate


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
