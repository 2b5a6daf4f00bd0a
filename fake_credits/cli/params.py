"""Own what a flag's value may be, and what is said where it may not; know nothing of which flag it is."""

import math
import os
import re
import shlex
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from string import Formatter
from typing import Any
from urllib.parse import urlsplit

import click

from fake_credits.contract import DEFAULT_CONTRACT, MAX_AMOUNT
from fake_credits.errors import did_you_mean
from fake_credits.transports.environment import ENV_VALUE_NAMES

__all__ = [
    "ENV_PLACEHOLDERS",
    "LOG_FORMATS",
    "QuotedList",
    "Validated",
    "existing_file",
    "health_url",
    "parse_env_variable",
    "parse_issuer_file",
    "parse_path",
    "parse_seconds",
    "parse_user_balance",
    "validate_api_key",
    "validate_auth_provider",
    "validate_bad_token_kind",
    "validate_base_url",
    "validate_control_token",
    "validate_host",
    "validate_id",
    "validate_latency",
    "validate_scenario",
    "validate_world",
    "writable_file",
]

LOG_FORMATS = ("text", "json", "off")
ENV_PLACEHOLDERS = ENV_VALUE_NAMES
"""What ``--env`` can fill in: the variables that `run` sets, in lower case and without ``CREDITS_``."""

_HEADER_TOKEN_PATTERN = re.compile(r"[\x21-\x7e]{1,256}")
_HOST_NAME_PATTERN = re.compile(r"[A-Za-z0-9._~-]{1,253}|\[?[0-9A-Fa-f:.]{2,45}(%[A-Za-z0-9]+)?\]?")


@dataclass(frozen=True, slots=True)
class Validated:
    """Be a parameter's callback that applies a rule: a function that returns the value, or raises ValueError."""

    metavar: str
    validate: Callable[[str], object]

    def __call__(self, context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        """Return the value or values, or end with a usage error that names flag, value and rule."""
        try:
            if isinstance(parameter, click.Option) and parameter.multiple:
                return tuple(map(self._apply, value))
            return self._apply(value)
        except ValueError as error:
            raise click.BadParameter(str(error), context, parameter) from error

    def _apply(self, text: Any) -> object:
        try:
            return None if text is None else self.validate(text)
        except ValueError as error:
            raise ValueError(f"{text!r} {error}") from error


class QuotedList(click.types.StringParamType):
    """Be the type of a repeatable flag: its variable holds values with blanks between them, one with a blank quoted."""

    def __init__(self, variable: str) -> None:
        self._env_variable = variable

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        """Return the values of a variable; a backslash is one, as paths of Windows have them."""
        lexer = shlex.shlex(rv, posix=True)
        lexer.whitespace_split, lexer.escape, lexer.commenters = True, "", ""
        try:
            return list(lexer)
        except ValueError:
            message = f"{rv!r} has a quote that nothing closes: a value with a blank or a quote stands in quotes"
            raise click.BadParameter(message, param_hint=self._env_variable) from None


def validate_api_key(text: str) -> str:
    """Return an API key that can travel in a header (RFC 9110, section 5.5)."""
    if not _HEADER_TOKEN_PATTERN.fullmatch(text):
        raise ValueError("is no API key: it travels in a header, so give 1 to 256 visible ASCII characters, no blanks")
    return text


def validate_control_token(text: str) -> str:
    """Return a token of the control plane that can travel in a header (RFC 9110, section 5.5)."""
    if not _HEADER_TOKEN_PATTERN.fullmatch(text):
        raise ValueError("is no token: it travels in a header, so give 1 to 256 visible ASCII characters, no blanks")
    return text


def validate_id(text: str) -> str:
    """Return an id of a user or an application that the default contract allows."""
    limit = DEFAULT_CONTRACT.id_max_length
    if not 1 <= len(text) <= limit or text in (".", "..") or any(unicodedata.category(c) in ("Cc", "Cs") for c in text):
        raise ValueError(f"is no id: give 1 to {limit} characters, not '.' or '..', without control characters")
    return text


def parse_user_balance(text: str) -> tuple[str, int]:
    """Return a user and a balance from ``NAME=BALANCE``; the name may hold ``=`` itself."""
    name, _, balance = text.rpartition("=")
    if not re.fullmatch(r"[0-9]{1,16}", balance) or int(balance) > MAX_AMOUNT:
        raise ValueError(f"is not NAME=BALANCE with a balance of 0 to {MAX_AMOUNT}")
    return validate_id(name), int(balance)


def parse_seconds(text: str | float) -> float:
    """Return a number of seconds, 0 or more, that ends."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise ValueError("is no number of seconds: give 0 or more")
    return number


def validate_scenario(text: str) -> str:
    """Return the name of a preset of faults, or of a scenario file that can be read."""
    from fake_credits.faults.scenarios import parse_rules

    return _validate_only(text, partial(parse_rules, source=""))


def validate_latency(text: str) -> str:
    """Return the text of a default latency."""
    from fake_credits.faults.scenarios import latency_rules

    return _validate_only(text, latency_rules)


def _validate_only(text: str, check: Callable[[object], object]) -> str:
    try:
        check(text)
    except ValueError as error:
        raise ValueError(f"can't be: {error}") from None
    return text


def validate_auth_provider(text: str) -> str:
    """Return the name of a provider's preset."""
    from fake_credits.tokens.providers import AUTH_PROVIDERS

    return _check_choice(text, AUTH_PROVIDERS)


def validate_bad_token_kind(text: str) -> str:
    """Return the name of a kind of bad token."""
    from fake_credits.tokens.bad_tokens import BAD_TOKENS

    return _check_choice(text, BAD_TOKENS)


def validate_host(text: str) -> str:
    """Return a host's name or address, without scheme and port."""
    if not _HOST_NAME_PATTERN.fullmatch(text):
        raise ValueError("is no host: give a name or an address, without scheme and port")
    return text


def writable_file(text: str) -> Path:
    """Return a path at which a file is, or can be made; a link's is the one that it leads to.

    A device, a pipe or a socket is refused: the file would take its place, and be removed at the end.
    """
    if not text:
        raise ValueError("is no file")
    path = Path(text)
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    if path.is_dir():
        raise ValueError("is a folder: give a file")
    if path.exists() and not path.is_file():
        raise ValueError("is a device, a pipe or a socket, which a file would take the place of: give a file")
    if not path.parent.is_dir():
        raise ValueError(f"can't be written: there is no folder {str(path.parent)!r}")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"can't be written: the folder {str(path.parent)!r} is read-only")
    return path


