"""Generate the tables, examples and files shown in README.md and in the pages of docs.

    python scripts/docs.py           rewrite the pages
    python scripts/docs.py --check   exit 1 if a page differs from the code

A generated part is between ``<!-- KIND: NAME -->`` and ``<!-- end -->``. The kinds are:

    table: NAME         a function in `TABLES`
    example: FILE       a file of tests/examples
    file: PATH          any file of the repository
    diff: FILE FILE     the changes between two files of tests/examples
    report: FILE        the fake's section of pytest's report on a failing test of tests/examples/tutorial
    explored: FILE      the report of exploring such a test, up to the first replay line or the end of a generated test

Most tables are only partly generated: the last columns are written on the page, and the others are derived from the
code. A row that is new in the code has no text until you write it on the page; a test finds the gaps. Everything else
on a page is written by hand.
"""

import ast
import dataclasses
import difflib
import importlib.metadata
import inspect
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args, get_type_hints

import click
from pytest_fake_credits.config_options import ENV_FIELDS, PLUGIN_OPTIONS
from pytest_fake_credits.marker import MARKER_OPTIONS

from fake_credits.cli.main import cli
from fake_credits.cli.parameters import FlagOption
from fake_credits.client.server import ServerClient
from fake_credits.client.user import UserClient
from fake_credits.contract import DEFAULT_CONTRACT, Contract, Operation, settings
from fake_credits.control.routes import CONTROL_ROUTES, ControlRoute
from fake_credits.errors import CONTROL_ERRORS, ERRORS
from fake_credits.faults import EFFECTS
from fake_credits.faults.scenarios import FAULT_PRESETS
from fake_credits.sandbox_options import SandboxOptions
from fake_credits.tokens.bad_tokens import BAD_TOKENS
from fake_credits.tokens.minting import AUTH_PROVIDERS
from fake_credits.worlds.profiles import Profile

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "tests" / "examples"
PART = re.compile(r"(<!-- (\w+): ([\w./ -]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


Rows = list[tuple[str, ...]]
"""The cells of a table that are derived from the code; the other cells are written by hand on the page."""


def table(head: str, rows: Iterable[tuple[str, ...]]) -> str:
    """Return a Markdown table; ``head`` is its first line without the outer bars."""
    lines = [f"| {head} |", "|" + "---|" * (head.count("|") + 1)]
    lines += [_line(cell.replace("|", "\\|") for cell in row) for row in rows]
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def completed(rows: Rows, current: str) -> str:
    """Return a page's table with up-to-date derived cells; rows keep the page's order, and new ones come last."""
    head, divider, *lines = current.splitlines()
    written = {cells[0]: cells for cells in map(split_cells, lines)}
    derived = {row[0]: row for row in rows}
    names = [name for name in written if name in derived] + [name for name in derived if name not in written]
    texts = [written.get(name, ())[len(derived[name]) :] or ("",) for name in names]
    body = [_line((*derived[name], *text)) for name, text in zip(names, texts, strict=True)]
    return "\n".join([head, divider, *body]) + "\n"


def clients() -> str:
    """Return the table of the clients' methods."""
    rows: list[tuple[str, ...]] = []
    for name, method in vars(ServerClient).items():
        if inspect.isfunction(method) and not name.startswith("_"):
            returned = inspect.formatannotation(get_type_hints(method)["return"])
            returned = re.sub(r"[\w.]+\.", "", returned)
            rows.append((_call(name, ServerClient), _call(name, UserClient), f"`{returned}`"))
    return table("`ServerClient` | `UserClient` | returns", rows)


def _call(name: str, client: type[object]) -> str:
    method = getattr(client, name, None)
    if method is None:
        return ""
    parameters = inspect.signature(method).parameters.values()
    return f"`{name}({', '.join(each.name for each in parameters if each.name != 'self')})`"


def split_cells(line: str) -> tuple[str, ...]:
    """Return the cells of a row of a Markdown table."""
    return tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])


def operations() -> str:
    """Return the table of operations under the default contract."""
    contract = DEFAULT_CONTRACT
    statuses = {
        Operation.CREATE_USER: f"{contract.created_user_status} first, {contract.existing_user_status} after",
        Operation.CREATE_TRANSACTION: str(contract.created_transaction_status),
    }
    rows = [
        (
            operation.value,
            f"`{route}`",
            statuses.get(operation, "200"),
            "403" if operation.requires_api_key else "own only",
        )
        for operation, route in DEFAULT_CONTRACT.routes.items()
    ]
    return table("operation | route | status | with a user's token", rows)


