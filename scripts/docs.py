"""Generate the tables, examples and files shown in README.md and in the pages of docs.

    python scripts/docs.py           rewrite the pages
    python scripts/docs.py --check   exit 1 if a page differs from the code

A generated part is between ``<!-- KIND: NAME -->`` and ``<!-- end -->``. The kinds are:

    table: NAME         a function in `TABLES`
    example: FILE       a file of tests/examples
    file: PATH          any file of the repository
    diff: FILE FILE     what changes between two files of tests/examples
    report: FILE        the section of pytest's report for a test of tests/examples/tutorial that fails
    explored: FILE      the matrix and the first finding of exploring such a test

Everything else on a page is written by hand.
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
from typing import Any, cast, get_type_hints

from pytest_fake_credits.config_options import ENV_FIELDS, PLUGIN_OPTIONS
from pytest_fake_credits.marker import MARKER_OPTIONS

from fake_credits.assertions import JournalAssertions
from fake_credits.cli.flags import FlagOption
from fake_credits.cli.main import cli
from fake_credits.client.server import ServerClient
from fake_credits.client.user import UserClient
from fake_credits.contract import DEFAULT_CONTRACT, Operation, settings
from fake_credits.control.routes import CONTROL_ROUTES, ControlRoute
from fake_credits.errors import CONTROL_ERRORS, ERRORS
from fake_credits.fake import FakeCredits
from fake_credits.faults import EFFECTS, Rule
from fake_credits.faults.scenarios import FAULT_PRESETS
from fake_credits.invariants import Invariants
from fake_credits.tokens.bad_tokens import BAD_TOKENS
from fake_credits.tokens.providers import AUTH_PROVIDERS
from fake_credits.worlds.profiles import Profile

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "tests" / "examples"
PART = re.compile(r"(<!-- (\w+): ([\w./ -]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def table(head: str, rows: Iterable[tuple[str, ...]]) -> str:
    """Return a Markdown table; ``head`` is its first line without the outer bars."""
    lines = [f"| {head} |", "|" + "---|" * (head.count("|") + 1)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def sentence(doc: str | None) -> str:
    """Return the first sentence or line of a docstring, as Markdown."""
    first = " ".join((doc or "").strip().split("\n\n")[0].split())
    return first.replace("``", "`")


def facade() -> str:
    """Return the table of what a `FakeCredits` has."""
    return members(FakeCredits, Invariants)


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


def journal() -> str:
    """Return the table of what can be asked of a sandbox's journal."""
    return members(JournalAssertions)


def members(*described: type[object]) -> str:
    """Return the table of the public properties and methods of classes."""
    rows: list[tuple[str, ...]] = []
    for name, member in [item for each in described for item in vars(each).items()]:
        if name.startswith("_"):
            continue
        shown = f"`.{name}`"
        if inspect.isfunction(member):
            parameters = [str(each.name) for each in inspect.signature(member).parameters.values()][1:]
            shown = f"`.{name}({', '.join(parameters)})`"
        rows.append((shown, sentence(inspect.getdoc(member))))
    return table("name | what it does", rows)


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


def contract() -> str:
    """Return the table of the contract's settings."""
    rows = ((str(s.row), f"`{s.name}`", _default(s.name), s.doc) for s in settings())
    return table("row | setting | default | what it decides", rows)


def _default(name: str) -> str:
    value = getattr(DEFAULT_CONTRACT, name)
    if name == "routes":
        return "see above"
    if isinstance(value, Mapping):
        return "as below" if name == "statuses" else "none"
    if value is None:
        return '`"none"`' if name in ("floor", "ceiling") else '`"open"`'
    if isinstance(value, tuple):
        return ", ".join(f"`{each}`" for each in cast("tuple[str, ...]", value))
    return f"`{value}`" if value != "" else "empty"


def errors() -> str:
    """Return the table of error codes."""
    rows = (
        (f"`{code}`", str(DEFAULT_CONTRACT.status_of(error)), f"`{error.__name__}`", sentence(error.__doc__))
        for code, error in ERRORS.items()
    )
    return table("code | status | class | meaning", rows)


def presets() -> str:
    """Return the table of JWT presets."""
    rows = (
        (f"`{name}`", p.algorithm, f"`{p.issuer}`", ", ".join(p.audience) or "none", f"{p.lifetime_s} s")
        for name, p in AUTH_PROVIDERS.items()
    )
    return table("`auth_provider` | algorithm | `iss` | `aud` | life", rows)


def effects() -> str:
    """Return the table of faults' effects."""
    rows: list[tuple[str, ...]] = []
    for word, effect in EFFECTS.items():
        names = ", ".join(each.name for each in dataclasses.fields(cast("type[Any]", effect)))
        phases = ", ".join(effect.phases)
        whole = (
            " ".join((effect.__doc__ or "").split())
            .replace("``", "`")
            .replace('(docs, "Contract", ', "([contract](contract.md), ")
        )
        rows.append((f"`{word}`", f"`{effect.__name__}({names})`", phases, whole, effect.reveals))
    return table("`effect` | in Python | phases | what it does | bug of a client that it exposes", rows)


