"""Test the environment of the code under test: variables, public key and proxy exclusions."""

import pytest
from pytest_fake_credits.config_options import ENV_FIELDS

from fake_credits.sandbox import Sandbox
from fake_credits.sandbox_options import AuthProviderName, SandboxOptions
from fake_credits.tokens.keys import SigningKeys
from fake_credits.tokens.minting import AUTH_PROVIDERS
from fake_credits.transports.environment import ENV_VALUE_NAMES, env_values, env_variables, no_proxy_with_loopback


def new_sandbox(auth_provider: AuthProviderName = "plain") -> Sandbox:
    return Sandbox(SandboxOptions(auth_provider=auth_provider), SigningKeys())


def test_plugin_and_package_agree_on_fields_and_variables() -> None:
    """The plugin has its own table, as it must not import the package before a fixture is used."""
    assert tuple(ENV_FIELDS) == ENV_VALUE_NAMES == tuple(env_values(new_sandbox(), "http://h"))
    assert list(ENV_FIELDS.values()) == list(env_variables(new_sandbox(), "http://h"))


@pytest.mark.parametrize("auth_provider", AUTH_PROVIDERS)
def test_jwt_public_key_matches_signing_key(auth_provider: AuthProviderName) -> None:
    sandbox = new_sandbox(auth_provider)
    assert env_values(sandbox, "http://h")["jwt_public_key"] == sandbox.minter.signing_key.pem()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "127.0.0.1,localhost,::1"),
        ({"NO_PROXY": "a.example,b.example"}, "a.example,b.example,127.0.0.1,localhost,::1"),
        ({"NO_PROXY": "a.example, localhost", "no_proxy": "b.example"}, "b.example,a.example,localhost,127.0.0.1,::1"),
        ({"NO_PROXY": "*"}, "*"),
        ({"no_proxy": "a.example, *"}, "*"),
    ],
)
def test_no_proxy_gains_loopback_and_keeps_existing_hosts(variables: dict[str, str], expected: str) -> None:
    assert no_proxy_with_loopback(variables) == {"NO_PROXY": expected, "no_proxy": expected}