def contract() -> Rows:
    """Return the contract's settings: name, row, default, and the allowed values if they are strings."""
    choices = {spec.name: get_args(spec.type) for spec in dataclasses.fields(Contract)}
    return [
        (
            f"`{setting.name}`",
            str(setting.row),
            _default(setting.name),
            ", ".join(f"`{choice}`" for choice in choices[setting.name] if isinstance(choice, str)),
        )
        for setting in settings()
    ]


def _default(name: str) -> str:
    value = getattr(DEFAULT_CONTRACT, name)
    if name == "routes":
        return "[Operations](#operations)"
    if isinstance(value, Mapping):
        return "[Errors](errors.md#error-codes)" if name == "statuses" else "none"
    if value is None:
        return '`"none"`' if name in ("floor", "ceiling") else '`"open"`'
    if isinstance(value, tuple):
        return ", ".join(f"`{each}`" for each in cast("tuple[str, ...]", value))
    return f"`{value}`" if value != "" else "none"


def errors() -> Rows:
    """Return the error codes with their statuses and classes."""
    return [
        (f"`{code}`", str(DEFAULT_CONTRACT.status_of(error)), f"`{error.__name__}`") for code, error in ERRORS.items()
    ]


def presets() -> str:
    """Return the table of JWT presets."""
    rows = (
        (f"`{name}`", p.algorithm, f"`{p.issuer}`", ", ".join(p.audience) or "none", f"{p.lifetime_s} s")
        for name, p in AUTH_PROVIDERS.items()
    )
    return table("`auth_provider` | algorithm | `iss` | `aud` | life", rows)


def effects() -> Rows:
    """Return the effects of faults with their classes, attributes and phases."""
    rows: Rows = []
    for word, effect in EFFECTS.items():
        names = ", ".join(spec.name for spec in dataclasses.fields(cast("type[Any]", effect)))
        rows.append((f"`{word}`", f"`{effect.__name__}({names})`", ", ".join(effect.phases)))
    return rows


def effect_attributes() -> Rows:
    """Return the attributes of all effects with their defaults."""
    return [
        (f"`{effect.__name__}.{spec.name}`", _attribute_default(spec.default))
        for effect in EFFECTS.values()
        for spec in dataclasses.fields(cast("type[Any]", effect))
    ]


def _attribute_default(default: object) -> str:
    if default is dataclasses.MISSING:
        return "required"
    return f"`{default}`" if default else "none"


def fault_presets() -> str:
    """Return the table of fault presets, with what goes wrong in each."""
    return table("preset | what goes wrong", ((f"`{name}`", each.description) for name, each in FAULT_PRESETS.items()))


def bad_tokens() -> Rows:
    """Return the derived cells of the table of bad tokens."""
    return [
        (f"`{kind}`", bad.description, f"{bad.status} `{bad.code}`", f"`auth:{bad.auth_reason}`")
        for kind, bad in BAD_TOKENS.items()
    ]


def fixtures() -> Rows:
    """Return the plugin's fixtures with their scopes."""
    source = (ROOT / "pytest_plugin" / "pytest_fake_credits" / "__init__.py").read_text()
    rows: Rows = []
    for node in ast.walk(ast.parse(source)):
        decorators = " ".join(map(ast.unparse, node.decorator_list)) if isinstance(node, ast.FunctionDef) else ""
        if isinstance(node, ast.FunctionDef) and "pytest.fixture" in decorators and "autouse" not in decorators:
            rows.append((f"`{node.name}`", "session" if "session" in decorators else "function"))
    return rows


def marker() -> Rows:
    """Return the marker's options with their defaults."""
    defaults = {spec.name: spec.default for spec in dataclasses.fields(SandboxOptions)}
    special = {"contract": "the default one", "api_key": "a fresh one", "live": "`False`"}
    return [
        (f"`{name}=`", special.get(name) or _marker_default(defaults.get(name, dataclasses.MISSING)))
        for name in MARKER_OPTIONS
    ]


def _marker_default(default: object) -> str:
    if default is dataclasses.MISSING or default is None or default == ():
        return "none"
    return f'`"{default}"`' if isinstance(default, str) else f"`{default:g}`"


def options() -> Rows:
    """Return the plugin's options: ini, flag, environment variable and default."""
    rows: Rows = []
    for option in PLUGIN_OPTIONS:
        flag, variable = ("", "") if option.ini_only else (f"`{option.flag}`", f"`{option.env_variable}`")
        rows.append((f"`{option.ini}`", flag, variable, _given(option.default, option.name)))
    rows += [(f"`fake_credits_{name}`", "", "", default) for name, default in LINE_OPTIONS.items()]
    return rows


