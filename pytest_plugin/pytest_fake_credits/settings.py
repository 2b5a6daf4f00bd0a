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
    "OPTIONS",
    "SETTINGS",
    "Option",
    "Setting",
    "add_options",
    "default_words",
    "env_templates",
    "is_on",
    "read_settings",
    "trust_lines",
]


class Option(NamedTuple):
    """Be one option: how it is called everywhere, what it may be, and what it is unless given."""

    name: str
    help: str
    rule: str
    parse: Callable[[str], object]
    default: object
    ini_only: bool = False
    is_path: bool = False
    is_flag: bool = False
    variable: str = ""

    @property
    def flag(self) -> str:
        """Return its name on the command line."""
        return "--fake-credits-" + self.name.replace("_", "-")

    @property
    def ini(self) -> str:
        """Return its name in an ini file, and among pytest's parsed options."""
        return "fake_credits_" + self.name

    @property
    def environment(self) -> str:
        """Return the name of its environment variable."""
        return self.variable or self.ini.upper()


class Setting(NamedTuple):
    """Be an option's value, and where it comes from."""

    value: object
    source: str

    @property
    def on_command_line(self) -> bool:
        """Tell whether the person who started pytest asked for it."""
        return self.source.startswith("--")


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(text)
        return text

    return parse


def _choice(name: str, text: str, *choices: str, variable: str = "") -> Option:
    rule = f"one of {', '.join(choices)}"
    return Option(name, text, rule, _one_of(*choices), default=choices[0], variable=variable)


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


def _id(name: str, text: str, default: str) -> Option:
    return Option(name=name, help=text, rule="text", parse=str, default=default, ini_only=True)


def _flag(name: str, text: str) -> Option:
    return Option(name, text, rule="true or false", parse=bool, default=False, ini_only=True, is_flag=True)


