"""Test how a client's text is shown: without secrets, printable, cut."""

from fake_credits.sandbox.asserting.showing import printable, short, without_secrets


def test_api_keys_and_tokens_are_replaced_wherever_they_stand() -> None:
    text = "a secret-key b eyJh.eyJz.c-_2 c"
    assert without_secrets(text, "secret-key") == "a <api key> b <token> c"
    assert without_secrets("plain", "") == "plain"


def test_what_moves_a_cursor_is_escaped() -> None:
    assert printable("a\x1b[2J\u202e\n✓") == r"a\x1b[2J\u202e\n✓"


def test_a_long_cell_is_cut_with_a_mark() -> None:
    assert short("x" * 48) == "x" * 48
    assert short("x" * 49) == "x" * 47 + "…"
