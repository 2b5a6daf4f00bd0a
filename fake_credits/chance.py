"""Own randomness: the one place that asks the operating system for it; know nothing of what it is used for."""

import secrets

__all__ = ["fresh_bytes", "fresh_name"]


def fresh_bytes(count: int) -> bytes:
    """Return ``count`` unpredictable bytes, for keys that live as long as the process."""
    return secrets.token_bytes(count)


def fresh_name(prefix: str, size: int = 16) -> str:
    """Return ``prefix`` and ``size`` unpredictable bytes in hexadecimal: an API key, a token's id."""
    return prefix + secrets.token_hex(size)
