"""Random numbers: reproducible ones that depend only on a seed and a key, and unpredictable ones for secrets.

This is the only module that reads the operating system's source of randomness.
"""

import hashlib
import os
import random


def keyed_random(seed: int, *key: str | int) -> float:
    """Return a pseudorandom number in [0, 1) for a seed and a key, the same on every platform and Python version."""
    digest = hashlib.blake2b(_encode_key(seed, *key), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53  # 53 bits, because a 64-bit int / 2**64 can round to 1.0


def keyed_generator(seed: int, *key: str | int) -> random.Random:
    """Return a random number generator for a seed and a key, the same on every platform and Python version.

    Use only ``random()`` and ``getrandbits()``: the results of other methods can change between Python versions.
    """
    digest = hashlib.blake2b(_encode_key(seed, *key), digest_size=16).digest()
    return random.Random(int.from_bytes(digest, "big"))  # noqa: S311 - not used for secrets


def _encode_key(*parts: str | int) -> bytes:
    """Return an unambiguous encoding of a key: each part is preceded by its type and length."""
    encoded: list[bytes] = []
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else b"%d" % part
        encoded.append(b"%c%d:%b" % (b"s" if isinstance(part, str) else b"i", len(data), data))
    return b"".join(encoded)


def random_bytes(count: int) -> bytes:
    """Return ``count`` unpredictable bytes from the operating system."""
    return os.urandom(count)


def random_name(prefix: str, byte_count: int = 16) -> str:
    """Return ``prefix`` followed by ``byte_count`` unpredictable bytes in hexadecimal, for example for an API key."""
    return prefix + os.urandom(byte_count).hex()
