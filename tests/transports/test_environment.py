"""What the code under test finds in its environment is the same, however it is started."""

import pytest
from pytest_fake_credits.config_options import ENV_FIELDS

from fake_credits.sandbox import Sandbox
from fake_credits.sandbox_options import SandboxOptions
from fake_credits.tokens.keys import SigningKeys
from fake_credits.tokens.providers import AUTH_PROVIDERS
from fake_credits.transports.environment import ENV_VALUE_NAMES, env_values, env_variables, no_proxy_with_loopback


def sandbox(auth_provider: str = "plain") -> Sandbox:
    return Sandbox(SandboxOptions(auth_provider=auth_provider), SigningKeys())


def test_the_plugin_names_the_same_fields_and_variables() -> None:
    """The plugin's table is one of its own, as it may import nothing of ours before a fixture is used."""
    assert tuple(ENV_FIELDS) == ENV_VALUE_NAMES == tuple(env_values(sandbox(), "http://h"))
    assert list(ENV_FIELDS.values()) == list(env_variables(sandbox(), "http://h"))


@pytest.mark.parametrize("auth_provider", AUTH_PROVIDERS)
def test_the_public_key_is_the_one_that_signs(auth_provider: str) -> None:
    made = sandbox(auth_provider)
    assert env_values(made, "http://h")["jwt_public_key"] == made.minter.signing_key.verifying_key.pem()


@pytest.mark.parametrize(
    ("variables", "merged"),
    [
        ({}, "127.0.0.1,localhost,::1"),
        ({"NO_PROXY": "a.example,b.example"}, "a.example,b.example,127.0.0.1,localhost,::1"),
        ({"NO_PROXY": "a.example, localhost", "no_proxy": "b.example"}, "b.example,a.example,localhost,127.0.0.1,::1"),
        ({"NO_PROXY": "*"}, "*"),
        ({"no_proxy": "a.example, *"}, "*"),
    ],
)
def test_loopback_goes_past_the_proxy_and_what_did_before_still_does(variables: dict[str, str], merged: str) -> None:
    assert no_proxy_with_loopback(variables) == {"NO_PROXY": merged, "no_proxy": merged}
