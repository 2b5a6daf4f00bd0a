"""Generated user ids: the formats of auth providers, unusual characters, and uniqueness."""

import re
import sys

import pytest

from fake_credits.contract import DEFAULT_CONTRACT, id_problem
from fake_credits.keyed_random import keyed_generator
from fake_credits.worlds.generator import ID_BITS, ID_SHAPES, IdGenerator
from fake_credits.worlds.world import WorldError

ID_PATTERNS = {
    "clerk": r"user_[0-9A-Za-z]{27}",
    "e-mail": r"[a-z'-]+\.[a-z'-]+\d+@(mail\.)?example\.(com|org|net)",
    "auth0": r"auth0\|[0-9a-f]{24}",
    "odd": r".+",
    "firebase": r"[0-9A-Za-z]{28}",
    "cognito": r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    "google": r"google-oauth2\|\d{21}",
    "workos": r"user_01[0-9A-HJKMNP-TV-Z]{24}",
    "name": r"[a-z'-]+_[a-z'-]+_\d+",
}


def generate_ids(generator: IdGenerator, count: int) -> list[str]:
    return [
        generator.user_id(ordinal, keyed_generator(0, "test", ordinal).getrandbits(ID_BITS)) for ordinal in range(count)
    ]


def test_ids_cycle_through_the_provider_formats() -> None:
    """`ID_PATTERNS` has the documented format of each provider."""
    assert list(ID_PATTERNS) == list(ID_SHAPES)
    for ordinal, user_id in enumerate(generate_ids(IdGenerator(0), 900)):
        assert re.fullmatch(list(ID_PATTERNS.values())[ordinal % len(ID_PATTERNS)], user_id), user_id


def test_unusual_ids_cover_special_characters() -> None:
    unusual_ids = generate_ids(IdGenerator(0), 900)[3 :: len(ID_SHAPES)]
    for pattern in (r" ", r"/", r"%", r"'", r"^\d+$", r"[^\x00-\x7f]", r"\+"):
        assert any(re.search(pattern, user_id) for user_id in unusual_ids), pattern


def test_ids_are_unique_and_valid_under_the_default_contract() -> None:
    user_ids = generate_ids(IdGenerator(0), 20_000)
    assert len(set(user_ids)) == len(user_ids)
    assert not any(id_problem(DEFAULT_CONTRACT, user_id) for user_id in user_ids)


def test_ids_depend_only_on_the_seed() -> None:
    assert generate_ids(IdGenerator(1), 50) == generate_ids(IdGenerator(1), 50)
    assert generate_ids(IdGenerator(1), 50) != generate_ids(IdGenerator(2), 50)


def test_missing_faker_error_has_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faker", None)
    with pytest.raises(WorldError, match=r"pip install 'fake-credits\[demo\]'"):
        IdGenerator(0)
