"""Own keys: made, rotated, published and used to sign and verify; know nothing of tokens, claims or issuers.

The cryptography is PyJWT's, by the algorithms of RFC 7518 section 3. Symmetric ones and ``none`` are left out, so no
configuration can let them in.
"""

import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, Protocol, cast

if TYPE_CHECKING:
    from fake_credits.tokens.crypto import PrivateKey, PublicKey

__all__ = [
    "VERIFYING_ALGORITHMS",
    "KeySource",
    "SigningAlgorithm",
    "SigningKey",
    "SigningKeys",
    "VerifyingKey",
    "new_private_pem",
]

SigningAlgorithm = Literal["ES256", "RS256"]
"""What this server's own issuers sign with; a foreign issuer may use any of `VERIFYING_ALGORITHMS`."""

_PRIVATE_PEM_BEGIN = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_PRIVATE_PEM_BLOCK = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.+?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL)

VERIFYING_ALGORITHMS: Final = ("ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512")
"""Every signature algorithm that can be verified at all, by its name of RFC 7518."""


@dataclass(frozen=True, slots=True, eq=False)
class VerifyingKey:
    """Be one public key that an issuer publishes; two are equal only where they are the same object."""

    kid: str
    algorithm: str
    key: "PublicKey" = field(repr=False)
    use: str = "sig"

    def mismatch_reason(self, algorithm: str) -> str:
        """Tell why this key may not verify signatures of ``algorithm``; an empty string where it may.

        Its ``use`` is for signatures (RFC 7517, section 4.2), its algorithm is the same, its type and curve are
        that algorithm's, and an RSA key has 2,048 bits or more (RFC 7518, section 3.3).
        """
        if self.use != "sig":
            return f"its use is {self.use!r}, not 'sig'"
        if self.algorithm != algorithm:
            return f"it is a key for {self.algorithm}"
        from fake_credits.tokens import crypto

        return crypto.key_mismatch_reason(algorithm, self.key)

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Tell whether ``signature`` is this key's over ``message``; ask only where there is no `mismatch_reason`."""
        from fake_credits.tokens import crypto

        return bool(crypto.JWT_ALGORITHMS[self.algorithm].verify(message, self.key, signature))

    def jwk(self) -> dict[str, str]:
        """Return the key as a public JWK (RFC 7517): ``kty, use, alg, kid`` and the members of its type."""
        from fake_credits.tokens import crypto

        members = crypto.public_jwk_members(self.algorithm, self.key)
        return {"kty": members.pop("kty"), "use": self.use, "alg": self.algorithm, "kid": self.kid, **members}

    def pem(self) -> str:
        """Return the key as PEM text (SubjectPublicKeyInfo)."""
        from fake_credits.tokens import crypto

        return crypto.public_key_to_pem(self.key)


@dataclass(frozen=True, slots=True, eq=False)
class SigningKey:
    """Be one private key with its public half; the private part never leaves, nor shows in the repr."""

    verifying_key: VerifyingKey
    _private_key: "PrivateKey" = field(repr=False)

    @property
    def kid(self) -> str:
        """Return the key's id, as in a token's header and in the JWKS."""
        return self.verifying_key.kid

    @property
    def algorithm(self) -> str:
        """Return the name of the algorithm that this key signs with."""
        return self.verifying_key.algorithm

    def sign(self, message: bytes) -> bytes:
        """Return the signature over ``message``, in the form of RFC 7518 section 3."""
        from fake_credits.tokens import crypto

        signature: bytes = crypto.JWT_ALGORITHMS[self.algorithm].sign(message, self._private_key)
        return signature


class KeySource(Protocol):
    """Be where an issuer's public keys come from: this server's own, or a foreign issuer's in a file."""

    @property
    def generation(self) -> int:
        """Return a number that changes whenever a key that was trusted may no longer be."""
        ...

    def find(self, kid: str) -> VerifyingKey | None:
        """Return the key with exactly this id, or None."""
        ...

    def published_keys(self) -> tuple[VerifyingKey, ...]:
        """Return all keys that are trusted now."""
        ...


