"""How an API key looks, and how two are compared. Importing it loads little: the pytest plugin needs keys early."""

import hmac

from fake_credits.keyed_random import random_name

__all__ = ["API_KEY_PREFIX", "api_keys_equal", "new_api_key"]

API_KEY_PREFIX = "fake_credits_key_"
"""What a made-up key starts with, so that a secret scanner or a reader sees at once that it opens nothing real."""


def new_api_key() -> str:
    """Return a fresh, unpredictable API key that says in its first characters that it is a fake."""
    return random_name(API_KEY_PREFIX)


def api_keys_equal(a: str, b: str) -> bool:
    """Tell whether two API keys are the same, in a time that does not depend on where they differ."""
    return hmac.compare_digest(a.encode(errors="surrogatepass"), b.encode(errors="surrogatepass"))
