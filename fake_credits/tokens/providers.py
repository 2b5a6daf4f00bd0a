"""The tokens of known identity providers: their issuers, algorithms, lifetimes and claims.

docs/how-to/tokens.md lists them. Slugs, tenants, project names and audiences are invented and never change, so that an
application needs to be configured only once.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from fake_credits.keyed_random import random_bytes, random_name
from fake_credits.tokens.keys import SigningAlgorithm

ExtraClaims = Callable[[str, int], dict[str, object]]
"""A function that returns the further claims for a user's id and a time in seconds since 1970."""

_APP_ORIGIN = "https://app.fake-credits.test"
_FIREBASE_PROJECT = "fake-credits"


@dataclass(frozen=True, slots=True)
class AuthProvider:
    """The form of a provider's tokens.

    ``lifetime_s`` is in seconds. ``example_user_id`` looks like the provider's real ids, but tokens can be minted for
    any id. ``issuer`` is compared byte for byte, including a trailing slash. ``keys_path`` is where the provider's own
    SDKs look for its keys, in addition to ``/.well-known/jwks.json``; its last segment may be a ``{parameter}``.
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


def _firebase_claims(user_id: str, now_s: int) -> dict[str, object]:
    return {"auth_time": now_s, "user_id": user_id, "firebase": {"identities": {}, "sign_in_provider": "custom"}}


PLAIN_PROVIDER: Final = AuthProvider(
    "plain",
    "ES256",
    "https://issuer.fake-credits.test",
    24 * 3600,
    "user-id",
    lambda _user_id, now_s: {"nbf": now_s, "jti": random_name("")},
)
"""The default provider: it imitates no real one, and uses the fastest algorithm."""

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
        _firebase_claims,
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
"""Every provider by name (docs/how-to/tokens.md)."""