def existing_file(text: str) -> Path:
    """Return the path of a file that is there."""
    path = Path(text)
    if not path.is_file():
        raise ValueError("is a folder: give a file" if text and path.is_dir() else "is no file that is there")
    return path


def validate_world(text: str) -> str:
    """Return the name of a world or of a file of one: which there are is the loader's to know."""
    if not text:
        raise ValueError("is no world: give a name or a file")
    return text


def parse_path(text: str) -> Path:
    """Return the path of a file that may not be there yet."""
    if not text:
        raise ValueError("is no file")
    return Path(text)


def parse_issuer_file(text: str) -> tuple[str, Path]:
    """Return an issuer and the file of its keys from ``ISSUER=FILE``; the issuer may hold ``=`` itself."""
    name, _, path = text.rpartition("=")
    if not name:
        raise ValueError("is not ISSUER=FILE")
    return name, existing_file(path)


def parse_env_variable(text: str) -> tuple[str, str]:
    """Return name and template of one more environment variable."""
    name, equals, template = text.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError("is not NAME=TEXT with a NAME of letters, digits and _")
    for _, placeholder, spec, conversion in Formatter().parse(template):
        if placeholder is not None and (placeholder not in ENV_PLACEHOLDERS or spec or conversion):
            choices = ", ".join(f"{{{known}}}" for known in ENV_PLACEHOLDERS)
            raise ValueError(f"has the unknown placeholder {{{placeholder}}}: there are {choices}; {{{{ is a brace")
    return name, template


def validate_base_url(text: str) -> str:
    """Return a server's base URL."""
    from fake_credits.client.arguments import BaseUrl

    try:
        return BaseUrl.parse(text).text
    except ValueError as error:
        raise ValueError(f"is no URL of a server: {error}") from None


def health_url(text: str) -> str:
    """Return the URL to poll: the one that is given, or a server's health where it has no path."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError("is no URL of a server: give http://host:port")
    return text if parts.path not in ("", "/") else parts._replace(path="/_fake/readyz").geturl()


def _check_choice(text: str, names: Iterable[str]) -> str:
    choices = list(names)
    if text not in choices:
        raise ValueError(f"is unknown{did_you_mean(text, choices)} (there are {', '.join(choices)})")
    return text
