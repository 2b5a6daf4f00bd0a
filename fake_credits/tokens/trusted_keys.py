"""Own the keys of a foreign issuer, such as a real development tenant's: read from a file, never fetched.

A file is a JWK Set (RFC 7517) or one public key or certificate as PEM. It knows nothing of tokens.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from fake_credits.tokens.crypto import PublicKey
from fake_credits.tokens.keys import VERIFYING_ALGORITHMS, VerifyingKey
from fake_credits.tokens.minting import Issuer

__all__ = ["TrustError", "TrustedKeys", "trusted_issuer"]

_MAX_KEY_FILE_BYTES = 1024 * 1024
_ALGORITHM_BY_CURVE = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


class TrustError(ValueError):
    """Report a file of keys that can't be used; the message names the file and the reason."""


class TrustedKeys:
    """Hold the keys of one file. A single PEM key has no id, so it answers to every ``kid``."""

    generation = 0

    def __init__(self, keys: tuple[VerifyingKey, ...], *, without_kid: bool = False) -> None:
        self._keys = keys
        self._without_kid = without_kid

    def __repr__(self) -> str:
        return f"<TrustedKeys: {len(self._keys)}>"

    def find(self, kid: str) -> VerifyingKey | None:
        """Return the key with exactly this id, or None."""
        if self._without_kid:
            return self._keys[0]
        return next((key for key in self._keys if key.kid == kid), None)

    def published_keys(self) -> tuple[VerifyingKey, ...]:
        """Return all keys."""
        return self._keys


def trusted_issuer(url: str, path: str | Path) -> Issuer:
    """Return an issuer that is trusted by the keys in a file; its tokens' ``aud`` is not checked.

    Raises TrustError for a file that can't be read, has no usable key, or has a private or a symmetric one.
    """
    try:
        keys = _read_trusted_keys(Path(path))
    except OSError as error:
        raise TrustError(f"trust of {url!r}: {path}: can't be read: {error.strerror}") from None
    except (ValueError, TypeError, PyJWTError, RecursionError) as error:
        raise TrustError(f"trust of {url!r}: {path}: {error}") from None
    algorithms = tuple(sorted({key.algorithm for key in keys.published_keys()}))
    return Issuer(url, algorithms, keys, audience=None)


def _read_trusted_keys(path: Path) -> TrustedKeys:
    with path.open("rb") as file:
        content = file.read(_MAX_KEY_FILE_BYTES + 1)
    if len(content) > _MAX_KEY_FILE_BYTES:
        raise ValueError(f"is over {_MAX_KEY_FILE_BYTES} bytes")
    if b"PRIVATE KEY" in content:
        raise ValueError("has a private key: only public ones are needed, and a private one should not lie about")
    if b"-----BEGIN" in content:
        return TrustedKeys((_key_from_pem(content),), without_kid=True)
    return TrustedKeys(_keys_from_jwks(content))


def _key_from_pem(content: bytes) -> VerifyingKey:
    is_certificate = b"BEGIN CERTIFICATE" in content
    key = x509.load_pem_x509_certificate(content).public_key() if is_certificate else load_pem_public_key(content)
    if isinstance(key, rsa.RSAPublicKey):
        return VerifyingKey("", "RS256", key)
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _ALGORITHM_BY_CURVE:
        return VerifyingKey("", _ALGORITHM_BY_CURVE[key.curve.name], key)
    raise ValueError(f"has a key of another kind than RSA and P-256, P-384, P-521: {type(key).__name__}")


def _keys_from_jwks(content: bytes) -> tuple[VerifyingKey, ...]:
    try:
        document: object = json.loads(content)
    except ValueError:
        document = None
    members = cast("Mapping[str, object]", document).get("keys") if isinstance(document, dict) else None
    if not isinstance(members, list) or not all(isinstance(jwk, dict) for jwk in cast("list[object]", members)):
        raise ValueError('is neither PEM nor a JWK Set: {"keys": [...]}')
    numbered = enumerate(cast("list[dict[str, object]]", members))
    keys = tuple(_key_from_jwk(number, jwk) for number, jwk in numbered if jwk.get("use", "sig") == "sig")
    kids = [key.kid for key in keys]
    if not keys or len(set(kids)) != len(kids):
        raise ValueError("has no key for signatures" if not keys else "has two keys with the same kid")
    return keys


def _key_from_jwk(number: int, members: dict[str, object]) -> VerifyingKey:
    if "d" in members or members.get("kty") == "oct":
        raise ValueError(f"keys[{number}] is a {'private' if 'd' in members else 'symmetric'} key")
    kid = members.get("kid") or ""
    if not isinstance(kid, str):
        raise ValueError(f"keys[{number}] has a kid that is no string: {kid!r}")
    try:
        key = PyJWK(members)
    except (PyJWTError, ValueError, TypeError) as error:
        raise ValueError(f"keys[{number}] is no key: {error}") from None
    if key.algorithm_name not in VERIFYING_ALGORITHMS:
        raise ValueError(f"keys[{number}] is for {key.algorithm_name}; known are {', '.join(VERIFYING_ALGORITHMS)}")
    public = cast("PublicKey", key.key)
    return VerifyingKey(kid, key.algorithm_name, public)
