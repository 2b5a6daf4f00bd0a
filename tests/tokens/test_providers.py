"""Tokens in the format of each auth provider (see "Tokens" in the docs)."""

import pytest

from fake_credits.tokens.keys import SigningKeys
from fake_credits.tokens.minting import AUTH_PROVIDERS, PLAIN_PROVIDER, Minter
from fake_credits.tokens.verifying import Verifier
from tests.tokens.conftest import NOW_MS

NOW_S = NOW_MS // 1000
COMMON_CLAIMS = {"iss", "sub", "iat", "exp"}

EXPECTED_CLAIMS = {
    "plain": ("ES256", "https://issuer.fake-credits.test", None, 86_400, {"nbf", "jti"}),
    "clerk": (
        "RS256",
        "https://fake-credits.clerk.accounts.dev",
        None,
        60,
        {"azp", "nbf", "jti", "sid", "sts", "v", "fva"},
    ),
    "auth0": (
        "RS256",
        "https://fake-credits.auth0.com/",
        "https://credits.fake-credits.test",
        86_400,
        {"azp", "scope"},
    ),
    "supabase": (
        "ES256",
        "https://fakecreditsabcdefghi.supabase.co/auth/v1",
        "authenticated",
        3600,
        {"role", "aal", "session_id", "email", "is_anonymous"},
    ),
    "firebase": (
        "RS256",
        "https://securetoken.google.com/fake-credits",
        "fake-credits",
        3600,
        {"auth_time", "user_id", "firebase"},
    ),
    "cognito": (
        "RS256",
        "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_FakeCred1",
        None,
        3600,
        {"token_use", "client_id"},
    ),
    "workos": ("RS256", "https://api.workos.com", None, 300, {"sid", "org_id", "role"}),
}


def test_providers_match_the_expected_table() -> None:
    assert AUTH_PROVIDERS.keys() == EXPECTED_CLAIMS.keys()
    assert all(preset.name == name for name, preset in AUTH_PROVIDERS.items())
    assert AUTH_PROVIDERS["plain"] is PLAIN_PROVIDER


@pytest.mark.parametrize("name", AUTH_PROVIDERS)
def test_token_has_the_providers_claims(shared_keys: SigningKeys, name: str) -> None:
    algorithm, issuer, audience, life_s, extra = EXPECTED_CLAIMS[name]
    preset = AUTH_PROVIDERS[name]
    claims = Minter(shared_keys, preset).claims("ada", now_ms=NOW_MS + 999)
    assert claims.keys() == COMMON_CLAIMS | extra | ({"aud"} if audience else set())
    assert (preset.algorithm, claims["iss"], claims.get("aud")) == (algorithm, issuer, audience)
    assert (claims["sub"], claims["iat"], claims["exp"]) == ("ada", NOW_S, NOW_S + life_s)


@pytest.mark.parametrize("name", AUTH_PROVIDERS)
def test_minted_token_is_verified_by_its_providers_issuer(shared_keys: SigningKeys, name: str) -> None:
    preset = AUTH_PROVIDERS[name]
    minter = Minter(shared_keys, preset)
    verifier = Verifier([Minter(shared_keys, provider).issuer for provider in AUTH_PROVIDERS.values()])
    verified = verifier.verify(minter.mint(preset.example_user_id, now_ms=NOW_MS), NOW_MS)
    assert (verified.user_id, verified.issuer) == (preset.example_user_id, preset.issuer)


def test_every_token_has_a_unique_jti() -> None:
    minter = Minter(SigningKeys())
    assert minter.claims("ada", now_ms=NOW_MS)["jti"] != minter.claims("ada", now_ms=NOW_MS)["jti"]


def test_clerk_token_has_version_2() -> None:
    claims = Minter(SigningKeys(), AUTH_PROVIDERS["clerk"]).claims("ada", now_ms=NOW_MS)
    assert (claims["v"], claims["sts"], claims["fva"]) == (2, "active", [0, -1])


def test_firebase_token_repeats_the_user_id() -> None:
    assert Minter(SigningKeys(), AUTH_PROVIDERS["firebase"]).claims("ada", now_ms=NOW_MS)["user_id"] == "ada"


def test_cognito_token_is_an_access_token() -> None:
    assert Minter(SigningKeys(), AUTH_PROVIDERS["cognito"]).claims("ada", now_ms=NOW_MS)["token_use"] == "access"
