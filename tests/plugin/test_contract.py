"""The contract and trust options of a suite."""

import json
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from tests.plugin.conftest import Suite

CONTRACT = 'version = 1\nfloor = -50\n[routes]\ngetBalance = "GET /v9/{applicationId}/{userId}/credits"\n'
BOTH_DRIVERS = """
import pytest, httpx2

@pytest.mark.fake_credits(users={"ada": 10})
def test_both_drivers(fake_credits):
    fake_credits.server_client.create_transaction("app-id", "ada", delta=-60, reason="consume")
    assert fake_credits.user_client("ada").get_balance("ada").balance == -50
    url = fake_credits.base_url + "/v9/app-id/ada/credits"
    assert httpx2.get(url, headers={"X-API-Key": fake_credits.api_key}).json() == {"balance": -50}

def test_session_server(fake_credits_server, fake_credits):
    assert fake_credits.base_url == fake_credits_server.base_url
"""


@pytest.mark.parametrize("source", ["flag", "ini", "environment", "marker", "path"])
def test_contract_applies_to_clients_and_both_drivers(
    suite: Suite, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    (pytester.path / "mine.toml").write_text(CONTRACT)
    if source == "environment":
        monkeypatch.setenv("FAKE_CREDITS_CONTRACT", "mine.toml")
    contract_option = {"marker": '"mine.toml"', "path": 'pathlib.Path("mine.toml")'}.get(source)
    mark = (
        f"import pathlib, pytest\npytestmark = pytest.mark.fake_credits(contract={contract_option})\n"
        if contract_option
        else ""
    )
    text = mark + BOTH_DRIVERS.partition("def test_session_server")[0] if mark else BOTH_DRIVERS
    flags = ("--fake-credits-contract=mine.toml",) if source == "flag" else ()
    result = suite(text, *flags, ini="fake_credits_contract = mine.toml" if source == "ini" else "")
    result.assert_outcomes(passed=1 if mark else 2)


def test_unknown_contract_key_is_an_error_with_a_suggestion(suite: Suite, pytester: pytest.Pytester) -> None:
    (pytester.path / "mine.toml").write_text("version = 1\npagesize = 3\n")
    result = suite("def test_it(fake_credits): pass", "--fake-credits-contract=mine.toml")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*mine.toml: pagesize: unknown setting: did you mean 'page_size'?*"])


def test_contract_that_forbids_the_default_user_id_is_a_one_line_error(suite: Suite, pytester: pytest.Pytester) -> None:
    (pytester.path / "mine.toml").write_text('version = 1\nid_pattern = "[0-9]+"\n')
    text = "def test_it(fake_credits_env): pass\ndef test_without_user(fake_credits): pass"
    result = suite(text, "--fake-credits-contract=mine.toml")
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(["cannot set the variables: the user id 'user-id' must match * fake_credits_user_id"])
    assert "Traceback" not in result.stdout.str()
    assert "def fake_credits_env" not in result.stdout.str()


def write_tenant_keys(folder: Path) -> str:
    """Write a tenant's JWKS to a file and return a token for one of its users."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": "1", "alg": "ES256"}
    (folder / "jwks.json").write_text(json.dumps({"keys": [public]}))
    claims = {"iss": "https://dev.example/", "sub": "ada", "exp": 4_000_000_000}
    return jwt.encode(claims, key, algorithm="ES256", headers={"kid": "1"})


TRUSTED_ISSUER = """
import httpx2
import pytest

{mark}
@pytest.mark.fake_credits(users={{"ada": 10}})
@pytest.mark.parametrize("run", [1, 2])
def test_trusted_token(fake_credits, run):
    token = {token!r}
    fake_credits.bind("https://dev.example/", "ada")
    url = fake_credits.base_url + "/v1/applications/app-id/users/ada/balance"
    response = httpx2.get(url, headers={{"Authorization": "Bearer " + token}})
    assert response.json() == {{"balance": 10}}
    assert len(fake_credits.journal) == 1
"""


@pytest.mark.parametrize("source", ["ini", "marker"])
def test_trusted_issuers_token_reaches_the_users_bound_sandbox(
    suite: Suite, pytester: pytest.Pytester, source: str
) -> None:
    token = write_tenant_keys(pytester.path)
    trust = '{"https://dev.example/": "jwks.json"}'
    mark = f"@pytest.mark.fake_credits(trust={trust})" if source == "marker" else ""
    ini = "fake_credits_trust =\n    https://dev.example/=jwks.json" if source == "ini" else ""
    suite(TRUSTED_ISSUER.format(mark=mark, token=token), ini=ini).assert_outcomes(passed=2)


def test_trust_line_without_file_is_a_usage_error(suite: Suite) -> None:
    result = suite("def test_it(): pass", ini="fake_credits_trust = https://dev.example/")
    result.stderr.fnmatch_lines(["*ini option fake_credits_trust: 'https://dev.example/' does not have the form *"])
