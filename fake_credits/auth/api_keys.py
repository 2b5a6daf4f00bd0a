"""Own how an API key looks and is compared; know nothing of which sandbox a key belongs to."""

import hmac

from fake_credits.chance import fresh_name

__all__ = ["API_KEY_PREFIX", "new_api_key", "same_key"]

API_KEY_PREFIX = "fake_credits_key_"
"""What a made-up key starts with, so that a secret scanner or a reader sees at once that it opens nothing real."""


def new_api_key() -> str:
    """Return a fresh, unpredictable API key that says in its first characters that it is a fake."""
    return fresh_name(API_KEY_PREFIX)


def same_key(a: str, b: str) -> bool:
    """Tell whether two API keys are the same, in a time that does not depend on where they differ."""
    return hmac.compare_digest(a.encode(errors="surrogatepass"), b.encode(errors="surrogatepass"))
