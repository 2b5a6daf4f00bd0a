"""The keys that issuers sign tokens with, either read from files or generated here.

PyJWT and `cryptography` take 35 ms to import, so functions import them, and msgspec, on first use.
"""

import hashlib
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, cast

from fake_credits.strict_json import JsonError, parse_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from jwt.algorithms import Algorithm

    PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
    PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

SigningAlgorithm = Literal["ES256", "RS256"]
"""The algorithms that the fake signs with; a foreign issuer may use any of `VERIFYING_ALGORITHMS`."""

VERIFYING_ALGORITHMS: Final = ("ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512")
"""Every algorithm whose signatures can be verified (RFC 7518, section 3); symmetric ones and ``none`` are excluded."""

_PEM_LABEL = "[A-Z ]*PRIVATE KEY-----"
_PRIVATE_PEM_BLOCK = re.compile(rf"-----BEGIN {_PEM_LABEL}.*?(?:-----END {_PEM_LABEL}|\Z)", re.DOTALL)
_MAX_KEY_FILE_BYTES = 1024 * 1024


@cache
def _jwt_algorithm(name: str) -> "Algorithm":
    from jwt.algorithms import get_default_algorithms

    return get_default_algorithms()[name]


def _mismatch(algorithm: str, key: object) -> str | None:
    """Return why a key's type, curve or size doesn't suit an algorithm, or None if it does (RFC 7518, 3.3 to 3.5)."""
    from jwt.exceptions import InvalidKeyError

    jwt_algorithm = _jwt_algorithm(algorithm)
    try:
        return jwt_algorithm.check_key_length(jwt_algorithm.prepare_key(key))
    except (InvalidKeyError, TypeError) as error:
        return str(error)


def _algorithm_of(key: object, *choices: str) -> str:
    for algorithm in choices:
        if not _mismatch(algorithm, key):
            return algorithm
    raise ValueError(
        f"the key ({type(key).__name__}) suits none of the algorithms {', '.join(choices)} "
        "(RSA keys need at least 2,048 bits)"
    )


def _public_pem(key: "PublicKey") -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@dataclass(frozen=True, slots=True, eq=False)
class VerifyingKey:
    """A public key that an issuer publishes for one algorithm; instances are compared by identity.

    Raises ValueError for an algorithm outside `VERIFYING_ALGORITHMS` and for a key that doesn't suit the algorithm.
    """

    kid: str
    algorithm: str
    key: "PublicKey" = field(repr=False)

    def __post_init__(self) -> None:
        if self.algorithm not in VERIFYING_ALGORITHMS:
            raise ValueError(f"unknown algorithm {self.algorithm} (known: {', '.join(VERIFYING_ALGORITHMS)})")
        if problem := _mismatch(self.algorithm, self.key):
            raise ValueError(problem)

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Return whether ``signature`` is a valid signature of ``message`` by this key."""
        return _jwt_algorithm(self.algorithm).verify(message, self.key, signature)

    def jwk(self) -> dict[str, str]:
        """Return the key as a public JWK (RFC 7517): ``kty``, ``use``, ``alg``, ``kid`` and the type's own members."""
        members = _jwt_algorithm(self.algorithm).to_jwk(self.key, as_dict=True)
        members.pop("key_ops", None)  # RFC 7517, section 4.3: not together with "use"
        return {"kty": members["kty"], "use": "sig", "alg": self.algorithm, "kid": self.kid, **members}

    def pem(self) -> str:
        """Return the key in PEM format (SubjectPublicKeyInfo)."""
        return _public_pem(self.key)


@dataclass(frozen=True, slots=True, eq=False)
class SigningKey(VerifyingKey):
    """A public key with its private key, which the repr never shows."""

    _private_key: "PrivateKey" = field(repr=False)

    def sign(self, message: bytes) -> bytes:
        """Return the signature for ``message``, in the format defined in RFC 7518, section 3."""
        return _jwt_algorithm(self.algorithm).sign(message, self._private_key)


class KeySet:
    """An issuer's public keys.

    With ``any_kid``, there is a single key without an id, which matches every ``kid``.
    """

    def __init__(self, keys: Iterable[VerifyingKey] = (), *, any_kid: bool = False) -> None:
        self._by_kid: Mapping[str, VerifyingKey] = {key.kid: key for key in keys}  # never modified, only replaced
        self._any_kid = any_kid

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self._by_kid)} published>"

    def find(self, kid: str) -> VerifyingKey | None:
        """Return the published key with exactly this id, or None."""
        return self._by_kid.get("" if self._any_kid else kid)

    def published_keys(self) -> tuple[VerifyingKey, ...]:
        """Return all published keys, oldest first, without generating any."""
        return tuple(self._by_kid.values())


