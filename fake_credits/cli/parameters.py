"""Subclasses of click's Command, Option and ParamType, and a decorator that turns a dataclass into options."""

import functools
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import click
from click.core import ParameterSource

ARGUMENTS_KEY = "fake_credits.arguments"
"""The key under which ``ctx.meta`` holds a command's arguments."""

_ENV_PREFIX = "FAKE_CREDITS_"
_EXPLORE_NAMES = ("what", "depth", "budget", "strict", "selftest", "jobs", "format", "report")
_ENV_NAMES = {
    "url": "SEED_URL",  # FAKE_CREDITS_URL is already the control plane's URL, set by `run`
    **{name: f"EXPLORE_{name.upper()}" for name in _EXPLORE_NAMES},  # the pytest plugin reads these too
}
_EXCLUSIVE_FLAGS = (
    ("out", "url"),
    ("json", "quiet"),
    ("tls_ca", "tls_cert"),
    ("tls_ca", "tls_key"),
    ("bad", "expires_in"),
)
_RUNNERS = ("run", "explore")
_SERVICE_ADDRESS = re.compile(r"(?:tcp|udp|sctp)://\S+:[0-9]+")


class FlagCommand(click.Command):
    """A command whose help groups the flags by heading, and whose flags override conflicting environment variables."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each heading, in the order of the flags; click's own options come last."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record:
                sections.setdefault(getattr(param, "heading", "General"), []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, and keep them in ``ctx.meta``; for an unknown flag, name the commands that have it."""
        ctx.meta[ARGUMENTS_KEY] = tuple(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            flag = error.option_name
            names = _commands_with_flag(ctx.parent, flag)
            if not names:
                raise
            owners = " and ".join(", ".join(f"`{name}`" for name in names).rsplit(", ", 1))
            note = f"; `{ctx.info_name}` picks a free port" if flag == "--port" and ctx.info_name in _RUNNERS else ""
            message = f"No such option {flag!r}: it is an option of {owners}{note}."
            raise click.NoSuchOption(flag, message, ctx=ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, ignoring environment variables that conflict with a flag on the command line."""
        for pair in _EXCLUSIVE_FLAGS:
            for name, other in (pair, pair[::-1]):
                if _overrides(ctx, name, other):
                    ctx.params[other] = None
        user_id = ctx.params.get("user_id")
        if _overrides(ctx, "balance", "users"):
            ctx.params["users"] = tuple(user for user in ctx.params["users"] if user[0] != user_id)
        elif _overrides(ctx, "users", "balance") and user_id in dict(ctx.params["users"]):
            ctx.params["balance"] = None
        return super().invoke(ctx)


class FlagGroup(click.Group):
    """A group that explains where a flag belongs if it precedes the command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments up to the command."""
        given = tuple(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            flag = error.option_name
            names = _commands_with_flag(ctx, flag)
            if not names:
                raise
            name = next((argument for argument in given if argument in names), names[0])
            example = f"{ctx.command_path} {name} {flag}"
            message = f"No such option {flag!r}: options follow the command, as in `{example}`."
            raise click.NoSuchOption(flag, message, ctx=ctx) from None


def _commands_with_flag(group: click.Context | None, flag: str) -> list[str]:
    """Return the names of a group's commands that have a flag, in definition order."""
    if group is None or not isinstance(group.command, click.Group):
        return []
    return [
        name
        for name, command in group.command.commands.items()
        if any(flag in param.opts and not getattr(param, "hidden", False) for param in command.params)
    ]


def _overrides(ctx: click.Context, name: str, other: str) -> bool:
    """Return whether ``name`` was set on the command line and ``other`` in the environment."""
    is_given = ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    return is_given and ctx.get_parameter_source(other) is ParameterSource.ENVIRONMENT


class FlagOption(click.Option):
    """An option with the heading under which the help lists it."""

    def __init__(self, *args: Any, heading: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heading = heading

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """Return the flag or, if its value comes from the environment, the variable and the flag."""
        flag = self.opts[0]
        source = ctx.get_parameter_source(self.name) if ctx and self.name else None
        is_variable = source is ParameterSource.ENVIRONMENT
        return f"the environment variable {self.envvar!r} ({flag})" if is_variable else repr(flag)

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """Return the variable's value, or None if it is a Kubernetes Service's address, such as tcp://10.0.0.7:8402.

        If a Service is named ``fake-credits``, Kubernetes sets ``FAKE_CREDITS_PORT`` in containers to the Service's
        address.
        """
        value = super().resolve_envvar_value(ctx)
        return None if value is None or _SERVICE_ADDRESS.fullmatch(value) else value


class Parsed(click.types.StringParamType):
    """A parameter type that has its own metavar and parses values with a function or one of click's types."""

    def __init__(self, metavar: str, parse: Callable[[str], object] = str) -> None:
        self.name = metavar
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the parsed value; turn a TypeError or ValueError into a usage error that names the flag."""
        try:
            return self._parse(value)
        except (TypeError, ValueError) as error:
            self.fail(str(error), param, ctx)

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        """Split the value of a repeatable flag's environment variable at spaces outside quotes.

        Backslashes are kept, because Windows paths contain them.
        """
        lexer = shlex.shlex(rv, posix=True)
        lexer.whitespace_split, lexer.escape, lexer.commenters = True, "", ""
        try:
            return list(lexer)
        except ValueError:
            self.fail(f"unclosed quote in the environment variable's value {rv!r}; quote values that contain spaces")


def options_from(flags_type: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that adds a dataclass's flags to a command and passes it an instance of the dataclass."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def wrapper(**values: Any) -> None:
            arguments = {spec.name: values.pop(spec.name) for spec in fields(flags_type)}
            function(flags_type(**{name: value for name, value in arguments.items() if value is not None}), **values)

        decorated: Callable[..., None] = wrapper
        for spec in reversed(fields(flags_type)):
            decorated = _click_option(spec)(decorated)
        return decorated

    return decorate


def _click_option(spec: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    param_type, is_multiple = spec.metadata["type"], isinstance(spec.default, tuple)
    name = (spec.name.removesuffix("s") if is_multiple else spec.name).replace("_", "-")
    variable: str = _ENV_NAMES.get(name) or name.replace("-", "_").upper()
    # Other defaults, such as "" and None, only mean that the flag was not used, so the help does not show them.
    has_default = spec.default != "" and isinstance(spec.default, str | int | float)
    return click.option(
        f"--{name}",
        spec.name,
        cls=FlagOption,
        heading=spec.metadata["heading"],
        envvar=f"{_ENV_PREFIX}{variable}",
        show_envvar=True,
        help=spec.metadata["help"],
        hidden=not spec.metadata["help"],
        type=param_type,
        metavar=param_type.name if isinstance(param_type, Parsed) else None,
        multiple=is_multiple,
        is_flag=isinstance(spec.default, bool),
        default=spec.default if has_default else None,
        show_default=has_default and spec.default is not False,
    )
