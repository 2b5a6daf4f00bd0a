"""Auth providers, trusted issuers, and the minting of valid tokens in each provider's format."""

import base64
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Final

from fake_credits.keyed_random import random_bytes, random_name
from fake_credits.tokens.keys import KeySet, SigningAlgorithm, SigningKey, SigningKeys, read_key_file

ExtraClaims = Callable[[str, int], dict[str, object]]
"""A function that takes a user's id and a time in seconds since 1970, and returns additional claims."""

_APP_ORIGIN = "https://app.fake-credits.test"
_FIREBASE_PROJECT = "fake-credits"


@dataclass(frozen=True, slots=True)
class AuthProvider:
    """The format of a provider's tokens.

    ``lifetime_s`` is in seconds. ``example_user_id`` looks like the provider's real ids, but tokens can be minted for
    any id. ``issuer`` is compared byte for byte, including any trailing slash. ``keys_path`` is the path at which the
    provider's own SDKs look for the keys, which are served there as well as at ``/.well-known/jwks.json``; its last
    segment may be a ``{parameter}``.
    """

    name: str
    algorithm: SigningAlgorithm
    issuer: str
    lifetime_s: int
    example_user_id: str
    extra_claims: ExtraClaims = field(repr=False)
    audience: tuple[str, ...] = ()
    keys_path: str = ""

    def has_keys_at(self, path: str) -> bool:
        """Return whether the provider's SDKs look for keys at a path."""
        prefix, has_parameter, _ = self.keys_path.partition("{")
        if not has_parameter:
            return bool(prefix) and path == prefix
        last_segment = path.removeprefix(prefix)
        return last_segment not in ("", path) and "/" not in last_segment


def _clerk_claims(_user_id: str, now_s: int) -> dict[str, object]:
    return {
        "azp": _APP_ORIGIN,
        "nbf": now_s,
        "jti": random_name(""),
        "sid": random_name("sess_"),
        "sts": "active",
        "v": 2,
        "fva": [0, -1],
    }


def _supabase_claims(_user_id: str, _now_s: int) -> dict[str, object]:
    return {
        "role": "authenticated",
        "aal": "aal1",
        "session_id": str(uuid.UUID(bytes=random_bytes(16), version=4)),
        "email": "user@example.com",
        "is_anonymous": False,
    }


PLAIN_PROVIDER: Final = AuthProvider(
    "plain",
    "ES256",
    "https://issuer.fake-credits.test",
    24 * 3600,
    "user-id",
    lambda _user_id, now_s: {"nbf": now_s, "jti": random_name("")},
)
"""The default provider, which imitates no real one and uses ES256, because its keys are quick to generate."""

AUTH_PROVIDERS: Final[dict[str, AuthProvider]] = {
    "plain": PLAIN_PROVIDER,
    "clerk": AuthProvider(
        "clerk",
        "RS256",
        "https://fake-credits.clerk.accounts.dev",
        60,
        "user_2fAKEcReDiTs00000000000ada",
        _clerk_claims,
        keys_path="/v1/jwks",
    ),
    "auth0": AuthProvider(
        "auth0",
        "RS256",
        "https://fake-credits.auth0.com/",
        24 * 3600,
        "auth0|65fa7ec4ed175000000000ad",
        lambda _user_id, _now_s: {"azp": "fakeCreditsClientId0000000000000", "scope": "openid profile email"},
        audience=("https://credits.fake-credits.test",),
    ),
    "supabase": AuthProvider(
        "supabase",
        "ES256",
        "https://fakecreditsabcdefghi.supabase.co/auth/v1",
        3600,
        "0fa7ec4e-d175-4000-8000-0000000000ad",
        _supabase_claims,
        audience=("authenticated",),
        keys_path="/auth/v1/.well-known/jwks.json",
    ),
    "firebase": AuthProvider(
        "firebase",
        "RS256",
        f"https://securetoken.google.com/{_FIREBASE_PROJECT}",
        3600,
        "fAkEcReDiTs00000000000000ada",
        lambda user_id, now_s: {
            "auth_time": now_s,
            "user_id": user_id,
            "firebase": {"identities": {}, "sign_in_provider": "custom"},
        },
        audience=(_FIREBASE_PROJECT,),
    ),
    "cognito": AuthProvider(
        "cognito",
        "RS256",
        "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_FakeCred1",
        3600,
        "0fa7ec4e-d175-4000-8000-0000000000ad",
        lambda _user_id, _now_s: {"token_use": "access", "client_id": "fakecreditsclient000000000"},
    ),
    "workos": AuthProvider(
        "workos",
        "RS256",
        "https://api.workos.com",
        300,
        "user_01FAKECREDITS000000000ADA",
        lambda _user_id, _now_s: {
            "sid": random_name("session_"),
            "org_id": "org_01FAKECREDITS0000000000000",
            "role": "member",
        },
        keys_path="/sso/jwks/{client}",
    ),
}
"""Every provider by name (see docs/how-to/tokens.md)."""


