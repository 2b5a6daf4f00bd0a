"""What the code under test finds in its environment is the same, however it is started."""

import pytest
from pytest_fake_credits.settings import ENV_FIELDS

from fake_credits.auth.keys import SigningKeys
from fake_credits.auth.providers import PRESETS
from fake_credits.drivers.environment import FIELDS, environment, fields_of, with_loopback
from fake_credits.sandbox import Sandbox, SandboxSettings


def sandbox(jwt: str = "plain") -> Sandbox:
    return Sandbox(SandboxSettings(jwt=jwt), SigningKeys())


def test_the_plugin_names_the_same_fields_and_variables() -> None:
    """The plugin's table is one of its own, as it may import nothing of ours before a fixture is used."""
    assert tuple(ENV_FIELDS) == FIELDS == tuple(fields_of(sandbox(), "http://h"))
    assert list(ENV_FIELDS.values()) == list(environment(sandbox(), "http://h"))


@pytest.mark.parametrize("jwt", PRESETS)
def test_the_public_key_is_the_one_that_signs(jwt: str) -> None:
    made = sandbox(jwt)
    assert fields_of(made, "http://h")["jwt_public_key"] == made.minter.signing_key.verifying.pem()


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
    assert with_loopback(variables) == {"NO_PROXY": merged, "no_proxy": merged}