LINE_OPTIONS = {"env": "the variables of `fake-credits run`", "intercept": "none", "trust": "none"}


def _given(default: object, name: str = "") -> str:
    if isinstance(default, bool):
        return f"`{default}`".lower()
    if default == "":
        return "a fresh one" if name == "api_key" else "none"
    return "none" if default == () else f"`{default}`"


def flags(*names: str, without: str = "") -> str:
    """Return tables of the flags of some commands, one table per heading.

    A column ``only`` names the command of a flag that the other commands do not have. The flags of the command
    ``without`` are left out.
    """
    sections: dict[str, dict[tuple[str, str, str], list[str]]] = {}
    omitted = [option.name for option in cli.commands[without].params] if without else []
    for name in names:
        for option in cli.commands[name].params:
            if isinstance(option, FlagOption) and option.name not in omitted:
                row = (_flag(option), f"`{option.default}`" if option.show_default else "", str(option.help))
                sections.setdefault(option.heading, {}).setdefault(row, []).append(name)
    return "\n".join(f"**{heading}**\n\n{_flag_table(rows, len(names))}" for heading, rows in sections.items())


def _flag_table(commands: Mapping[tuple[str, str, str], Sequence[str]], command_count: int) -> str:
    only = {row: f"`{names[0]}`" for row, names in commands.items() if len(names) < command_count}
    if not only:
        return table("flag | default | what it does", commands)
    return table("flag | default | what it does | only", ((*row, only.get(row, "")) for row in commands))


def _flag(option: click.Option) -> str:
    if option.is_flag:
        return f"`{option.opts[0]}`"
    if isinstance(option.type, click.Choice):
        return f"`{option.opts[0]} {'|'.join(map(str, option.type.choices))}`"
    return f"`{option.opts[0]} {option.metavar or option.type.name.upper().removesuffix(' RANGE')}`"


def profiles() -> str:
    """Return the table of a profile's keys."""
    rows = (
        (f"`{each.name}`", "the file's" if each.name == "name" else f"`{str(each.default).lower()}`", _meaning(each))
        for each in dataclasses.fields(Profile)
    )
    return table("key | default | what it is", rows)


def _meaning(spec: "dataclasses.Field[Any]") -> str:
    range_ = f" ({spec.metadata['least']} to {spec.metadata['most']:,})" if "least" in spec.metadata else ""
    unsaid = "what reports and world files call it, and part of what the draws are keyed by"
    return f"{spec.metadata.get('doc', unsaid)}{range_}"


def environment() -> Rows:
    """Return the variables that `run` and the fixture `fake_credits_env` set."""
    rows: Rows = [(f"`{variable}`", f"`{{{name}}}`") for name, variable in ENV_FIELDS.items()]
    return [*rows, ("`FAKE_CREDITS_URL`", ""), ("`FAKE_CREDITS_CONTROL_TOKEN`", "")]


def control(*resources: str) -> Rows:
    """Return the control plane's routes for some resources, with the members of their bodies or queries."""
    rows = ((_resource(route), (f"`{route.method} {route.path}`", _members(route))) for route in CONTROL_ROUTES)
    return [row for resource, row in rows if resource in resources]


def _resource(route: ControlRoute) -> str:
    segments = route.path.removeprefix("/sandboxes/{sandbox}").strip("/").split("/")
    return segments[0] if segments[0] in RESOURCES else "sandboxes"


RESOURCES = ("users", "tokens", "bindings", "journal", "faults", "presets", "gates", "clock")


def _members(route: ControlRoute) -> str:
    names: Sequence[str] | None = getattr(route.schema, "__struct_fields__", None)
    if names is None:
        return "a scenario" if route.path.endswith("/load") else "a rule"
    return ", ".join(f"`{name}`" for name in names)


def control_errors() -> str:
    """Return the table of the control plane's error codes."""
    rows = ((f"`{code}`", str(status), meaning) for code, (status, meaning) in CONTROL_ERRORS.items())
    return table("code | status | meaning", rows)


def dependencies() -> Rows:
    """Return the run-time dependencies with their licences."""
    requirements = importlib.metadata.requires("fake-credits") or []
    names = {re.split(r"[\[<>=;! ]", each)[0].lower() for each in requirements if "extra ==" not in each}
    return [(name, _licence(name)) for name in sorted(names)]


def _licence(name: str) -> str:
    metadata = importlib.metadata.metadata(name)
    if "License-Expression" in metadata:
        return str(metadata["License-Expression"])
    classifiers = metadata.get_all("Classifier") or []
    found = [each.rpartition(" :: ")[2] for each in classifiers if each.startswith("License ::")]
    words: list[str] = [str(each) for each in found] or [str(metadata["License"])]
    return " and ".join(SPDX.get(word, word) for word in words)


