"""Bad tokens: each is refused for the one rule that it breaks."""

import pytest

from fake_credits.errors import ApiError
from fake_credits.tokens.bad_tokens import BAD_TOKENS, mint_bad_token
from fake_credits.tokens.credentials import peek_claims
from fake_credits.tokens.keys import SigningKeys
from fake_credits.tokens.minting import SANDBOX_CLAIM, Minter
from fake_credits.tokens.providers import AUTH_PROVIDERS
from fake_credits.tokens.verifying import Verifier
from tests.tokens.conftest import NOW_MS

KINDS = [
    *("expired", "not_yet_valid", "wrong_issuer", "wrong_audience", "wrong_key", "unknown_kid", "alg_none"),
    *("hs256_with_public_key", "tampered", "missing_sub", "other_user", "duplicate_sub", "string_exp", "oversize"),
]


def test_the_registry_has_every_kind_of_the_contract() -> None:
    assert list(BAD_TOKENS) == KINDS


@pytest.mark.parametrize("preset", ["plain", "auth0"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_answered_as_its_entry_says(shared_keys: SigningKeys, kind: str, preset: str) -> None:
    minter, expected = Minter(shared_keys, AUTH_PROVIDERS[preset]), BAD_TOKENS[kind]
    token = mint_bad_token(kind, minter, "ada", now_ms=NOW_MS)
    with pytest.raises(ApiError) as caught:
        Verifier([minter.issuer]).verify(token, NOW_MS).require_user("ada")
    answer = caught.value
    assert (type(answer), answer.auth_reason) == (expected.error, expected.auth_reason)
    assert (answer.code, answer.status) == (expected.code, expected.status)


@pytest.mark.parametrize("preset", AUTH_PROVIDERS)
def test_a_token_for_others_is_refused_with_every_preset(shared_keys: SigningKeys, preset: str) -> None:
    minter = Minter(shared_keys, AUTH_PROVIDERS[preset])
    with pytest.raises(ApiError) as caught:
        Verifier([minter.issuer]).verify(mint_bad_token("wrong_audience", minter, "ada", now_ms=NOW_MS), NOW_MS)
    assert caught.value.auth_reason == "wrong_audience"


def test_another_users_token_is_genuine(minter: Minter, verifier: Verifier) -> None:
    for user in ("ada", "somebody-else"):
        assert verifier.verify(mint_bad_token("other_user", minter, user, now_ms=NOW_MS), NOW_MS).user_id != user


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "oversize"])
def test_a_bad_token_still_finds_its_sandbox(minter: Minter, kind: str) -> None:
    token = mint_bad_token(kind, minter, "ada", now_ms=NOW_MS, claims={SANDBOX_CLAIM: "box-1"})
    assert peek_claims(token)[SANDBOX_CLAIM] == "box-1"


@pytest.mark.parametrize(
    ("typo", "hint"),
    [("expird", ": did you mean 'expired'?"), ("none", ": did you mean 'alg_none'?"), ("", ""), ("x", "")],
)
def test_an_unknown_kind_names_one_that_is_near_and_all(minter: Minter, typo: str, hint: str) -> None:
    with pytest.raises(ValueError, match="no bad token") as caught:
        mint_bad_token(typo, minter, "ada", now_ms=NOW_MS)
    assert str(caught.value) == f"no bad token {typo!r}{hint} (there are {', '.join(KINDS)})"