def rule_words() -> str:
    """Return the table of what a rule can say."""
    words = [each.name for each in dataclasses.fields(Rule) if each.name != "effect"]
    groups = ("which", "when", "what")
    words.sort(key=lambda word: groups.index(RULE_WORDS[word][0]))
    return table("word | says | what it may be", ((f"`{word}`", *RULE_WORDS[word]) for word in words))


RULE_WORDS = {
    "operation": ("which", "its name, `reads`, `writes` or `*`; default `*`"),
    "phase": ("what", "when the effect works, one of its phases; default: its first"),
    "application": ("which", "an application's id"),
    "user": ("which", "a user's id"),
    "client": ("which", "`server` (an API key) or `user` (a token)"),
    "reason": ("which", "`grant`, `consume` or `refund`"),
    "header": ("which", "names of headers and their values: `{name: value}`"),
    "where": (
        "which",
        "in Python, a function of an `IncomingCall` (`user`, `headers`, …); if it raises, call and test fail",
    ),
    "at": ("when", "the n-th exchange of the sandbox, from 1"),
    "nth": ("when", "the n-th matching call, from 1"),
    "first": ("when", "the first n matching calls"),
    "every": ("when", "every n-th matching call: 10 is the 10th, the 20th, …"),
    "after": ("when", "all matching calls after the first n"),
    "times": ("when", "at most this many times; default for a `late_write`: once"),
    "script": (
        "when",
        "instead of an effect, one entry per call: a status, `ok` (no fault), `reset`, `close` or `hang`",
    ),
    "per": ("when", "`user` counts each user's calls apart"),
    "probability": ("when", "from 0 (never) to 1 (always)"),
    "during": (
        "when",
        "`[start, end]`, seconds since the sandbox started or dates, or `[start]`; calls outside do not match",
    ),
    "stack": ("what", "whether the following rules are tried too; default for `latency` and `hold_at_gate`: yes"),
    "optional": ("when", "whether a scripted rule may stay unused"),
    "name": ("what", "shown in the journal and in `X-Fake-Credits-Cause`; default `<effect>#<n>`"),
}


def fault_presets() -> str:
    """Return the table of named bad days."""
    return table("preset | what goes wrong", ((f"`{name}`", each.description) for name, each in FAULT_PRESETS.items()))


def bad_tokens() -> str:
    """Return the table of bad tokens."""
    rows = (
        (f"`{kind}`", bad.description, f"{bad.status} `{bad.code}`", f"`auth:{bad.auth_reason}`")
        for kind, bad in BAD_TOKENS.items()
    )
    return table("kind | it | answer | `X-Fake-Credits-Cause`", rows)


def fixtures() -> str:
    """Return the table of the plugin's fixtures."""
    source = (ROOT / "pytest_plugin" / "pytest_fake_credits" / "__init__.py").read_text()
    rows: list[tuple[str, ...]] = []
    for node in ast.parse(source).body:
        decorators = [ast.unparse(each) for each in node.decorator_list] if isinstance(node, ast.FunctionDef) else []
        if isinstance(node, ast.FunctionDef) and any(each.startswith("pytest.fixture") for each in decorators):
            scope = "session" if "session" in decorators[0] else "function"
            rows.append((f"`{node.name}`", scope, sentence(ast.get_docstring(node))))
    return table("fixture | scope | what it yields", rows)


def marker() -> str:
    """Return the table of the marker's words."""
    return table("word | must be", ((f"`{name}=`", word.expected) for name, word in MARKER_OPTIONS.items()))


def options() -> str:
    """Return the table of the plugin's options."""
    rows: list[tuple[str, ...]] = []
    for option in PLUGIN_OPTIONS:
        flag, variable = ("", "") if option.ini_only else (f"`{option.flag}`", f"`{option.env_variable}`")
        rows.append((flag, f"`{option.ini}`", variable, _given(option.default, option.name), option.help))
    lines = "lines `NAME=text`: what the fixture of that name sets instead"
    rows.append(("", "`fake_credits_env`", "", "as `fake-credits run`", lines))
    urls = "base URLs, one a line: the fixture `fake_credits` answers this process's requests to them"
    rows.append(("", "`fake_credits_intercept`", "", "none", urls))
    rows.append(
        (
            "",
            "`fake_credits_trust`",
            "",
            "none",
            "lines `ISSUER=FILE`: foreign issuers of users' tokens, with their keys",
        )
    )
    return table("command line | ini | environment | default | what it decides", rows)


def _given(default: object, name: str = "") -> str:
    if isinstance(default, bool):
        return f"`{default}`".lower()
    if default == "":
        return "a fresh one" if name == "api_key" else "none"
    return "none" if default == () else f"`{default}`"


def commands() -> str:
    """Return the table of commands and their flags."""
    merged: dict[tuple[str, ...], list[str]] = {}
    for name, command in cli.commands.items():
        for flag in command.params:
            if isinstance(flag, FlagOption):
                default = f"`{flag.default}`" if flag.show_default else ""
                row = (f"`{flag.opts[0]}`", f"`{flag.envvar}`", default, str(flag.help))
                merged.setdefault(row, []).append(f"`{name}`")
    rows = ((", ".join(used_by), *row) for row, used_by in merged.items())
    return table("command | flag | environment | default | what it does", rows)


