"""Own randomness: keyed draws, which are pure functions, and the one place that asks the operating system for bytes.

It knows nothing of what is drawn.
"""

import hashlib
import random
import secrets

__all__ = ["keyed_generator", "keyed_random", "random_bytes", "random_name"]


def keyed_random(seed: int, *key: str | int) -> float:
    """Return the number from 0 up to 1 that belongs to a seed and a key, the same everywhere and always."""
    digest = hashlib.blake2b(_encode_key(seed, *key), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53  # 53 bits: a division by 2**64 can round to 1.0


def keyed_generator(seed: int, *key: str | int) -> random.Random:
    """Return a source of many draws that belongs to a seed and a key, the same everywhere and always.

    Draw with ``random()`` and ``getrandbits()`` alone: the other methods' results have changed between versions.
    """
    digest = hashlib.blake2b(_encode_key(seed, *key), digest_size=16).digest()
    return random.Random(int.from_bytes(digest, "big"))  # noqa: S311 - what nobody is to guess is fresh


def _encode_key(*parts: str | int) -> bytes:
    """Return a key as bytes that no other key has: each part goes in with its kind and length."""
    encoded: list[bytes] = []
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else b"%d" % part
        encoded.append(b"%c%d:%b" % (b"s" if isinstance(part, str) else b"i", len(data), data))
    return b"".join(encoded)


def random_bytes(count: int) -> bytes:
    """Return ``count`` unpredictable bytes, for keys that live as long as the process."""
    return secrets.token_bytes(count)


def random_name(prefix: str, byte_count: int = 16) -> str:
    """Return ``prefix`` and ``size`` unpredictable bytes in hexadecimal: an API key, a token's id."""
    return prefix + secrets.token_hex(byte_count)
