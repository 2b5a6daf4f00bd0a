"""The plugin's options: flags, ini options and environment variables, derived from one table.

Every pytest run imports this module, so it does not import the fake. It uses named tuples, because defining a dataclass
takes 0.5 ms. PYTEST_DONT_REWRITE
"""

import os
import string
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest


class PluginOption(NamedTuple):
    """An option: its name, allowed values and default."""

    name: str
    help: str
    default: object
    expected: str = ""
    parse: Callable[[str], object] = str
    choices: tuple[str, ...] = ()
    ini_only: bool = False
    is_path: bool = False
    variable_override: str = ""

    @property
    def flag(self) -> str:
        """Return the name of the flag."""
        return "--fake-credits-" + self.name.replace("_", "-")

    @property
    def ini(self) -> str:
        """Return the name of the ini option, which is also the ``dest`` of the flag."""
        return "fake_credits_" + self.name

    @property
    def env_variable(self) -> str:
        """Return the name of the environment variable."""
        return self.variable_override or self.ini.upper()

    @property
    def requirement(self) -> str:
        """Return a description of the allowed values, or an empty string if any text is allowed."""
        return f"one of {', '.join(self.choices)}" if self.choices else self.expected

    @property
    def help_text(self) -> str:
        """Return the help text, including the allowed values."""
        return f"{self.help}: {self.requirement}" if self.requirement else self.help


class PluginSetting(NamedTuple):
    """An option's value and its source: a flag, an ini option, an environment variable or ``default``."""

    value: Any
    source: str


