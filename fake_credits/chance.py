"""Own randomness: keyed draws, which are pure functions, and the one place that asks the operating system for bytes.

It knows nothing of what is drawn.
"""

import hashlib
import secrets

__all__ = ["draw", "fresh_bytes", "fresh_name"]


def draw(seed: int, *key: str | int) -> float:
    """Return the number from 0 up to 1 that belongs to a seed and a key, the same everywhere and always.

    Keys don't run into one another: each part goes in with its kind and length.
    """
    parts: list[bytes] = []
    for part in (seed, *key):
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else b"%d" % part
        parts.append(b"%c%d:%b" % (b"s" if isinstance(part, str) else b"i", len(data), data))
    digest = hashlib.blake2b(b"".join(parts), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53  # 53 bits: a division by 2**64 can round to 1.0


def fresh_bytes(count: int) -> bytes:
    """Return ``count`` unpredictable bytes, for keys that live as long as the process."""
    return secrets.token_bytes(count)


def fresh_name(prefix: str, size: int = 16) -> str:
    """Return ``prefix`` and ``size`` unpredictable bytes in hexadecimal: an API key, a token's id."""
    return prefix + secrets.token_hex(size)
