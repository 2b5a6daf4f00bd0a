"""Test that the list of reasons behind a refused credential is complete."""

import re
from pathlib import Path

import fake_credits
from fake_credits.auth.whys import AUTH_WHYS

SOURCES = [file.read_text(encoding="utf-8") for file in Path(fake_credits.__file__).parent.rglob("*.py")]
MADE = {
    "duplicate_{what}_member": ("duplicate_header_member", "duplicate_payload_member"),
    "malformed_{what}": ("malformed_header", "malformed_payload"),
    "malformed_{name}": ("malformed_exp", "malformed_iat", "malformed_nbf"),
}
FOUND = ("no_credential", "unsupported_scheme", "empty")
"""What the reader of credentials finds, and hands over under a name."""


def test_every_reason_of_the_code_is_listed_and_no_other() -> None:
    given = {why for source in SOURCES for why in re.findall(r'why=f?"([^"]+)"', source)}
    assert {why for why in given if "{" in why} == set(MADE)
    plain = {why for why in given if "{" not in why}
    assert plain | {why for whys in MADE.values() for why in whys} | set(FOUND) == set(AUTH_WHYS)


def test_what_the_reader_finds_stands_in_its_table() -> None:
    from fake_credits.auth import credentials

    table: dict[str, str] = vars(credentials)["_MISSED"]
    assert set(table) == set(FOUND)


def test_they_are_sorted() -> None:
    assert sorted(AUTH_WHYS) == list(AUTH_WHYS)
