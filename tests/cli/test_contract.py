"""Contracts and foreign issuers on the command line."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from click.testing import CliRunner

from fake_credits.cli.main import cli
from fake_credits.client.server import ServerClient
from fake_credits.contract.loading import load_contract
from fake_credits.tokens.keys import SigningKeys
from tests.cli.conftest import CliProcess

CONTRACT = 'version = 1\n[routes]\ngetBalance = "GET /v9/{applicationId}/{userId}/credits"\n'


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(CONTRACT)
    return path


def test_openapi_prints_the_contracts_document(contract: Path) -> None:
    result = CliRunner().invoke(cli, ["openapi", "--contract", str(contract)])
    assert "/v9/{applicationId}/{userId}/credits" in json.loads(result.output)["paths"]


def test_unknown_contract_key_is_a_usage_error_with_a_suggestion(contract: Path) -> None:
    contract.write_text("version = 1\npagesize = 3\n")
    result = CliRunner().invoke(cli, ["openapi", "--contract", str(contract)])
    assert result.exit_code == 2
    assert "mine.toml: pagesize: unknown setting: did you mean 'page_size'?" in result.output


def test_serve_uses_the_given_contract(start: Callable[..., CliProcess], contract: Path) -> None:
    variables = start("serve", "--contract", str(contract), "--balance", "5").variables
    url, key = variables["CREDITS_BASE_URL"], variables["CREDITS_API_KEY"]
    with ServerClient(url, key, contract=load_contract(contract)) as client:
        assert client.get_balance("app-id", "user-id").balance == 5
    document = httpx2.get(url + "/_fake/openapi.json").json()
    assert "/v9/{applicationId}/{userId}/credits" in document["paths"]


def test_trust_file_without_keys_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "jwks.json").write_text("{}")
    result = CliRunner().invoke(cli, ["run", "--trust", f"https://x/={tmp_path / 'jwks.json'}", "--", "true"])
    assert result.exit_code == 2
    assert "neither PEM nor a JWK Set" in result.output


def test_issuer_trusted_twice_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "jwks.json").write_text(json.dumps(SigningKeys().jwks()))
    trust = ("--trust", f"https://x/={tmp_path / 'jwks.json'}")
    result = CliRunner().invoke(cli, ["run", *trust, *trust, "--", "true"])
    assert result.exit_code == 2
    assert "--trust 'https://x/' appears 2 times: pass it once" in result.output


def test_default_application_missing_from_the_contract_is_a_usage_error(contract: Path) -> None:
    contract.write_text('version = 1\napplications = ["shop"]\n')
    result = CliRunner().invoke(cli, ["run", "--contract", str(contract), "--balance", "5", "--", "true"])
    assert result.exit_code == 2
    assert "unknown application 'app-id' (known: shop); choose another with --application-id" in result.output


def test_openapi_output_has_no_carriage_returns_on_windows(contract: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows, a redirected stdout translates newlines to CRLF."""
    stdout = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(stdout, encoding="cp1252", newline="\r\n"))
    cli.main(["openapi", "--contract", str(contract)], standalone_mode=False)
    assert stdout.getvalue().endswith(b"}\n")
    assert b"\r" not in stdout.getvalue()
