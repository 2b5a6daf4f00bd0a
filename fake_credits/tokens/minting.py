"""Trusted issuers of tokens, and the minting of valid tokens."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Final

from fake_credits.tokens.keys import KeySet, SigningKey, SigningKeys, read_key_file
from fake_credits.tokens.providers import AUTH_PROVIDERS, PLAIN_PROVIDER, AuthProvider

SANDBOX_CLAIM: Final = "fake_credits_sandbox"
"""The private claim that names a token's sandbox; the caller passes it in ``claims``."""


@dataclass(frozen=True)
class Issuer:
    """A trusted issuer, and what its tokens must contain (docs/how-to/tokens.md).

    ``audience`` lists the names of this API. Tokens for others are rejected (RFC 7519, section 4.1.3), so if it is
    empty, every token with an ``aud`` is rejected; None leaves ``aud`` unchecked. ``authorized_parties``, unless empty,
    lists the allowed values of ``azp``, which is then required. ``leeway_s`` is in seconds.
    """

    url: str
    algorithms: tuple[str, ...]
    keys: KeySet
    audience: tuple[str, ...] | None = ()
    authorized_parties: tuple[str, ...] = ()
    user_claim: str = "sub"
    leeway_s: int = 5


def trusted_issuer(url: str, path: str | Path) -> Issuer:
    """Return a foreign issuer, such as a development tenant, with the keys in a file; ``aud`` is not checked.

    Raises ValueError, with the file name, for a file that can't be read or is invalid (`read_key_file`).
    """
    try:
        keys = read_key_file(Path(path))
    except OSError as error:
        raise ValueError(f"trust of {url!r}: {path}: can't be read: {error.strerror}") from None
    except (ValueError, TypeError) as error:
        raise ValueError(f"trust of {url!r}: {path}: {error}") from None
    algorithms = tuple(sorted({key.algorithm for key in keys.published_keys()}))
    return Issuer(url, algorithms, keys, audience=None)


@dataclass(frozen=True)
class Minter:
    """A minter of tokens that look like a provider's, signed with a server's own keys.

    ``issuer_url`` replaces the provider's issuer, unless it is empty.
    """

    keys: SigningKeys
    provider: AuthProvider = PLAIN_PROVIDER
    issuer_url: str = ""

    @cached_property
    def issuer(self) -> Issuer:
        """Return the issuer that trusts these tokens."""
        url = self.issuer_url or self.provider.issuer
        return Issuer(url, (self.provider.algorithm,), self.keys, audience=self.provider.audience)

    @property
    def signing_key(self) -> SigningKey:
        """Return the current signing key."""
        return self.keys.current_key(self.provider.algorithm)

    def claims(self, user_id: str, *, now_ms: int, expires_in_s: int | None = None) -> dict[str, object]:
        """Return the claims of a token issued at ``now_ms``, in milliseconds since 1970.

        Times are in whole seconds, rounded down. The token is valid for ``expires_in_s`` seconds, by default the
        provider's lifetime.
        """
        now_s = now_ms // 1000
        lifetime_s = self.provider.lifetime_s if expires_in_s is None else expires_in_s
        audience = self.provider.audience
        aud: dict[str, object] = {"aud": audience[0] if len(audience) == 1 else list(audience)} if audience else {}
        common = {"iss": self.issuer.url, "sub": user_id, "iat": now_s, "exp": now_s + lifetime_s}
        return {**common, **aud, **self.provider.extra_claims(user_id, now_s)}

    def mint(
        self, user_id: str, *, now_ms: int, expires_in_s: int | None = None, claims: Mapping[str, object] | None = None
    ) -> str:
        """Return a signed token (compact JWS, RFC 7515) for a user, issued at ``now_ms`` (ms since 1970).

        ``claims`` extend and override the provider's. Raises TypeError or ValueError for a claim that isn't JSON.
        """
        default_claims = self.claims(user_id, now_ms=now_ms, expires_in_s=expires_in_s)
        return encode_jws(self.signing_key, encode_json({**default_claims, **(claims or {})}))


@lru_cache(maxsize=16)
def find_minter(keys: SigningKeys, provider_name: str, issuer_url: str = "") -> Minter:
    """Return the minter of a provider's tokens; cached, because a test suite creates a sandbox for every test."""
    return Minter(keys, AUTH_PROVIDERS[provider_name], issuer_url)


def encode_jws(key: SigningKey, payload: bytes, *, kid: str | None = None) -> str:
    """Return a compact JWS over any payload; its header has ``kid``, by default the key's own id."""
    header = encode_json({"alg": key.algorithm, "typ": "JWT", "kid": key.kid if kid is None else kid})
    signing_input = f"{encode_segment(header)}.{encode_segment(payload)}"
    return f"{signing_input}.{encode_segment(key.sign(signing_input.encode()))}"


def encode_segment(data: bytes) -> str:
    """Return bytes as base64url without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def encode_json(value: Mapping[str, object]) -> bytes:
    """Return an object as compact JSON; raise TypeError or ValueError if it can't be encoded."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