def profiles() -> str:
    """Return the table of what a profile says."""
    rows = (
        (f"`{each.name}`", "the file's" if each.name == "name" else f"`{str(each.default).lower()}`", _meaning(each))
        for each in dataclasses.fields(Profile)
    )
    return table("key | default | what it is", rows)


def _meaning(spec: "dataclasses.Field[Any]") -> str:
    range_ = f" ({spec.metadata['least']} to {spec.metadata['most']:,})" if "least" in spec.metadata else ""
    unsaid = "what reports and world files call it, and part of what the draws are keyed by"
    return f"{spec.metadata.get('doc', unsaid)}{range_}"


def environment() -> str:
    """Return the table of variables that `run` and the fixture `fake_credits_env` set."""
    meanings = {
        "base_url": "URL of the API",
        "api_key": "API key",
        "application_id": "id of the default application",
        "user_id": "id of the default user",
        "user_token": "token of the default user, valid for 24 hours",
        "jwks_url": "URL of the public keys of users' tokens",
        "jwt_public_key": "public key of users' tokens, as PEM",
    }
    rows = [(f"`{variable}`", f"`{{{name}}}`", meanings[name]) for name, variable in ENV_FIELDS.items()]
    rows += [
        ("`FAKE_CREDITS_URL`", "", "URL of the control plane; `run` and `serve` only"),
        ("`FAKE_CREDITS_CONTROL_TOKEN`", "", "token of the control plane; `run` and `serve` only"),
    ]
    return table("variable | placeholder | what it is", rows)


def control() -> str:
    """Return the table of the control plane's routes."""
    rows = (
        (f"`{route.method} {route.path}`", _words(route), sentence(route.endpoint.__doc__)) for route in CONTROL_ROUTES
    )
    return table("route, below `/_fake` | body or query | what it does", rows)


def _words(route: ControlRoute) -> str:
    names: Sequence[str] | None = getattr(route.schema, "__struct_fields__", None)
    if names is None:
        return "a scenario" if route.path.endswith("/load") else "a rule"
    return ", ".join(f"`{name}`" for name in names)


def control_errors() -> str:
    """Return the table of the control plane's error codes."""
    rows = ((f"`{code}`", str(status), meaning) for code, (status, meaning) in CONTROL_ERRORS.items())
    return table("code | status | meaning", rows)


def dependencies() -> str:
    """Return the table of run-time dependencies with their licences."""
    requirements = importlib.metadata.requires("fake-credits") or []
    names = {re.split(r"[\[<>=;! ]", each)[0] for each in requirements if "extra ==" not in each}
    rows = [(name, _licence(name), REASONS[name.lower()]) for name in sorted(names)]
    return table("package | licence | what for", rows)


def _licence(name: str) -> str:
    metadata = importlib.metadata.metadata(name)
    if "License-Expression" in metadata:
        return str(metadata["License-Expression"])
    classifiers = metadata.get_all("Classifier") or []
    found = [each.rpartition(" :: ")[2] for each in classifiers if each.startswith("License ::")]
    words: list[str] = [str(each) for each in found] or [str(metadata["License"])]
    return " and ".join(SPDX.get(word, word) for word in words)


# Older releases say it in words, so that the table would depend on which is installed.
SPDX = {
    "MIT License": "MIT",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "BSD": "BSD-3-Clause",
}


REASONS = {
    "anyio": "which event loop is running; Starlette brings it anyway",
    "click": "the command line",
    "httptools": "uvicorn's fast HTTP parser",
    "httpx2": "the clients, over a network",
    "msgspec": "JSON, and the journal's records",
    "pyjwt": "signatures of tokens; with cryptography, which makes the certificates of https",
    "starlette": "the API as an application",
    "uvicorn": "the live server",
    "uvloop": "its event loop; on Linux and macOS only",
}

TABLES: dict[str, Callable[[], str]] = {
    "clients": clients,
    "fixtures": fixtures,
    "marker": marker,
    "options": options,
    "commands": commands,
    "environment": environment,
    "control": control,
    "control-errors": control_errors,
    "profiles": profiles,
    "facade": facade,
    "journal": journal,
    "operations": operations,
    "contract": contract,
    "errors": errors,
    "presets": presets,
    "bad-tokens": bad_tokens,
    "effects": effects,
    "rule": rule_words,
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
    """Return the fake's section in the report of a failing test of the tutorial."""
    return _failing_report(name, r"^-+ fake-credits -+\n(.*?)^=")


def explored(name: str) -> str:
    """Return what exploring a test of the tutorial reports, up to the first line to replay."""
    return _failing_report(name, r"^(fake-credits: \d+ schedules.*?^Replay: [^\n]*\n)", "--fake-credits-explore")


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


def _table(name: str) -> str:
    return TABLES[name]()


KINDS: dict[str, Callable[[str], str]] = {
    "table": _table,
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
        return f"{match[1]}{KINDS[match[2]](match[3])}{match[5]}"

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