# Older releases spell out the licence; without this, the table would depend on the installed release.
SPDX = {
    "MIT License": "MIT",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "BSD": "BSD-3-Clause",
}


TABLES: dict[str, Callable[[], str | Rows]] = {
    "clients": clients,
    "fixtures": fixtures,
    "marker": marker,
    "options": options,
    "flags-serve-run": lambda: flags("serve", "run"),
    "flags-explore": lambda: flags("explore", without="run"),
    "flags-token": lambda: flags("token"),
    "flags-seed": lambda: flags("seed"),
    "flags-wait": lambda: flags("wait"),
    "flags-openapi": lambda: flags("openapi"),
    "environment": environment,
    "control-sandboxes": lambda: control("sandboxes"),
    "control-users": lambda: control("users", "tokens", "bindings"),
    "control-journal": lambda: control("journal"),
    "control-faults": lambda: control("faults", "presets"),
    "control-gates": lambda: control("gates"),
    "control-clock": lambda: control("clock"),
    "control-errors": control_errors,
    "profiles": profiles,
    "operations": operations,
    "contract": contract,
    "errors": errors,
    "presets": presets,
    "bad-tokens": bad_tokens,
    "effects": effects,
    "effect-attributes": effect_attributes,
    "fault-presets": fault_presets,
    "dependencies": dependencies,
}


def example(name: str) -> str:
    """Return a file of tests/examples as a block of code."""
    language = "pycon" if name.endswith(".txt") else "python"
    return f"```{language}\n{(EXAMPLES / name).read_text()}```\n"


def diff(names: str) -> str:
    """Return the changed lines between two files of tests/examples, with a line of context."""
    before, after = ((EXAMPLES / name).read_text().splitlines(keepends=True) for name in names.split())
    lines = (line for line in list(difflib.unified_diff(before, after, n=1))[2:] if not line.startswith("@@"))
    return f"```diff\n{''.join(lines).rstrip()}\n```\n"


def report(name: str) -> str:
    """Return the fake's section of pytest's report on a failing tutorial test."""
    return _failing_report(name, r"^-+ fake-credits -+\n(.*?)^=")


def explored(name: str) -> str:
    """Return the report of exploring a tutorial test, up to the first replay line or the end of a generated test."""
    last_line = r"^(?:Replay: |\w+\.pytestmark)[^\n]*\n"
    return _failing_report(name, rf"^(fake-credits: \d+ (?:schedule|order).*?{last_line})", "--fake-credits-explore")


def _failing_report(name: str, pattern: str, *arguments: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(EXAMPLES / "tutorial" / "shop.py", folder)
        shutil.copy(EXAMPLES / name, Path(folder) / f"test_{Path(name).name}")
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "pytest_fake_credits", *arguments]
        environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
        result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    match = re.search(pattern, result.stdout, re.DOTALL | re.MULTILINE)
    if match is None:
        raise SystemExit(f"{name} should fail:\n{result.stdout}{result.stderr}")
    return f"```\n{match[1]}```\n"


def shown(path: str) -> str:
    """Return a file of the repository as a block of code."""
    language = {".yml": "yaml", ".mjs": "js", ".cjs": "js", ".sh": "sh"}.get(Path(path).suffix, "dockerfile")
    return f"```{language}\n{(ROOT / path).read_text()}```\n"


KINDS: dict[str, Callable[[str], str | Rows]] = {
    "table": lambda name: TABLES[name](),
    "example": example,
    "file": shown,
    "diff": diff,
    "report": report,
    "explored": explored,
}


def pages() -> list[Path]:
    """Return README.md and the pages of docs."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def rendered(text: str) -> str:
    """Return a page's text with its generated parts up to date."""

    def part(match: re.Match[str]) -> str:
        content = KINDS[match[2]](match[3])
        return f"{match[1]}{content if isinstance(content, str) else completed(content, match[4])}{match[5]}"

    return PART.sub(part, text)


def main() -> int:
    """Rewrite or check the pages."""
    check_only = "--check" in sys.argv[1:]
    outdated = 0
    for page in pages():
        current = page.read_text(encoding="utf-8")
        wanted = rendered(current)
        if current == wanted:
            continue
        outdated += 1
        if check_only:
            print(f"{page.relative_to(ROOT)} differs from the code: run python scripts/docs.py, and commit the result")
        else:
            page.write_text(wanted, encoding="utf-8")
    return int(check_only and outdated > 0)


if __name__ == "__main__":
    sys.exit(main())