class SigningKeys:
    """Hold a server's signing keys: made on first use, rotated and retired on request; safe in threads.

    Nothing is stored and nothing is built in: a private key lives as long as this object. ``private_pem`` is what
    `new_private_pem` returned, so that two processes sign alike. Raises ValueError where it holds no key of ours, or a
    part of one: another key in its place would sign tokens that nobody knows.
    """

    def __init__(self, private_pem: str | None = None) -> None:
        self._lock = threading.RLock()
        self.generation = 0
        self._current_keys: dict[SigningAlgorithm, SigningKey] = {}
        self._published_by_kid: Mapping[str, VerifyingKey] = {}  # replaced, never changed: readers take no lock
        if private_pem is not None:
            self._install_pem(private_pem)

    def _install_pem(self, private_pem: str) -> None:
        blocks = _PRIVATE_PEM_BLOCK.findall(private_pem)
        if not blocks:
            raise ValueError("there is no private key in PEM (RFC 7468) in it")
        if len(_PRIVATE_PEM_BEGIN.findall(private_pem)) > len(blocks):
            raise ValueError("there is a private key in PEM (RFC 7468) in it that is cut off")
        for block in blocks:
            self._install(*_load_signing_key(block))

    def __repr__(self) -> str:
        return f"<SigningKeys {len(self._published_by_kid)} published, generation {self.generation}>"

    def current_key(self, algorithm: SigningAlgorithm) -> SigningKey:
        """Return the key that signs now; make it where there is none (P-256: 0.01 ms, RSA-2048: about 40 ms)."""
        key = self._current_keys.get(algorithm)
        if key is not None:
            return key
        with self._lock:
            return self._current_keys.get(algorithm) or self._install(algorithm)

    def rotate(self, algorithm: SigningAlgorithm) -> SigningKey:
        """Return a new key that signs from now on; the older ones stay published until they are retired."""
        with self._lock:
            self.generation += 1
            return self._install(algorithm)

    def retire(self, kid: str) -> None:
        """Withdraw a key from the JWKS: its tokens are refused. Raise ValueError for a kid that is not published.

        Where it was the one that signs, the next token makes a new one.
        """
        with self._lock:
            if kid not in self._published_by_kid:
                raise ValueError(
                    f"no key {kid!r} is published (there are: {', '.join(self._published_by_kid) or 'none'})"
                )
            self._published_by_kid = {name: key for name, key in self._published_by_kid.items() if name != kid}
            self._current_keys = {name: key for name, key in self._current_keys.items() if key.kid != kid}
            self.generation += 1

    def find(self, kid: str) -> VerifyingKey | None:
        """Return the published key with exactly this id, or None."""
        return self._published_by_kid.get(kid)

    def published_keys(self) -> tuple[VerifyingKey, ...]:
        """Return all published keys, oldest first; makes none."""
        return tuple(self._published_by_kid.values())

    def jwks(self, algorithms: Iterable[SigningAlgorithm] = ("ES256",)) -> dict[str, list[dict[str, str]]]:
        """Return the public JWK Set (RFC 7517, section 5), with a signing key for each of ``algorithms`` at least.

        Name ``RS256`` only where an issuer uses it: that key takes about 40 ms to make.
        """
        for algorithm in algorithms:
            self.current_key(algorithm)
        return {"keys": [key.jwk() for key in self.published_keys()]}

    def public_pem(self, algorithm: SigningAlgorithm) -> str:
        """Return the public half of the key that signs now, as PEM text."""
        return self.current_key(algorithm).verifying_key.pem()

    def _install(self, algorithm: SigningAlgorithm, private_key: "PrivateKey | None" = None) -> SigningKey:
        key = _make_signing_key(algorithm, private_key)
        self._published_by_kid = {**self._published_by_kid, key.kid: key.verifying_key}
        self._current_keys = {**self._current_keys, algorithm: key}
        return key


def new_private_pem() -> str:
    """Return a fresh private key for each of the algorithms that sign, as PEM text (PKCS 8, unencrypted)."""
    from fake_credits.tokens import crypto

    return "".join(
        crypto.private_key_to_pem(crypto.generate_private_key(algorithm)) for algorithm in ("ES256", "RS256")
    )


def _load_signing_key(block: str) -> "tuple[SigningAlgorithm, PrivateKey]":
    from fake_credits.tokens import crypto

    algorithm, private_key = crypto.load_private_key(block)
    return cast("SigningAlgorithm", algorithm), private_key


def _make_signing_key(algorithm: SigningAlgorithm, private_key: "PrivateKey | None") -> SigningKey:
    from fake_credits.tokens import crypto

    signing_key = private_key or crypto.generate_private_key(algorithm)
    public_key = signing_key.public_key()
    return SigningKey(
        VerifyingKey(f"fake-{algorithm.lower()}-{crypto.key_thumbprint(public_key)}", algorithm, public_key),
        signing_key,
    )