def _split_names(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


PLUGIN_OPTIONS = (
    PluginOption("seed", "random seed for every sandbox", 0, "an integer", int),
    PluginOption("mode", "how the fixtures' clients reach the sandbox", "in-process", choices=("in-process", "live")),
    PluginOption(
        "log",
        "which tests' reports show the sandbox's exchanges",
        "failed",
        choices=("failed", "all", "none"),
        variable_override="FAKE_CREDITS_PYTEST_LOG",  # FAKE_CREDITS_LOG belongs to ``fake-credits serve --log``
    ),
    PluginOption("latency", "default delay of every call", "", "milliseconds, uniform(10, 50) or lognormal(20, 200)"),
    PluginOption("contract", "contract for every sandbox", "", "a TOML file", is_path=True),
    PluginOption("application_id", "id of the default application", "app-id", ini_only=True),
    PluginOption("user_id", "id of the default user", "user-id", ini_only=True),
    PluginOption("api_key", "fixed API key, used by each test's sandbox in turn", "", ini_only=True),
    PluginOption("auth_provider", "auth provider whose tokens are imitated", "plain", ini_only=True),
    PluginOption("issuer", "token issuer (if empty, the provider's)", "", "a URL or `server`", ini_only=True),
    PluginOption(
        "early_env",
        "whether to set the port, API key and environment variables before conftests and Django load",
        False,
        "true or false",
        ini_only=True,
    ),
    PluginOption(
        "autouse",
        "whether tests have a sandbox even if they do not request one",
        False,
        "true or false",
        ini_only=True,
    ),
    PluginOption(
        "explore",
        "inject faults into the application's calls, and check the results against the ledger",
        False,
        "true or false",
    ),
    PluginOption(
        "explore_what",
        "faults to inject while exploring",
        "default",
        "default, writes, same, all, or fault names separated by commas",
    ),
    PluginOption("explore_depth", "maximum number of faults in one run of an exploration", 2, "1, 2 or 3", int),
    PluginOption("explore_budget", "maximum number of runs with faults for each test", 200, "1 or more", int),
    PluginOption(
        "explore_report",
        "file for a report on all explorations",
        "",
        "*.html, *.xml, *.md, or any other name for JSON",
        is_path=True,
    ),
    PluginOption("schedule", "schedule to replay, such as '2:lost_after'", ""),
    PluginOption(
        "explore_ours",
        "modules whose calls exploration treats as the test's own, such as tests.helpers*",
        (),
        "names separated by spaces or commas",
        _split_names,
        ini_only=True,
    ),
    PluginOption(
        "keep_headers",
        "request headers that the journal keeps, in addition to idempotency-key and traceparent",
        (),
        "names separated by spaces or commas",
        _split_names,
        ini_only=True,
    ),
)
"""Every option except the multi-line ``fake_credits_env``, ``fake_credits_intercept`` and ``fake_credits_trust``."""

ENV_FIELDS = {
    "base_url": "CREDITS_BASE_URL",
    "api_key": "CREDITS_API_KEY",
    "application_id": "CREDITS_APPLICATION_ID",
    "user_id": "CREDITS_USER_ID",
    "user_token": "CREDITS_USER_TOKEN",
    "jwks_url": "CREDITS_JWKS_URL",
    "jwt_public_key": "CREDITS_JWT_PUBLIC_KEY",
}
"""The fields of ``fake_credits_env``, each with its default environment variable."""

_LINE_OPTIONS = {
    "trust": "trusted foreign issuers, each with a file of its keys (JWKS or PEM): one ISSUER=FILE per line",
    "intercept": "base URLs that the fake_credits fixture intercepts in process, for every supported library: one "
    "URL per line",
    "env": "variables that the fake_credits_env fixture sets instead of the default CREDITS_* variables: one "
    "NAME=text per line, where text may contain " + ", ".join(f"{{{name}}}" for name in ENV_FIELDS),
}
_PLUGIN_ONLY = ("mode", "log", "early_env", "autouse", "env", "schedule")  # and all names that begin with "explore"

SETTINGS_KEY = pytest.StashKey[Mapping[str, PluginSetting]]()
_DEFAULTS_KEY = pytest.StashKey[tuple[Mapping[str, object], Mapping[str, object]]]()


def add_options(parser: pytest.Parser) -> None:
    """Add the options to pytest."""
    group = parser.getgroup("fake-credits", "a fake Credits API (fake-credits)")
    for option in PLUGIN_OPTIONS:
        help_text = f"{option.help_text} (default: {option.default!r})"
        if option.default is False:
            parser.addini(option.ini, help_text, type="bool", default=False)
        else:
            parser.addini(option.ini, help_text, default="")
        if option.default is False and not option.ini_only:
            group.addoption(option.flag, dest=option.ini, action="store_true", help=option.help)
        elif not option.ini_only:
            metavar = "FILE" if option.is_path else option.name.rpartition("_")[2].upper()
            group.addoption(option.flag, dest=option.ini, metavar=metavar, help=option.help_text)
    for name, help_text in _LINE_OPTIONS.items():
        parser.addini(f"fake_credits_{name}", help_text, type="linelist")


def read_settings(config: pytest.Config) -> dict[str, PluginSetting]:
    """Return the setting of every option; raise UsageError for an invalid value."""
    settings = {option.name: _read_setting(option, config) for option in PLUGIN_OPTIONS}
    lines: dict[str, list[str]] = {name: config.getini(f"fake_credits_{name}") for name in _LINE_OPTIONS}
    values = {
        "trust": _trusted_issuers(lines["trust"], config.rootpath),
        "intercept": tuple(lines["intercept"]),
        "env": dict(map(_parse_env_line, lines["env"]))
        or {variable: f"{{{name}}}" for name, variable in ENV_FIELDS.items()},
    }
    for name, value in values.items():
        settings[name] = PluginSetting(value, f"ini option fake_credits_{name}" if lines[name] else "default")
    return settings


def _read_setting(option: PluginOption, config: pytest.Config) -> PluginSetting:
    if option.default is False:
        return _read_switch(option, config)
    flag_text: str | None = config.getoption(option.ini, None)
    if flag_text == "":
        raise pytest.UsageError(f"fake-credits: {option.flag} must not be empty")
    sources = {option.flag: flag_text, f"ini option {option.ini}": config.getini(option.ini)}
    if not option.ini_only:
        sources[f"environment variable {option.env_variable}"] = os.environ.get(option.env_variable)
    source, text = next(((source, text) for source, text in sources.items() if text), ("default", ""))
    if not text:
        return PluginSetting(option.default, source)
    try:
        if option.choices and text not in option.choices:
            raise ValueError(text)
        value = option.parse(text)
    except ValueError:
        raise pytest.UsageError(f"fake-credits: {source} must be {option.requirement}, got {text!r}") from None
    if option.is_path:  # relative to the ini file, or to the folder in which pytest was started
        value = str((config.rootpath if source.startswith("ini ") else config.invocation_params.dir) / text)
    return PluginSetting(value, source)


def _read_switch(option: PluginOption, config: pytest.Config) -> PluginSetting:
    if not option.ini_only:
        if config.getoption(option.ini, None):
            return PluginSetting(True, option.flag)
        text = os.environ.get(option.env_variable, "").lower()
        if text not in ("", "0", "1", "true", "false"):
            raise pytest.UsageError(
                f"fake-credits: environment variable {option.env_variable} must be 1 or 0, got {text!r}"
            )
        if text in ("1", "true"):
            return PluginSetting(True, f"environment variable {option.env_variable}")
    return PluginSetting(is_enabled(config, option.name), f"ini option {option.ini}")


def is_enabled(config: pytest.Config, name: str) -> bool:
    """Return the value of a boolean ini option; raise UsageError if the value is not a boolean."""
    ini = f"fake_credits_{name}"
    try:
        return bool(config.getini(ini))
    except (ValueError, pytest.UsageError) as error:  # older pytest versions do not name the option in the message
        raise pytest.UsageError(f"fake-credits: ini option {ini} must be true or false: {error}") from None


def default_options(config: pytest.Config, settings: Mapping[str, object]) -> dict[str, object]:
    """Return sandbox options from the command line, ``settings``, ini file and environment, in order of precedence."""
    if _DEFAULTS_KEY not in config.stash:
        given = {name: each for name, each in config.stash[SETTINGS_KEY].items() if each.source != "default"}
        if mode := given.get("mode"):
            given["live"] = mode._replace(value=mode.value == "live")
        given = {
            name: each for name, each in given.items() if name not in _PLUGIN_ONLY and not name.startswith("explore")
        }
        config.stash[_DEFAULTS_KEY] = (
            {name: each.value for name, each in given.items()},
            {name: each.value for name, each in given.items() if each.source.startswith("--")},
        )
    defaults, from_command_line = config.stash[_DEFAULTS_KEY]
    return {**defaults, **settings, **from_command_line}


def _trusted_issuers(lines: Sequence[str], folder: Path) -> dict[str, str]:
    trust: dict[str, str] = {}
    for line in lines:
        issuer, _, path = line.rpartition("=")
        if not (issuer.strip() and path.strip()):
            raise pytest.UsageError(
                f"fake-credits: ini option fake_credits_trust: {line!r} does not have the form ISSUER=FILE"
            )
        trust[issuer.strip()] = str(folder / path.strip())
    return trust


def _parse_env_line(line: str) -> tuple[str, str]:
    name, equals, text = line.partition("=")
    try:
        fields = [part[1] for part in string.Formatter().parse(text) if part[1] is not None]
    except ValueError:
        fields = [text]
    if not name.strip() or not equals or not set(fields) <= set(ENV_FIELDS):
        allowed = ", ".join(f"{{{field}}}" for field in ENV_FIELDS)
        raise pytest.UsageError(
            f"fake-credits: ini option fake_credits_env: {line!r} does not have the form NAME=text, where text "
            f"may contain {allowed}"
        )
    return name.strip(), text.strip()
