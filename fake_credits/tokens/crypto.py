"""Own the cryptography: PyJWT's algorithms over the keys of `cryptography`; know nothing of ids, tokens or issuers.

Both cost 35 ms to import, so `fake_credits.tokens.keys` loads this module when the first key is made or used.
"""

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from jwt.algorithms import Algorithm, get_default_algorithms
from jwt.exceptions import InvalidKeyError

__all__ = [
    "JWT_ALGORITHMS",
    "PrivateKey",
    "PublicKey",
    "generate_private_key",
    "key_mismatch_reason",
    "key_thumbprint",
    "load_private_key",
    "private_key_to_pem",
    "public_jwk_members",
    "public_key_to_pem",
]

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

JWT_ALGORITHMS: Final[Mapping[str, Algorithm]] = MappingProxyType(get_default_algorithms())
"""PyJWT's algorithms by name; which of them may be used is `fake_credits.tokens.keys`' to say."""


def key_mismatch_reason(algorithm: str, key: PublicKey) -> str:
    """Tell why a key can't be one of an algorithm: its type, curve or size; an empty string where it can."""
    jwt_algorithm = JWT_ALGORITHMS[algorithm]
    try:
        return jwt_algorithm.check_key_length(jwt_algorithm.prepare_key(key)) or ""
    except (InvalidKeyError, TypeError, ValueError) as error:
        return str(error)


def public_jwk_members(algorithm: str, key: PublicKey) -> dict[str, str]:
    """Return a public key's members of its type, as a JWK has them (RFC 7518, section 6)."""
    members = {name: str(value) for name, value in JWT_ALGORITHMS[algorithm].to_jwk(key, as_dict=True).items()}
    members.pop("key_ops", None)  # RFC 7517, section 4.3: not beside "use"
    return members


def public_key_to_pem(key: PublicKey) -> str:
    """Return a public key as PEM text (SubjectPublicKeyInfo)."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def key_thumbprint(key: PublicKey) -> str:
    """Return 16 hexadecimal digits of a public key itself, so that processes with the same key agree on its id."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()[:16]


def private_key_to_pem(key: PrivateKey) -> str:
    """Return a private key as PEM text (PKCS 8, unencrypted)."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def load_private_key(pem: str) -> tuple[str, PrivateKey]:
    """Return the algorithm that a private key of PEM text signs with, and the key; raise ValueError for any other."""
    key = load_pem_private_key(pem.encode(), password=None)
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= 2048:
        return "RS256", key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return "ES256", key
    raise ValueError("a key is neither P-256 nor RSA of 2,048 bits or more")


def generate_private_key(algorithm: str) -> PrivateKey:
    """Return a fresh private key: P-256 for ES256 (0.01 ms), RSA-2048 for RS256 (about 40 ms)."""
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)
