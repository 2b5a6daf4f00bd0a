"""Issuers and the minting of valid tokens."""

from dataclasses import replace

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_credits.tokens.keys import SigningKeys
from fake_credits.tokens.minting import AUTH_PROVIDERS, PLAIN_PROVIDER, SANDBOX_CLAIM, Minter
from fake_credits.tokens.verifying import Verifier
from tests.tokens.conftest import NOW_MS

KEYS = SigningKeys()


def test_issuer_requires_the_providers_audience() -> None:
    assert Minter(KEYS, AUTH_PROVIDERS["supabase"]).issuer.audience == ("authenticated",)
    assert Minter(KEYS, PLAIN_PROVIDER).issuer.audience == ()


def test_pyjwt_verifies_a_minted_token(minter: Minter) -> None:
    token = minter.mint("ada", now_ms=NOW_MS)
    key = minter.signing_key
    assert jwt.get_unverified_header(token) == {"alg": "ES256", "typ": "JWT", "kid": key.kid}
    options: dict[str, bool] = {"verify_exp": False}
    claims = jwt.decode(token, key.pem(), algorithms=["ES256"], options=options)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert claims["sub"] == "ada"


def test_expires_in_s_sets_the_exp_claim(minter: Minter) -> None:
    claims = minter.claims("ada", now_ms=NOW_MS, expires_in_s=7)
    assert claims["exp"] == NOW_MS // 1000 + 7


def test_given_claims_extend_and_override_the_defaults(minter: Minter, verifier: Verifier) -> None:
    token = minter.mint("ada", now_ms=NOW_MS, claims={SANDBOX_CLAIM: "box-1", "jti": "mine"})
    claims = verifier.verify(token, NOW_MS).claims
    assert (claims[SANDBOX_CLAIM], claims["jti"]) == ("box-1", "mine")


@pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}])
def test_claim_without_json_representation_is_rejected(minter: Minter, value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        minter.mint("ada", now_ms=NOW_MS, claims={"odd": value})


def test_several_audiences_are_minted_as_an_array() -> None:
    minter = Minter(KEYS, replace(AUTH_PROVIDERS["supabase"], audience=("a", "b")))
    assert minter.claims("ada", now_ms=NOW_MS)["aud"] == ["a", "b"]
    assert Verifier([minter.issuer]).verify(minter.mint("ada", now_ms=NOW_MS), NOW_MS).user_id == "ada"


USER_IDS = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=256)


@given(USER_IDS, st.integers(0, 4_000_000_000_000))
def test_verified_user_is_the_minted_user(user_id: str, now_ms: int) -> None:
    minter = Minter(KEYS)
    assert Verifier([minter.issuer]).verify(minter.mint(user_id, now_ms=now_ms), now_ms).user_id == user_id
