from typing import Any

import jwt
import pytest

from fake_credits import FakeCredits

ISSUER = "https://fake-credits.clerk.accounts.dev"


def authenticate(token: str, jwks_url: str) -> str:
    """Return the user's id. This is the application's own check before it calls the API."""
    key = jwt.PyJWKClient(jwks_url).get_signing_key_from_jwt(token)
    claims = jwt.decode(token, key, algorithms=["RS256"], issuer=ISSUER, options={"require": ["exp", "sub"]})
    return str(claims["sub"])


@pytest.mark.fake_credits(auth_provider="clerk")
def test_good_token_is_accepted(fake_credits: FakeCredits) -> None:
    jwks_url = fake_credits.base_url + "/.well-known/jwks.json"
    assert authenticate(fake_credits.token("ada"), jwks_url) == "ada"


@pytest.mark.fake_credits(auth_provider="clerk")
@pytest.mark.parametrize("kind", ["expired", "wrong_issuer", "wrong_key", "alg_none", "tampered", "missing_sub"])
def test_bad_token_is_refused(fake_credits: FakeCredits, kind: Any) -> None:
    jwks_url = fake_credits.base_url + "/.well-known/jwks.json"
    with pytest.raises(jwt.PyJWTError):
        authenticate(fake_credits.token("ada", bad=kind), jwks_url)