SANDBOX_CLAIM: Final = "fake_credits_sandbox"
"""The private claim that names a token's sandbox; the code that mints a token passes it in ``claims``."""


@dataclass(frozen=True)
class Issuer:
    """A trusted issuer, and what its tokens must contain (see docs/how-to/tokens.md).

    ``audience`` lists the names of this API. Tokens for other APIs are rejected (RFC 7519, section 4.1.3), so if the
    list is empty, every token with an ``aud`` is rejected; None leaves ``aud`` unchecked. ``authorized_parties``,
    unless empty, lists the allowed values of ``azp``, which is then required. ``leeway_s`` is in seconds.
    """

    url: str
    algorithms: tuple[str, ...]
    keys: KeySet
    audience: tuple[str, ...] | None = ()
    authorized_parties: tuple[str, ...] = ()
    user_claim: str = "sub"
    leeway_s: int = 5


def trusted_issuer(url: str, path: str | Path) -> Issuer:
    """Return a foreign issuer, such as a development tenant, whose keys are read from a file; ``aud`` is not checked.

    Raises ValueError, naming the file, if it can't be read or is invalid (see `read_key_file`).
    """
    try:
        keys = read_key_file(Path(path))
    except OSError as error:
        raise ValueError(f"trusted issuer {url!r}: {path}: the file can't be read: {error.strerror}") from None
    except (ValueError, TypeError) as error:
        raise ValueError(f"trusted issuer {url!r}: {path}: {error}") from None
    algorithms = tuple(sorted({key.algorithm for key in keys.published_keys()}))
    return Issuer(url, algorithms, keys, audience=None)


@dataclass(frozen=True)
class Minter:
    """A minter of tokens that look like a provider's, but are signed with the server's keys.

    ``issuer_url``, unless empty, replaces the provider's issuer.
    """

    keys: SigningKeys
    provider: AuthProvider = PLAIN_PROVIDER
    issuer_url: str = ""

    @cached_property
    def issuer(self) -> Issuer:
        """Return the issuer that a verifier must trust to accept these tokens."""
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

        ``claims`` extend and override the provider's. Raises TypeError or ValueError for a claim that can't be encoded
        as JSON.
        """
        default_claims = self.claims(user_id, now_ms=now_ms, expires_in_s=expires_in_s)
        return encode_jws(self.signing_key, encode_json({**default_claims, **(claims or {})}))


@lru_cache(maxsize=16)
def find_minter(keys: SigningKeys, provider_name: str, issuer_url: str = "") -> Minter:
    """Return a minter for a provider's tokens; cached, because a test suite creates a sandbox for every test."""
    return Minter(keys, AUTH_PROVIDERS[provider_name], issuer_url)


def encode_jws(key: SigningKey, payload: bytes, *, kid: str | None = None) -> str:
    """Return a compact JWS with this payload; its header's ``kid`` is the key's id by default."""
    header = encode_json({"alg": key.algorithm, "typ": "JWT", "kid": key.kid if kid is None else kid})
    signing_input = f"{encode_segment(header)}.{encode_segment(payload)}"
    return f"{signing_input}.{encode_segment(key.sign(signing_input.encode()))}"


def encode_segment(data: bytes) -> str:
    """Encode bytes as base64url without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def encode_json(value: Mapping[str, object]) -> bytes:
    """Encode an object as compact JSON; raise TypeError or ValueError if it can't be encoded."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
