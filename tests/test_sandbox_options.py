"""Test the options of a sandbox: where each can be given, its valid values, and how API keys are compared."""

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from pytest_fake_credits.config_options import PLUGIN_OPTIONS
from pytest_fake_credits.factory import Factory
from pytest_fake_credits.marker import MARKER_OPTIONS

from fake_credits.sandbox_options import (
    API_KEY_PREFIX,
    OPTION_RULES,
    AuthProviderName,
    FakeCreditsKwargs,
    OptionError,
    SandboxOptions,
    new_api_key,
)
from fake_credits.tokens.minting import AUTH_PROVIDERS
from tests.documentation import TEXT

ROOT = Path(__file__).resolve().parents[1]
PUBLIC_WORDS = (ROOT / "fixtures" / "public_words.txt").read_text()  # another test compares this with the code
OPTIONS = {option.name for option in fields(SandboxOptions)}
FLAGS = {"user": "users", "scenario": "faults", "keep-header": "keep_headers"}
"""The repeatable flags, whose names are singular, and the options that they set."""


def surfaces() -> dict[str, set[str]]:
    """Return the names of the options on each surface."""
    keywords = get_args(get_type_hints(Factory.__call__)["options"])[0]
    table = TEXT.partition("<!-- table: marker -->")[2].partition("<!-- end -->")[0]
    flags: dict[str, list[str]] = {
        command: re.findall(rf"^fake-credits {command} --([\w-]+)", PUBLIC_WORDS, re.MULTILINE)
        for command in ("serve", "run")
    }
    return {
        "rules": set(OPTION_RULES),
        "keywords of FakeCredits": set(FakeCreditsKwargs.__annotations__),
        "keywords of the factory": set(keywords.__annotations__),
        "marker": set(MARKER_OPTIONS),
        "docs": set(re.findall(r"`(\w+)=`", table)),
        "ini": set(re.findall(r"^ini fake_credits_(\w+)", PUBLIC_WORDS, re.MULTILINE)),
        "environment": {option.name for option in PLUGIN_OPTIONS if not option.ini_only},
        "control plane": set(re.findall(r"^POST /sandboxes body (\w+)", PUBLIC_WORDS, re.MULTILINE)),
        **{command: {FLAGS.get(name, name.replace("-", "_")) for name in names} for command, names in flags.items()},
    }


MISSING: dict[str, set[str]] = {
    "ini": {"balance", "users", "world", "clock", "faults", "delays", "gate_timeout_s"},
    "environment": OPTIONS - {"seed", "latency", "contract"},
    "control plane": {"contract", "world", "trust", "keep_headers", "delays"},  # set on the server, or only in process
    "serve": {"clock", "delays", "gate_timeout_s"},
    "run": {"clock", "delays", "gate_timeout_s"},
}


@pytest.mark.parametrize(("surface", "names"), surfaces().items(), ids=surfaces())
def test_every_surface_has_every_option_not_listed_as_missing(surface: str, names: set[str]) -> None:
    """A new option must be on every surface, or listed here as missing on purpose."""
    assert OPTIONS - names == MISSING.get(surface, set())


def test_plugin_defaults_match_sandbox_defaults() -> None:
    """The plugin repeats them so that it can show them without importing the package."""
    options: Any = SandboxOptions()
    names = OPTIONS - {"contract", "latency"}  # the plugin's default for these is ""
    defaults = {option.name: option.default for option in PLUGIN_OPTIONS if option.name in names}
    assert defaults == {name: getattr(options, name) for name in defaults}


def test_option_error_names_the_option_and_says_what_it_must_be() -> None:
    """Layers that write their own messages, such as the control plane, need both attributes."""
    with pytest.raises(OptionError, match="has seed='x': it must be an integer") as exc_info:
        SandboxOptions(seed="x")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    assert (exc_info.value.name, exc_info.value.expected) == ("seed", "an integer")


def test_error_does_not_show_an_api_key() -> None:
    with pytest.raises(OptionError) as exc_info:
        SandboxOptions(api_key="hush hush")
    assert "hush" not in str(exc_info.value)


def test_replaced_options_are_validated_again() -> None:
    options = SandboxOptions(balance=5, clock="2030-01-01T00:00:00Z")
    assert replace(options, seed=3) == SandboxOptions(balance=5, clock="2030-01-01T00:00:00Z", seed=3)
    with pytest.raises(ValueError, match="contradict each other"):
        replace(options, users={"user-id": 6})


def test_api_key_has_the_fake_prefix() -> None:
    assert new_api_key().startswith(API_KEY_PREFIX)


def test_new_api_keys_are_unique() -> None:
    assert len({new_api_key() for _ in range(100)}) == 100


def test_auth_provider_name_lists_every_provider() -> None:
    """Type checkers check ``auth_provider=`` against `AuthProviderName`."""
    assert get_args(AuthProviderName) == tuple(AUTH_PROVIDERS)
