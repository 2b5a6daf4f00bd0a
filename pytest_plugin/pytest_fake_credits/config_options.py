"""The plugin's options: flags, ini options and environment variables derive from one table.

Imports nothing of the fake, because every run reads them. Tuples rather than dataclasses: two of these cost a
millisecond of every run. PYTEST_DONT_REWRITE
"""

import os
import string
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

__all__ = [
    "ENV_FIELDS",
    "PLUGIN_OPTIONS",
    "SETTINGS_KEY",
    "PluginOption",
    "PluginSetting",
    "add_options",
    "default_options",
    "is_enabled",
    "read_settings",
]


class PluginOption(NamedTuple):
    """One option: its name, what it may be, and its default."""

    name: str
    help: str
    default: object
    expected: str = "text"
    parse: Callable[[str], object] = str
    choices: tuple[str, ...] = ()
    ini_only: bool = False
    flag_only: bool = False
    is_path: bool = False
    variable_override: str = ""

    @property
    def flag(self) -> str:
        """Return its name on the command line."""
        return "--fake-credits-" + self.name.replace("_", "-")

    @property
    def ini(self) -> str:
        """Return its name in an ini file, and among pytest's parsed options."""
        return "fake_credits_" + self.name

    @property
    def env_variable(self) -> str:
        """Return the name of its environment variable."""
        return self.variable_override or self.ini.upper()

    @property
    def requirement(self) -> str:
        """Return what its value must be."""
        return f"one of {', '.join(self.choices)}" if self.choices else self.expected


class PluginSetting(NamedTuple):
    """An option's value and its source: a flag, an ini option, an environment variable or ``default``."""

    value: Any
    source: str


