"""`token`: tokens for servers that share a key file, and the key file itself."""

import stat
from functools import cache
from pathlib import Path

import jwt
import pytest
from click.testing import CliRunner

from fake_credits.api.app import create_app
from fake_credits.cli.bootstrap import load_signing_keys
from fake_credits.cli.main import cli
from fake_credits.client.user import UserClient
from fake_credits.clock import wall_clock_ms
from fake_credits.errors import ApiError
from fake_credits.sandbox import Sandbox
from fake_credits.sandbox_options import AuthProviderName, SandboxOptions
from fake_credits.tokens.bad_tokens import BAD_TOKENS
from fake_credits.tokens.keys import SigningKeys
from fake_credits.tokens.minting import AUTH_PROVIDERS
from fake_credits.tokens.verifying import Verifier
from fake_credits.transports.in_process import InProcessDriver, InProcessTransport

cached_keys = cache(load_signing_keys)  # loading an RSA key checks its primes, which takes 50 ms


def print_token(keys: Path, *arguments: str) -> str:
    result = CliRunner().invoke(cli, ["token", "ada", "--key-file", str(keys), *arguments])
    assert result.exit_code == 0, result.output
    return result.output.strip()


def get_balance(keys: Path, token: str, preset: AuthProviderName = "plain") -> int:
    """Return the user's balance from a server that uses the given key file."""
    sandbox = Sandbox(SandboxOptions(users={"ada": 5}, auth_provider=preset), cached_keys(keys), "s1")
    transport = InProcessTransport(InProcessDriver(create_app(sandbox.contract), sandbox))
    return UserClient("http://credits.test", "app-id", token, transport=transport).get_balance("ada").balance


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("keys") / "keys.pem"
    print_token(file)
    return file


@pytest.mark.parametrize("preset", AUTH_PROVIDERS)
def test_token_is_accepted_by_a_server_with_the_same_keys_and_preset(keys: Path, preset: AuthProviderName) -> None:
    assert get_balance(keys, print_token(keys, "--auth-provider", preset), preset) == 5


def test_issuer_flag_names_the_servers_issuer(keys: Path) -> None:
    token = print_token(keys, "--issuer", "http://127.0.0.1:8402")
    assert jwt.decode(token, options={"verify_signature": False})["iss"] == "http://127.0.0.1:8402"
    sandbox = Sandbox(SandboxOptions(issuer="http://127.0.0.1:8402"), cached_keys(keys), "s1")
    assert Verifier(sandbox.issuers).verify(token, wall_clock_ms()).user_id == "ada"


@pytest.mark.parametrize("kind", BAD_TOKENS)
def test_bad_token_is_rejected_with_its_error_code(keys: Path, kind: str) -> None:
    with pytest.raises(ApiError) as exc_info:
        get_balance(keys, print_token(keys, "--bad", kind))
    assert (exc_info.value.status, exc_info.value.code) == (BAD_TOKENS[kind].status, BAD_TOKENS[kind].code)


def test_expires_in_sets_the_token_lifetime(keys: Path) -> None:
    import jwt

    claims = jwt.decode(print_token(keys, "--expires-in", "60"), options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 60


def test_key_file_is_private_and_leaves_no_temporary_file(keys: Path) -> None:
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600
    assert list(keys.parent.iterdir()) == [keys]


def test_keys_without_a_key_file_are_generated_in_memory() -> None:
    assert isinstance(load_signing_keys(None), SigningKeys)
    assert load_signing_keys(None).published_keys() == ()