OPTIONS = (
    Option(name="seed", help="seed of every sandbox", rule="an integer", parse=int, default=0),
    _choice("mode", "how the fixture's own clients reach the sandbox", "in-process", "live"),
    # The obvious variable is that of ``fake-credits serve --log``, which takes other values.
    _choice(
        "log",
        "which tests' reports show the sandbox's exchanges",
        "failed",
        "all",
        "none",
        variable="FAKE_CREDITS_PYTEST_LOG",
    ),
    Option(
        "latency", "default delay of every call", "milliseconds, uniform(10, 50) or lognormal(20, 200)", str, default=""
    ),
    Option("contract", "contract file (TOML) of every sandbox", "a file", str, default="", is_path=True),
    _id("application_id", "id of the default application", "app-id"),
    _id("user_id", "id of the default user", "user-id"),
    _id("api_key", "constant API key, bound to each test's fresh sandbox in turn", ""),
    _id("jwt", "shape of users' tokens: the name of a preset", "plain"),
    _flag("early_env", "whether port, API key and environment stand before conftests and Django load"),
    _flag("autouse", "whether every test has a sandbox, asked for or not"),
    Option(
        name="keep_headers",
        help="headers of requests that the journal keeps, beside idempotency-key and traceparent",
        rule="names with blanks or commas between them",
        parse=_names,
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

SETTINGS = pytest.StashKey[Mapping[str, Setting]]()
_DEFAULTS = pytest.StashKey[tuple[Mapping[str, object], Mapping[str, object]]]()


def add_options(parser: pytest.Parser) -> None:
    """Teach pytest the options."""
    group = parser.getgroup("fake-credits", "a fake Credits API (fake-credits)")
    for option in OPTIONS:
        explained = f"{option.help}: {option.rule} (default: {option.default!r})"
        if option.is_flag:
            parser.addini(option.ini, explained, type="bool", default=option.default)
        else:
            parser.addini(option.ini, explained, default="")
        if not option.ini_only:
            group.addoption(option.flag, dest=option.ini, help=f"{option.help}: {option.rule}")
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


def read_settings(config: pytest.Config) -> dict[str, Setting]:
    """Return every option's setting; raise UsageError for a value that can't be."""
    env_templates(config)
    trust_lines(config)
    return {option.name: _read(option, config) for option in OPTIONS}


def _read(option: Option, config: pytest.Config) -> Setting:
    if option.is_flag:
        return Setting(is_on(config, option.name), f"ini {option.ini}")
    given = {option.flag: config.getoption(option.ini, None), f"ini {option.ini}": config.getini(option.ini)}
    if not option.ini_only:
        given[f"environment {option.environment}"] = os.environ.get(option.environment)
    for source, text in given.items():
        if text:
            try:
                return Setting(option.parse(_located(text, source, config) if option.is_path else text), source)
            except ValueError:
                raise pytest.UsageError(f"fake-credits: {source} is {text!r}, not {option.rule}") from None
    return Setting(option.default, "default")


def is_on(config: pytest.Config, name: str) -> bool:
    """Tell whether an option that is true or false is true; raise UsageError where it is neither."""
    ini = f"fake_credits_{name}"
    try:
        return bool(config.getini(ini))
    except (ValueError, pytest.UsageError) as error:  # pytest's own, by its version, does not name the ini
        raise pytest.UsageError(f"fake-credits: ini {ini} is neither true nor false: {error}") from None


def _located(text: str, source: str, config: pytest.Config) -> str:
    """Return a path as its source means it: from the ini's folder, or from where pytest was started."""
    return str((config.rootpath if source.startswith("ini ") else config.invocation_params.dir) / text)


def trust_lines(config: pytest.Config) -> dict[str, str]:
    """Return the files of foreign issuers' keys, found from the ini's folder; raise UsageError for a bad line."""
    lines: list[str] = config.getini("fake_credits_trust")
    trust: dict[str, str] = {}
    for line in lines:
        issuer, equals, path = line.rpartition("=")
        if not (issuer.strip() and equals and path.strip()):
            raise pytest.UsageError(f"fake-credits: ini fake_credits_trust has the line {line!r}, not ISSUER=FILE")
        trust[issuer.strip()] = str(config.rootpath / path.strip())
    return trust


def default_words(config: pytest.Config, own: Mapping[str, object]) -> dict[str, object]:
    """Return the words that a sandbox starts from: command line > ``own`` > ini > environment > default."""
    if _DEFAULTS not in config.stash:
        config.stash[_DEFAULTS] = _read_defaults(config)
    defaults, asked = config.stash[_DEFAULTS]
    return {**defaults, **own, **asked}


def _read_defaults(config: pytest.Config) -> tuple[Mapping[str, object], Mapping[str, object]]:
    """Return the words of the whole session, and those of them that the command line has."""
    settings = config.stash[SETTINGS]
    names = ("seed", "application_id", "user_id", "api_key", "contract", "jwt", "keep_headers")
    words = {name: settings[name] for name in names}
    words["trust"] = Setting(trust_lines(config), "ini fake_credits_trust")
    words["intercept"] = Setting(tuple(config.getini("fake_credits_intercept")), "ini fake_credits_intercept")
    if settings["latency"].value:
        words["latency"] = settings["latency"]
    words["live"] = Setting(settings["mode"].value == "live", settings["mode"].source)
    asked = {name: setting.value for name, setting in words.items() if setting.on_command_line}
    return {name: setting.value for name, setting in words.items()}, asked


def env_templates(config: pytest.Config) -> dict[str, str]:
    """Return the text to set each environment variable to, over `ENV_FIELDS`; raise UsageError for a bad line."""
    lines: list[str] = config.getini("fake_credits_env")
    if not lines:
        return {variable: f"{{{name}}}" for name, variable in ENV_FIELDS.items()}
    return dict(_env_line(line) for line in lines)


def _env_line(line: str) -> tuple[str, str]:
    name, equals, text = line.partition("=")
    try:
        fields = [part[1] for part in string.Formatter().parse(text) if part[1] is not None]
    except ValueError:
        fields = [text]
    if not name.strip() or not equals or not set(fields) <= set(ENV_FIELDS):
        known = ", ".join(f"{{{field}}}" for field in ENV_FIELDS)
        raise pytest.UsageError(f"fake-credits: ini fake_credits_env has the line {line!r}, not NAME=text with {known}")
    return name.strip(), text.strip()
