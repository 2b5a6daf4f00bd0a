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
from tests.cli.conftest import Started

CONTRACT = 'version = 1\n[routes]\ngetBalance = "GET /v9/{applicationId}/{userId}/credits"\n'


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(CONTRACT)
    return path


def test_openapi_prints_the_document_of_a_contract(contract: Path) -> None:
    printed = CliRunner().invoke(cli, ["openapi", "--contract", str(contract)])
    assert "/v9/{applicationId}/{userId}/credits" in json.loads(printed.output)["paths"]


def test_a_contract_that_can_not_be_is_wrong_usage_that_names_file_key_and_the_nearest_name(contract: Path) -> None:
    contract.write_text("version = 1\npagesize = 3\n")
    refused = CliRunner().invoke(cli, ["openapi", "--contract", str(contract)])
    assert refused.exit_code == 2
    assert "mine.toml: pagesize: there is no such setting: did you mean 'page_size'?" in refused.output


def test_a_server_speaks_its_contract(start: Callable[..., Started], contract: Path) -> None:
    given = start("serve", "--contract", str(contract), "--balance", "5").variables
    url, key = given["CREDITS_BASE_URL"], given["CREDITS_API_KEY"]
    with ServerClient(url, key, contract=load_contract(contract)) as client:
        assert client.get_balance("app-id", "user-id").balance == 5
    document = httpx2.get(url + "/_fake/openapi.json").json()
    assert "/v9/{applicationId}/{userId}/credits" in document["paths"]


def test_a_file_without_keys_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "jwks.json").write_text("{}")
    refused = CliRunner().invoke(cli, ["run", "--trust", f"https://x/={tmp_path / 'jwks.json'}", "--", "true"])
    assert refused.exit_code == 2
    assert "is neither PEM nor a JWK Set" in refused.output


def test_openapi_prints_the_same_bytes_on_windows(contract: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There a redirected stdout has CRLF."""
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="cp1252", newline="\r\n"))
    cli.main(["openapi", "--contract", str(contract)], standalone_mode=False)
    assert printed.getvalue().endswith(b"}\n")
    assert b"\r" not in printed.getvalue()
