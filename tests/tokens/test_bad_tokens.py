"""Bad tokens: each violates one rule and is rejected for it."""

from typing import get_args

import pytest

from fake_credits.errors import ApiError
from fake_credits.tokens.bad_tokens import BAD_TOKENS, BadTokenKind, mint_bad_token
from fake_credits.tokens.credentials import peek_claims
from fake_credits.tokens.keys import SigningKeys
from fake_credits.tokens.minting import AUTH_PROVIDERS, SANDBOX_CLAIM, Minter
from fake_credits.tokens.verifying import Verifier
from tests.tokens.conftest import NOW_MS

KINDS = [
    *("expired", "not_yet_valid", "wrong_issuer", "wrong_audience", "wrong_key", "unknown_kid", "alg_none"),
    *("hs256_with_public_key", "tampered", "missing_sub", "other_user", "duplicate_sub", "string_exp", "oversize"),
]


def test_registry_has_every_kind() -> None:
    assert list(BAD_TOKENS) == KINDS


@pytest.mark.parametrize("preset", ["plain", "auth0"])
@pytest.mark.parametrize("kind", KINDS)
def test_bad_token_is_rejected_with_its_documented_error(shared_keys: SigningKeys, kind: str, preset: str) -> None:
    minter, expected = Minter(shared_keys, AUTH_PROVIDERS[preset]), BAD_TOKENS[kind]
    token = mint_bad_token(kind, minter, "ada", now_ms=NOW_MS)
    with pytest.raises(ApiError) as exc_info:
        Verifier([minter.issuer]).verify(token, NOW_MS).require_user("ada")
    error = exc_info.value
    assert (type(error), error.auth_reason) == (expected.error, expected.auth_reason)
    assert (error.code, error.status) == (expected.code, expected.status)


@pytest.mark.parametrize("preset", AUTH_PROVIDERS)
def test_wrong_audience_is_rejected_for_every_provider(shared_keys: SigningKeys, preset: str) -> None:
    minter = Minter(shared_keys, AUTH_PROVIDERS[preset])
    with pytest.raises(ApiError) as exc_info:
        Verifier([minter.issuer]).verify(mint_bad_token("wrong_audience", minter, "ada", now_ms=NOW_MS), NOW_MS)
    assert exc_info.value.auth_reason == "wrong_audience"


def test_other_user_token_is_valid_for_another_user(minter: Minter, verifier: Verifier) -> None:
    for user in ("ada", "somebody-else"):
        assert verifier.verify(mint_bad_token("other_user", minter, user, now_ms=NOW_MS), NOW_MS).user_id != user


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "oversize"])
def test_bad_token_keeps_its_sandbox_claim(minter: Minter, kind: str) -> None:
    token = mint_bad_token(kind, minter, "ada", now_ms=NOW_MS, claims={SANDBOX_CLAIM: "box-1"})
    assert peek_claims(token)[SANDBOX_CLAIM] == "box-1"


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("expird", ": did you mean 'expired'?"), ("none", ": did you mean 'alg_none'?"), ("", ""), ("x", "")],
)
def test_unknown_kind_error_suggests_and_lists_kinds(minter: Minter, name: str, suggestion: str) -> None:
    with pytest.raises(ValueError, match="unknown kind of bad token") as exc_info:
        mint_bad_token(name, minter, "ada", now_ms=NOW_MS)
    assert str(exc_info.value) == f"unknown kind of bad token {name!r}{suggestion} (known: {', '.join(KINDS)})"


def test_bad_token_kind_lists_every_kind() -> None:
    """Type checkers check ``token(bad=...)`` against `BadTokenKind`."""
    assert get_args(BadTokenKind) == tuple(BAD_TOKENS)
