"""Own the plugin's options, once: flags, ini and environment names derive from one table; know nothing of the fake.

Tuples rather than dataclasses: two of these cost a millisecond of every run, used or not. PYTEST_DONT_REWRITE
"""

import os
import string
from collections.abc import Callable, Mapping
from typing import NamedTuple

import pytest

__all__ = [
    "ENV_FIELDS",
    "PLUGIN_OPTIONS",
    "SETTINGS_KEY",
    "PluginOption",
    "PluginSetting",
    "add_options",
    "default_options",
    "env_templates",
    "is_enabled",
    "read_settings",
    "trusted_issuers",
]


class PluginOption(NamedTuple):
    """Be one option: how it is called everywhere, what it may be, and what it is unless given."""

    name: str
    help: str
    expected: str
    parse: Callable[[str], object]
    default: object
    ini_only: bool = False
    is_path: bool = False
    is_flag: bool = False
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


class PluginSetting(NamedTuple):
    """Be an option's value, and where it comes from."""

    value: object
    source: str

    @property
    def is_from_command_line(self) -> bool:
        """Tell whether the person who started pytest asked for it."""
        return self.source.startswith("--")


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(text)
        return text

    return parse


def _choice_option(name: str, help_text: str, *choices: str, variable_override: str = "") -> PluginOption:
    expected = f"one of {', '.join(choices)}"
    return PluginOption(
        name, help_text, expected, _one_of(*choices), default=choices[0], variable_override=variable_override
    )


