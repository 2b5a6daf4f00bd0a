"""Users' ids: the shapes of auth providers, odd ones among them, and never one twice."""

import re
import sys

import pytest

from fake_credits.contract import DEFAULT_CONTRACT, id_problem
from fake_credits.keyed_random import keyed_generator
from fake_credits.worlds.generator import ID_BITS, ID_SHAPES, IdGenerator
from fake_credits.worlds.world import WorldError

FORMS = {
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


def ids(people: IdGenerator, count: int) -> list[str]:
    return [
        people.user_id(ordinal, keyed_generator(0, "test", ordinal).getrandbits(ID_BITS)) for ordinal in range(count)
    ]


def test_each_provider_s_shape_has_its_turn() -> None:
    """The forms are those that the providers document; the test's table has one for each shape."""
    assert list(FORMS) == list(ID_SHAPES)
    for ordinal, user_id in enumerate(ids(IdGenerator(0), 900)):
        assert re.fullmatch(list(FORMS.values())[ordinal % len(FORMS)], user_id), user_id


def test_odd_ids_have_blanks_slashes_percents_quotes_digits_alone_and_foreign_letters() -> None:
    odd = ids(IdGenerator(0), 900)[3 :: len(ID_SHAPES)]
    for pattern in (r" ", r"/", r"%", r"'", r"^\d+$", r"[^\x00-\x7f]", r"\+"):
        assert any(re.search(pattern, user_id) for user_id in odd), pattern


def test_no_two_users_have_the_same_id_and_the_default_contract_allows_them_all() -> None:
    found = ids(IdGenerator(0), 20_000)
    assert len(set(found)) == len(found)
    assert not any(id_problem(DEFAULT_CONTRACT, user_id) for user_id in found)


def test_the_same_seed_names_the_same_people_and_another_does_not() -> None:
    assert ids(IdGenerator(1), 50) == ids(IdGenerator(1), 50)
    assert ids(IdGenerator(1), 50) != ids(IdGenerator(2), 50)


def test_without_faker_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faker", None)
    with pytest.raises(WorldError, match=r"pip install 'fake-credits\[demo\]'"):
        IdGenerator(0)
