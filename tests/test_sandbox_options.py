"""Test API keys: generating and comparing them."""

from fake_credits.sandbox_options import API_KEY_PREFIX, api_keys_equal, new_api_key


def test_api_key_has_the_fake_prefix() -> None:
    assert new_api_key().startswith(API_KEY_PREFIX)


def test_new_api_keys_are_unique() -> None:
    assert len({new_api_key() for _ in range(100)}) == 100


def test_api_keys_equal_compares_whole_keys() -> None:
    key = new_api_key()
    assert api_keys_equal(key, key)
    assert not api_keys_equal(key, key[:-1])
    assert not api_keys_equal(key, "")


def test_api_keys_equal_handles_non_ascii() -> None:
    assert api_keys_equal("clé-ÿ", "clé-ÿ")
    assert not api_keys_equal("clé-ÿ", "cle-y")
    assert not api_keys_equal("\ud800", "?")