def _split_names(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


def _text_option(name: str, help_text: str, default: str) -> PluginOption:
    return PluginOption(name=name, help=help_text, expected="text", parse=str, default=default, ini_only=True)


def _bool_option(name: str, help_text: str) -> PluginOption:
    return PluginOption(
        name, help_text, expected="true or false", parse=bool, default=False, ini_only=True, is_flag=True
    )


PLUGIN_OPTIONS = (
    PluginOption(name="seed", help="seed of every sandbox", expected="an integer", parse=int, default=0),
    _choice_option("mode", "how the fixture's own clients reach the sandbox", "in-process", "live"),
    # The obvious variable is that of ``fake-credits serve --log``, which takes other values.
    _choice_option(
        "log",
        "which tests' reports show the sandbox's exchanges",
        "failed",
        "all",
        "none",
        variable_override="FAKE_CREDITS_PYTEST_LOG",
    ),
    PluginOption(
        "latency", "default delay of every call", "milliseconds, uniform(10, 50) or lognormal(20, 200)", str, default=""
    ),
    PluginOption("contract", "contract file (TOML) of every sandbox", "a file", str, default="", is_path=True),
    _text_option("application_id", "id of the default application", "app-id"),
    _text_option("user_id", "id of the default user", "user-id"),
    _text_option("api_key", "constant API key, bound to each test's fresh sandbox in turn", ""),
    _text_option("auth_provider", "shape of users' tokens: the name of a preset", "plain"),
    _bool_option("early_env", "whether port, API key and environment stand before conftests and Django load"),
    _bool_option("autouse", "whether every test has a sandbox, asked for or not"),
    PluginOption(
        name="keep_headers",
        help="headers of requests that the journal keeps, beside idempotency-key and traceparent",
        expected="names with blanks or commas between them",
        parse=_split_names,
        default=(),
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

SETTINGS_KEY = pytest.StashKey[Mapping[str, PluginSetting]]()
_DEFAULTS_KEY = pytest.StashKey[tuple[Mapping[str, object], Mapping[str, object]]]()


def add_options(parser: pytest.Parser) -> None:
    """Teach pytest the options."""
    group = parser.getgroup("fake-credits", "a fake Credits API (fake-credits)")
    for option in PLUGIN_OPTIONS:
        help_text = f"{option.help}: {option.expected} (default: {option.default!r})"
        if option.is_flag:
            parser.addini(option.ini, help_text, type="bool", default=option.default)
        else:
            parser.addini(option.ini, help_text, default="")
        if not option.ini_only:
            group.addoption(option.flag, dest=option.ini, help=f"{option.help}: {option.expected}")
    parser.addini(
        "fake_credits_trust",
        "foreign issuers of users' tokens: lines ISSUER=FILE, each with its keys (JWKS or PEM)",
        type="linelist",
    )
    parser.addini(
        "fake_credits_intercept",
        "base URLs whose requests the fixture fake_credits answers in process, whatever library sends them: one a line",
        type="linelist",
    )
    parser.addini(
        "fake_credits_env",
        "what the fixture fake_credits_env sets instead of CREDITS_BASE_URL and so on: lines NAME=text, where text has "
        + ", ".join(f"{{{name}}}" for name in ENV_FIELDS),
        type="linelist",
    )


def read_settings(config: pytest.Config) -> dict[str, PluginSetting]:
    """Return every option's setting; raise UsageError for a value that can't be."""
    env_templates(config)
    trusted_issuers(config)
    return {option.name: _read_setting(option, config) for option in PLUGIN_OPTIONS}


def _read_setting(option: PluginOption, config: pytest.Config) -> PluginSetting:
    if option.is_flag:
        return PluginSetting(is_enabled(config, option.name), f"ini {option.ini}")
    sources = {option.flag: config.getoption(option.ini, None), f"ini {option.ini}": config.getini(option.ini)}
    if not option.ini_only:
        sources[f"environment {option.env_variable}"] = os.environ.get(option.env_variable)
    for source, text in sources.items():
        if text:
            try:
                return PluginSetting(
                    option.parse(_resolve_path(text, source, config) if option.is_path else text), source
                )
            except ValueError:
                raise pytest.UsageError(f"fake-credits: {source} is {text!r}, not {option.expected}") from None
    return PluginSetting(option.default, "default")


def is_enabled(config: pytest.Config, name: str) -> bool:
    """Tell whether an option that is true or false is true; raise UsageError where it is neither."""
    ini = f"fake_credits_{name}"
    try:
        return bool(config.getini(ini))
    except (ValueError, pytest.UsageError) as error:  # pytest's own, by its version, does not name the ini
        raise pytest.UsageError(f"fake-credits: ini {ini} is neither true nor false: {error}") from None


def _resolve_path(text: str, source: str, config: pytest.Config) -> str:
    """Return a path as its source means it: from the ini's folder, or from where pytest was started."""
    return str((config.rootpath if source.startswith("ini ") else config.invocation_params.dir) / text)


def trusted_issuers(config: pytest.Config) -> dict[str, str]:
    """Return the files of foreign issuers' keys, found from the ini's folder; raise UsageError for a bad line."""
    lines: list[str] = config.getini("fake_credits_trust")
    trust: dict[str, str] = {}
    for line in lines:
        issuer, equals, path = line.rpartition("=")
        if not (issuer.strip() and equals and path.strip()):
            raise pytest.UsageError(f"fake-credits: ini fake_credits_trust has the line {line!r}, not ISSUER=FILE")
        trust[issuer.strip()] = str(config.rootpath / path.strip())
    return trust


def default_options(config: pytest.Config, settings: Mapping[str, object]) -> dict[str, object]:
    """Return the options that a sandbox starts from: command line > ``settings`` > ini > environment.

    An option that none of them has is not among them: its default is the sandbox's.
    """
    if _DEFAULTS_KEY not in config.stash:
        config.stash[_DEFAULTS_KEY] = _read_defaults(config)
    defaults, from_command_line = config.stash[_DEFAULTS_KEY]
    return {**defaults, **settings, **from_command_line}


def _read_defaults(config: pytest.Config) -> tuple[Mapping[str, object], Mapping[str, object]]:
    plugin_only = ("mode", "log", "early_env", "autouse")
    mode = config.stash[SETTINGS_KEY]["mode"]
    settings = {name: each for name, each in config.stash[SETTINGS_KEY].items() if name not in plugin_only}
    settings["live"] = PluginSetting(mode.value == "live", mode.source)
    given = {name: setting for name, setting in settings.items() if setting.source != "default"}
    lines = {"trust": trusted_issuers(config), "intercept": tuple(config.getini("fake_credits_intercept"))}
    defaults = {name: setting.value for name, setting in given.items()} | {k: v for k, v in lines.items() if v}
    return defaults, {name: setting.value for name, setting in given.items() if setting.is_from_command_line}


def env_templates(config: pytest.Config) -> dict[str, str]:
    """Return the text to set each environment variable to, over `ENV_FIELDS`; raise UsageError for a bad line."""
    lines: list[str] = config.getini("fake_credits_env")
    if not lines:
        return {variable: f"{{{name}}}" for name, variable in ENV_FIELDS.items()}
    return dict(_parse_env_line(line) for line in lines)


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
