"""Own how the tokens of known identity providers look; know nothing of keys, signatures or verification.

The table is README's, "Users' tokens". Slugs, tenants, project names and audiences are made up, and constant: an
application configured once keeps working.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from fake_credits.auth.keys import SigningAlgorithm
from fake_credits.chance import fresh_bytes, fresh_name

__all__ = ["PLAIN", "PRESETS", "ExtraClaims", "Preset"]

ExtraClaims = Callable[[str, int], dict[str, object]]
"""Make the claims beside ``iss, aud, sub, iat, exp``, from a user's id and the time in seconds since 1970."""

_APP_ORIGIN = "https://app.fake-credits.test"
_FIREBASE_PROJECT = "fake-credits"


@dataclass(frozen=True, slots=True)
class Preset:
    """Say how one provider's tokens look.

    ``life_s`` is in seconds. ``example_user_id`` has the shape of the provider's real ids; a token bears whatever id
    it is minted for. ``issuer`` is compared byte for byte, its trailing slash too.
    """

    name: str
    algorithm: SigningAlgorithm
    issuer: str
    life_s: int
    example_user_id: str
    extra_claims: ExtraClaims = field(repr=False)
    audience: tuple[str, ...] = ()


def _uuid() -> str:
    return str(uuid.UUID(bytes=fresh_bytes(16), version=4))


def _plain(_user_id: str, now_s: int) -> dict[str, object]:
    return {"nbf": now_s, "jti": fresh_name("")}


def _clerk(_user_id: str, now_s: int) -> dict[str, object]:
    session = {"sid": fresh_name("sess_"), "sts": "active", "v": 2, "fva": [0, -1]}
    return {"azp": _APP_ORIGIN, "nbf": now_s, "jti": fresh_name(""), **session}


def _auth0(_user_id: str, _now_s: int) -> dict[str, object]:
    return {"azp": "fakeCreditsClientId0000000000000", "scope": "openid profile email"}


def _supabase(_user_id: str, _now_s: int) -> dict[str, object]:
    return {
        "role": "authenticated",
        "aal": "aal1",
        "session_id": _uuid(),
        "email": "user@example.com",
        "is_anonymous": False,
    }


def _firebase(user_id: str, now_s: int) -> dict[str, object]:
    return {
        "auth_time": now_s,
        "user_id": user_id,
        "firebase": {"identities": {}, "sign_in_provider": "custom"},
    }


def _cognito(_user_id: str, _now_s: int) -> dict[str, object]:
    return {"token_use": "access", "client_id": "fakecreditsclient000000000"}


def _workos(_user_id: str, _now_s: int) -> dict[str, object]:
    return {"sid": fresh_name("session_"), "org_id": "org_01FAKECREDITS0000000000000", "role": "member"}


PLAIN: Final = Preset("plain", "ES256", "https://issuer.fake-credits.test", 24 * 3600, "user-id", _plain)
"""The default: no provider's shape, and the algorithm that costs the least."""

PRESETS: Final[dict[str, Preset]] = {
    "plain": PLAIN,
    "clerk": Preset(
        "clerk", "RS256", "https://fake-credits.clerk.accounts.dev", 60, "user_2fAKEcReDiTs00000000000ada", _clerk
    ),
    "auth0": Preset(
        "auth0",
        "RS256",
        "https://fake-credits.auth0.com/",
        24 * 3600,
        "auth0|65fa7ec4ed175000000000ad",
        _auth0,
        audience=("https://credits.fake-credits.test",),
    ),
    "supabase": Preset(
        "supabase",
        "ES256",
        "https://fakecreditsabcdefghi.supabase.co/auth/v1",
        3600,
        "0fa7ec4e-d175-4000-8000-0000000000ad",
        _supabase,
        audience=("authenticated",),
    ),
    "firebase": Preset(
        "firebase",
        "RS256",
        f"https://securetoken.google.com/{_FIREBASE_PROJECT}",
        3600,
        "fAkEcReDiTs00000000000000ada",
        _firebase,
        audience=(_FIREBASE_PROJECT,),
    ),
    "cognito": Preset(
        "cognito",
        "RS256",
        "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_FakeCred1",
        3600,
        "0fa7ec4e-d175-4000-8000-0000000000ad",
        _cognito,
    ),
    "workos": Preset("workos", "RS256", "https://api.workos.com", 300, "user_01FAKECREDITS000000000ADA", _workos),
}
"""Every preset by its name: README, "Users' tokens"."""
