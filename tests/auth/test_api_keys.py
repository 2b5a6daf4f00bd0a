"""API keys: how they look, and how they are compared."""

from fake_credits.auth.api_keys import API_KEY_PREFIX, new_api_key, same_key


def test_a_key_says_that_it_is_fake() -> None:
    assert new_api_key().startswith(API_KEY_PREFIX)


def test_no_two_keys_are_the_same() -> None:
    assert len({new_api_key() for _ in range(100)}) == 100


def test_a_key_is_the_same_as_itself_only() -> None:
    key = new_api_key()
    assert same_key(key, key)
    assert not same_key(key, key[:-1])
    assert not same_key(key, "")


def test_keys_outside_ascii_are_compared_too() -> None:
    assert same_key("clé-ÿ", "clé-ÿ")
    assert not same_key("clé-ÿ", "cle-y")
    assert not same_key("\ud800", "?")