class SigningKeys(KeySet):
    """A server's signing keys, which are generated on first use; thread-safe.

    Nothing is stored or built in: a private key lives as long as this object. Two processes with the same
    ``private_pem`` (see `new_private_pem`) sign with the same keys. Raises ValueError if ``private_pem`` contains no
    private key, or one that is truncated or unusable: a newly generated key in its place would sign tokens that no
    other server accepts.
    """

    def __init__(self, private_pem: str | None = None) -> None:
        super().__init__()
        self._lock = threading.RLock()
        self._current_keys: Mapping[SigningAlgorithm, SigningKey] = {}
        if private_pem is None:
            return
        blocks = _PRIVATE_PEM_BLOCK.findall(private_pem)
        if not blocks:
            raise ValueError("it has no PEM private key (RFC 7468)")
        for block in blocks:
            self._install(*_load_private_key(block))

    def current_key(self, algorithm: SigningAlgorithm) -> SigningKey:
        """Return the current signing key, generated if necessary (P-256: 0.01 ms, RSA-2048: about 40 ms)."""
        key = self._current_keys.get(algorithm)
        if key is not None:
            return key
        with self._lock:
            return self._current_keys.get(algorithm) or self._install(algorithm)

    def jwks(self, algorithms: Iterable[SigningAlgorithm] = ("ES256",)) -> dict[str, list[dict[str, str]]]:
        """Return a JWK Set of the public keys (RFC 7517, section 5), with at least one key for each of ``algorithms``.

        Pass ``RS256`` only if an issuer uses it, because that key takes about 40 ms to generate.
        """
        for algorithm in algorithms:
            self.current_key(algorithm)
        return {"keys": [key.jwk() for key in self.published_keys()]}

    def _install(self, algorithm: SigningAlgorithm, private_key: "PrivateKey | None" = None) -> SigningKey:
        private_key = private_key or _generate_private_key(algorithm)
        public_key = private_key.public_key()
        thumbprint = hashlib.sha256(_public_pem(public_key).encode()).hexdigest()[:16]  # the same in every process
        key = SigningKey(f"fake-{algorithm.lower()}-{thumbprint}", algorithm, public_key, private_key)
        self._by_kid = {**self._by_kid, key.kid: key}
        self._current_keys = {**self._current_keys, algorithm: key}
        return key


def _generate_private_key(algorithm: SigningAlgorithm) -> "PrivateKey":
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _load_private_key(pem: str) -> "tuple[SigningAlgorithm, PrivateKey]":
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except ValueError:
        raise ValueError("it has a PEM private key (RFC 7468) that is damaged or truncated") from None
    return cast("SigningAlgorithm", _algorithm_of(key, "ES256", "RS256")), cast("PrivateKey", key)


def new_private_pem() -> str:
    """Return a new private key for each signing algorithm, in PEM format (PKCS #8, unencrypted)."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    keys = [_generate_private_key("ES256"), _generate_private_key("RS256")]
    return "".join(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode() for key in keys)


def read_key_file(path: Path) -> KeySet:
    """Return the public keys in a file: a JWK Set (RFC 7517), or a single key or certificate in PEM format.

    Raises OSError if the file can't be read, and ValueError if it contains no usable key, or a private or symmetric
    one.
    """
    with path.open("rb") as file:
        content = file.read(_MAX_KEY_FILE_BYTES + 1)
    if len(content) > _MAX_KEY_FILE_BYTES:
        raise ValueError(f"the file is larger than {_MAX_KEY_FILE_BYTES} bytes")
    if b"PRIVATE KEY" in content:
        raise ValueError("the file contains a private key: use a file with only public keys")
    return KeySet([_key_from_pem(content)], any_kid=True) if b"-----BEGIN" in content else key_set_from_jwks(content)


def _key_from_pem(content: bytes) -> VerifyingKey:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    is_certificate = b"BEGIN CERTIFICATE" in content
    key = x509.load_pem_x509_certificate(content).public_key() if is_certificate else load_pem_public_key(content)
    return VerifyingKey("", _algorithm_of(key, "RS256", "ES256", "ES384", "ES512"), cast("PublicKey", key))


class _JwkSet(TypedDict):
    keys: list[dict[str, Any]]


def key_set_from_jwks(content: bytes) -> KeySet:
    """Return a JWK Set's keys for verifying signatures; raise ValueError if one isn't a usable public key."""
    import msgspec

    try:
        jwks = msgspec.convert(parse_json(content, max_depth=32), _JwkSet)["keys"]
    except (JsonError, msgspec.ValidationError):
        raise ValueError('the file is neither PEM nor a JWK Set: {"keys": [...]}') from None
    keys = [_key_from_jwk(number, jwk) for number, jwk in enumerate(jwks) if _can_verify(number, jwk)]
    key_set = KeySet(keys)
    if not keys or len(key_set.published_keys()) < len(keys):
        raise ValueError(
            "the file contains no signing key" if not keys else "the file contains two keys with the same kid"
        )
    return key_set


def _can_verify(number: int, members: dict[str, Any]) -> bool:
    """Return whether a key's ``use`` and ``key_ops`` allow it to verify (RFC 7517, sections 4.2 and 4.3)."""
    operations = members.get("key_ops", ["verify"])
    if not isinstance(operations, list):
        raise ValueError(f"keys[{number}] has key_ops that are not a list: {operations!r}")
    return members.get("use", "sig") == "sig" and "verify" in operations


def _key_from_jwk(number: int, members: dict[str, Any]) -> VerifyingKey:
    from jwt import PyJWK
    from jwt.exceptions import PyJWTError

    if "d" in members or members.get("kty") == "oct":
        raise ValueError(f"keys[{number}] is a {'private' if 'd' in members else 'symmetric'} key, not a public one")
    kid = members.get("kid") or ""
    if not isinstance(kid, str):
        raise ValueError(f"keys[{number}] has a kid that is not a string: {kid!r}")
    try:
        key = PyJWK(members)
        return VerifyingKey(kid, key.algorithm_name, key.key)
    except (PyJWTError, ValueError, TypeError) as error:
        raise ValueError(f"keys[{number}] is not a valid key: {error}") from None