def _split_names(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


PLUGIN_OPTIONS = (
    PluginOption("seed", "seed of every sandbox", 0, "an integer", int),
    PluginOption(
        "mode", "how the fixture's own clients reach the sandbox", "in-process", choices=("in-process", "live")
    ),
    PluginOption(
        "log",
        "which tests' reports show the sandbox's exchanges",
        "failed",
        choices=("failed", "all", "none"),
        variable_override="FAKE_CREDITS_PYTEST_LOG",  # FAKE_CREDITS_LOG belongs to ``fake-credits serve --log``
    ),
    PluginOption("latency", "default delay of every call", "", "milliseconds, uniform(10, 50) or lognormal(20, 200)"),
    PluginOption("contract", "contract file (TOML) of every sandbox", "", "a file", is_path=True),
    PluginOption("application_id", "id of the default application", "app-id", ini_only=True),
    PluginOption("user_id", "id of the default user", "user-id", ini_only=True),
    PluginOption("api_key", "constant API key, bound to each test's fresh sandbox in turn", "", ini_only=True),
    PluginOption("auth_provider", "shape of users' tokens: the name of a preset", "plain", ini_only=True),
    PluginOption(
        "early_env",
        "whether port, API key and environment stand before conftests and Django load",
        False,
        "true or false",
        ini_only=True,
    ),
    PluginOption(
        "autouse", "whether every test has a sandbox, asked for or not", False, "true or false", ini_only=True
    ),
    PluginOption("explore", "inject every fault at every call of each test, and judge by the ledger", False),
    PluginOption(
        "explore_what", "what to inject while exploring", "default", "default, writes, same, all or names of faults"
    ),
    PluginOption("explore_depth", "largest number of faults in one run while exploring", 2, "1, 2 or 3", int),
    PluginOption("explore_budget", "largest number of runs with faults for each test", 200, "1 or more", int),
    PluginOption("explore_report", "file to write the explorations to", "", "a file: *.html, or JSON", is_path=True),
    PluginOption("schedule", "the faults of one run, which is judged", "", "such as '2:lost_after'", flag_only=True),
    PluginOption(
        "explore_ours",
        "modules whose calls are the tests' own while exploring, such as tests.helpers*",
        (),
        "names with blanks or commas between them",
        _split_names,
        ini_only=True,
    ),
    PluginOption(
        "keep_headers",
        "headers of requests that the journal keeps, in addition to idempotency-key and traceparent",
        (),
        "names with blanks or commas between them",
        _split_names,
        ini_only=True,
    ),
)
"""Every option of the plugin but the inis of lines: ``fake_credits_env``, ``_intercept`` and ``_trust``."""

ENV_FIELDS = {
    "base_url": "CREDITS_BASE_URL",
    "api_key": "CREDITS_API_KEY",
    "application_id": "CREDITS_APPLICATION_ID",
    "user_id": "CREDITS_USER_ID",
    "user_token": "CREDITS_USER_TOKEN",
    "jwks_url": "CREDITS_JWKS_URL",
    "jwt_public_key": "CREDITS_JWT_PUBLIC_KEY",
}
"""What ``fake_credits_env`` can set, each with the variable it is in unless the ini says otherwise."""

_LINE_OPTIONS = {
    "trust": "foreign issuers of users' tokens: lines ISSUER=FILE, each with its keys (JWKS or PEM)",
    "intercept": "base URLs whose requests the fixture fake_credits answers in process, whatever library sends them: "
    "one a line",
    "env": "what the fixture fake_credits_env sets instead of CREDITS_BASE_URL and so on: lines NAME=text, where text "
    "has " + ", ".join(f"{{{name}}}" for name in ENV_FIELDS),
}
_PLUGIN_ONLY = ("mode", "log", "early_env", "autouse", "env", "schedule")  # and those that begin with explore

SETTINGS_KEY = pytest.StashKey[Mapping[str, PluginSetting]]()
_DEFAULTS_KEY = pytest.StashKey[tuple[Mapping[str, object], Mapping[str, object]]]()


def add_options(parser: pytest.Parser) -> None:
    """Add the options to pytest's."""
    group = parser.getgroup("fake-credits", "a fake Credits API (fake-credits)")
    for option in PLUGIN_OPTIONS:
        help_text = f"{option.help}: {option.requirement} (default: {option.default!r})"
        if option.default is False:
            parser.addini(option.ini, help_text, type="bool", default=False)
        elif not option.flag_only:
            parser.addini(option.ini, help_text, default="")
        if option.default is False and not option.ini_only:
            group.addoption(option.flag, dest=option.ini, action="store_true", help=option.help)
        elif not option.ini_only:
            group.addoption(option.flag, dest=option.ini, help=f"{option.help}: {option.requirement}")
    for name, help_text in _LINE_OPTIONS.items():
        parser.addini(f"fake_credits_{name}", help_text, type="linelist")


def read_settings(config: pytest.Config) -> dict[str, PluginSetting]:
    """Return every option's setting; raise UsageError for a value that can't be."""
    settings = {option.name: _read_setting(option, config) for option in PLUGIN_OPTIONS}
    lines: dict[str, list[str]] = {name: config.getini(f"fake_credits_{name}") for name in _LINE_OPTIONS}
    values = {
        "trust": _trusted_issuers(lines["trust"], config.rootpath),
        "intercept": tuple(lines["intercept"]),
        "env": dict(map(_parse_env_line, lines["env"]))
        or {variable: f"{{{name}}}" for name, variable in ENV_FIELDS.items()},
    }
    for name, value in values.items():
        settings[name] = PluginSetting(value, f"ini fake_credits_{name}" if lines[name] else "default")
    return settings


def _read_setting(option: PluginOption, config: pytest.Config) -> PluginSetting:
    if option.default is False:
        return _read_switch(option, config)
    sources = {option.flag: config.getoption(option.ini, None)}
    if not option.flag_only:
        sources[f"ini {option.ini}"] = config.getini(option.ini)
    if not (option.ini_only or option.flag_only):
        sources[f"environment {option.env_variable}"] = os.environ.get(option.env_variable)
    source, text = next(((source, text) for source, text in sources.items() if text), ("default", ""))
    if not text:
        return PluginSetting(option.default, source)
    try:
        if option.choices and text not in option.choices:
            raise ValueError(text)
        value = option.parse(text)
    except ValueError:
        raise pytest.UsageError(f"fake-credits: {source} is {text!r}, not {option.requirement}") from None
    if option.is_path:  # from the ini's folder, or from where pytest was started
        value = str((config.rootpath if source.startswith("ini ") else config.invocation_params.dir) / text)
    return PluginSetting(value, source)


def _read_switch(option: PluginOption, config: pytest.Config) -> PluginSetting:
    if not option.ini_only:
        if config.getoption(option.ini, None):
            return PluginSetting(True, option.flag)
        text = os.environ.get(option.env_variable, "").lower()
        if text not in ("", "0", "1", "true", "false"):
            raise pytest.UsageError(f"fake-credits: environment {option.env_variable} is {text!r}, not 1 or 0")
        if text in ("1", "true"):
            return PluginSetting(True, f"environment {option.env_variable}")
    return PluginSetting(is_enabled(config, option.name), f"ini {option.ini}")


def is_enabled(config: pytest.Config, name: str) -> bool:
    """Return the value of a boolean option; raise UsageError if it is not one."""
    ini = f"fake_credits_{name}"
    try:
        return bool(config.getini(ini))
    except (ValueError, pytest.UsageError) as error:  # pytest's own, by its version, does not name the ini
        raise pytest.UsageError(f"fake-credits: ini {ini} is neither true nor false: {error}") from None


def default_options(config: pytest.Config, settings: Mapping[str, object]) -> dict[str, object]:
    """Return the options that a sandbox starts from: command line > ``settings`` > ini > environment.

    An option that none of them has is not among them: its default is the sandbox's.
    """
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
            raise pytest.UsageError(f"fake-credits: ini fake_credits_trust has the line {line!r}, not ISSUER=FILE")
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
            f"fake-credits: ini fake_credits_env has the line {line!r}, not NAME=text with {allowed}"
        )
    return name.strip(), text.strip()
