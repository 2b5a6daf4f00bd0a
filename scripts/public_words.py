"""List the public names of every surface, one per line; fixtures/public_words.txt has the accepted list.

    python scripts/public_words.py           print the list
    python scripts/public_words.py --write   accept the current list

A test compares the two lists, so that no public name is added, removed or changed unnoticed. The names are read from
the running code. Members of classes are listed by the expression that reaches them (``FakeCredits.hold().release``), so
that classes which users do not import can be renamed or moved.
"""

import ast
import dataclasses
import enum
import importlib
import importlib.metadata
import inspect
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import typing
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache, cached_property
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

import click
from click.testing import CliRunner
from pytest_fake_credits.config_options import ENV_FIELDS, PLUGIN_OPTIONS
from pytest_fake_credits.factory import Factory

# ---- internal modules: if one of them moves, only these imports need to change
from pytest_fake_credits.marker import ALLOWABLE_PROBLEMS, MARKER_OPTIONS

import fake_credits
from fake_credits.cli.main import cli
from fake_credits.contract.types import FIELD_NAMES, METHOD_NAMES, OPERATIONS_BY_NAME, Operation
from fake_credits.control.routes import CONTROL_ROUTES
from fake_credits.errors import CONTROL_ERRORS, ERRORS, FakeCreditsError
from fake_credits.faults import EFFECTS, FaultError, Rule
from fake_credits.faults.effects.timing import DISTRIBUTIONS_BY_NAME
from fake_credits.faults.rule import SCRIPT_ACTIONS
from fake_credits.faults.scenarios import FAULT_PRESETS
from fake_credits.journal import ALWAYS_JOURNALED
from fake_credits.sandbox_options import SandboxOptions
from fake_credits.tokens.bad_tokens import BAD_TOKENS
from fake_credits.tokens.credentials import AUTH_FAILURE_REASONS
from fake_credits.tokens.minting import AUTH_PROVIDERS
from fake_credits.transports.live import LiveServer
from fake_credits.worlds.profiles import PROFILES, Profile

# ---- end of the internal modules

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "fixtures" / "public_words.txt"
README = "\n\n".join(page.read_text() for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))])
OWN_NAMES: tuple[str, ...] = tuple(fake_credits.__all__)
OURS = ("fake_credits", "pytest_fake_credits")
_OPERATORS = ("__call__", "__contains__", "__getitem__", "__iter__", "__len__")
_BLOCKS = ("__enter__", "__aenter__")


# ------------------------------------------------------------ Python

_BESIDE = "beside README: "
_WHOLE = ("fake_credits.client.", "fake_credits.errors")
"""Modules whose classes are all public; all members of clients are public too."""


def public_modules() -> list[str]:
    """Return the modules that the documentation imports from or mentions."""
    found = {"fake_credits"}
    for path in re.findall(r"(?:^from |`)((?:pytest_)?fake_credits(?:\.\w+)+)", README, re.MULTILINE):
        while path not in found:
            try:
                importlib.import_module(path)
                found.add(path)
            except ImportError:
                path = path.rpartition(".")[0]
    return sorted(found)


def python() -> Iterator[str]:
    """Yield the documented names, with their arguments and members."""
    return (word for word in all_python() if not word.startswith(_BESIDE))


def python_beside() -> Iterator[str]:
    """Yield the undocumented names in the same modules and classes."""
    return (word.removeprefix(_BESIDE) for word in all_python() if word.startswith(_BESIDE))


@cache
def all_python() -> tuple[str, ...]:
    """Return the documented and the undocumented names."""
    # Start with the package itself, so that names are listed by their most common expression.
    ahead: deque[tuple[str, Any]] = deque((f"fake_credits.{name}", getattr(fake_credits, name)) for name in OWN_NAMES)
    found = [f"fake_credits.{name}" for name in OWN_NAMES]
    met: set[Any] = set()
    found += _walked(ahead, met)
    for module in public_modules()[1:]:
        for name in importlib.import_module(module).__all__:
            label, thing = f"{module}.{name}", getattr(importlib.import_module(module), name)
            if _is_named(name) or (isinstance(thing, type) and module.startswith(_WHOLE)):
                found.append(label)
                ahead.append((label, thing))
            else:
                found.append(f"{_BESIDE}{label}")
    found += _shape("fake_credits.FakeCredits(*)", SandboxOptions)
    ahead.append(("fake_credits_server", LiveServer))
    found += _walked(ahead, met)
    return tuple(found)


def _walked(ahead: deque[tuple[str, Any]], met: set[Any]) -> Iterator[str]:
    while ahead:
        label, thing = ahead.popleft()
        if not (isinstance(thing, type) or inspect.isroutine(thing)) or thing in met:
            continue
        met.add(thing)
        yield from members(label, thing, ahead) if isinstance(thing, type) else function(label, thing, ahead)


def _is_named(name: str) -> bool:
    return name in _NAMES_IN_README


_NAMES_IN_README = {
    *re.findall(r"[.`](\w+)", README),
    *re.findall(r"(\w+)[(`]", README),
    *re.findall(r"\w+", " ".join(re.findall(r"import (.*)", README))),
}


def _is_ours(thing: Any) -> bool:
    return isinstance(thing, type) and thing.__module__.split(".")[0] in OURS


def members(label: str, kind: type[Any], ahead: deque[tuple[str, Any]]) -> Iterator[str]:
    """Yield the members that a class does not inherit from other packages; append their types to ``ahead``."""
    if issubclass(kind, enum.Enum):
        yield from (f"{label}.{each.name} = {each.value!r}" for each in kind)
    has_arguments = re.fullmatch(r"[\w.]+\.[A-Z]\w+", label) and not issubclass(kind, enum.Enum | BaseException)
    if has_arguments:  # only classes that users import are instantiated
        yield from parameters(label, kind)
    hints = _hints(kind)
    for name in fields_of(kind):
        yield _placed(kind, name, f"{label}.{name}")
        if not has_arguments:
            yield from choices(f"{label}.{name}", hints.get(name))
        if _is_public(kind, name):
            ahead += [(f"{label}.{name}", each) for each in types_in(hints.get(name))]
    for name, member in _own(kind).items():
        for word in _member(label, kind, name, member, ahead):
            yield _placed(kind, name, word)


def _member(label: str, kind: type[Any], name: str, member: Any, ahead: deque[tuple[str, Any]]) -> Iterator[str]:
    leads_on = ahead if _is_public(kind, name) and name not in _OPERATORS else deque[tuple[str, Any]]()
    if name in _BLOCKS:
        yield f"{label} {'async with' if name == '__aenter__' else 'with'}"
    elif isinstance(member, property | cached_property):
        getter: Any = member.fget if isinstance(member, property) else member.func
        yield f"{label}.{name}"
        leads_on += [(f"{label}.{name}", each) for each in types_in(_hints(getter).get("return"))]
    elif inspect.isroutine(getattr(kind, name)):
        yield from function(f"{label}.{name}", getattr(kind, name), leads_on)
    else:
        yield f"{label}.{name}"


def _placed(kind: type[Any], name: str, word: str) -> str:
    return word if _is_public(kind, name) else f"{_BESIDE}{word}"


def _is_public(kind: type[Any], name: str) -> bool:
    """Return whether a member is documented; all members of data classes and clients count as documented."""
    is_data = (
        dataclasses.is_dataclass(kind) or issubclass(kind, tuple | Exception) or hasattr(kind, "__struct_fields__")
    )
    is_clients = kind.__module__.startswith(_WHOLE)
    return is_clients or is_data or name in (*_OPERATORS, *_BLOCKS) or _is_named(name)


def _own(kind: type[Any]) -> dict[str, Any]:
    """Return the members that a class and its bases in this package define; for an error, only its own."""
    own: dict[str, Any] = {}
    if kind in EFFECTS.values():
        return own  # only the fields of effects are public
    bases = [base for base in reversed(kind.__mro__) if _is_ours(base)]
    for base in bases:
        own |= vars(base)
    if issubclass(kind, BaseException):  # `errors` lists the exception tree
        inherited = {name for base in bases[:-1] for name in vars(base)}
        own = {name: member for name, member in own.items() if name not in inherited}
    dull = ("_", "__")
    return {
        name: member
        for name, member in own.items()
        if not isinstance(member, enum.Enum) and (not name.startswith(dull) or name in (*_OPERATORS, *_BLOCKS))
    }


def fields_of(kind: type[Any]) -> list[str]:
    """Return a class's public attributes: fields, keys, and those that its ``__init__`` sets."""
    names: list[str] = [each.name for each in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
    names += getattr(kind, "__struct_fields__", ())
    names += getattr(kind, "_fields", ()) if kind.__bases__ == (tuple,) else ()
    names += kind.__annotations__ if typing.is_typeddict(kind) else ()
    for base in (kind,) if issubclass(kind, BaseException) else kind.__mro__:
        if _is_ours(base) and "__init__" in vars(base):
            names += _assigned(base)
    return [name for name in dict.fromkeys(names) if not name.startswith("_")]


def _assigned(kind: type[Any]) -> Iterator[str]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(vars(kind)["__init__"])))
    except (OSError, TypeError):
        return  # created by a decorator
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            yield node.attr


def function(label: str, routine: Any, ahead: deque[tuple[str, Any]]) -> Iterator[str]:
    """Yield a function's name and arguments."""
    yield f"{label}()"
    yield from parameters(label, routine)
    ahead += [(f"{label}()", each) for each in types_in(_hints(routine).get("return"))]


def parameters(label: str, routine: Any) -> Iterator[str]:
    """Yield each argument with its position (``*`` means keyword-only), its default and its allowed values."""
    hints = _hints(vars(routine).get("__init__") if isinstance(routine, type) else routine)
    try:
        signature = inspect.signature(routine)
    except (TypeError, ValueError):
        return
    place = 0
    for each in signature.parameters.values():
        if each.name in ("self", "cls"):
            continue
        if each.kind is each.VAR_KEYWORD:
            keys = [key for part in get_args(hints.get(each.name)) if typing.is_typeddict(part) for key in _hints(part)]
            yield from (f"{label}(*: {key})" for key in keys)
            if not keys:
                yield f"{label}(**)"
            continue
        place += each.kind is not each.KEYWORD_ONLY
        where = "*" if each.kind is each.KEYWORD_ONLY else "..." if each.kind is each.VAR_POSITIONAL else str(place)
        name = "" if each.kind in (each.POSITIONAL_ONLY, each.VAR_POSITIONAL) else f": {each.name}"
        default = "" if each.default is each.empty else f"={shown(each.default)}"
        yield f"{label}({where}{name}{default})"
        yield from choices(f"{label}({where}{name})", hints.get(each.name))


def shown(default: object) -> str:
    """Return a default as text that does not depend on the version of Python."""
    if isinstance(default, enum.Enum):
        return repr(default.value)
    if isinstance(default, Mapping) and not default:
        return "{}"
    return repr(default) if default in ((), ("*",)) or isinstance(default, str | int | float | None) else "..."


def _hints(thing: Any) -> dict[str, Any]:
    try:
        return get_type_hints(thing)
    except (NameError, TypeError, AttributeError):
        return {}  # a type that is only defined for type checkers


def _parts(hint: Any) -> Iterator[Any]:
    yield hint
    if get_origin(hint) is not Literal:
        for part in get_args(hint):
            yield from _parts(part)


def types_in(hint: Any) -> list[type[Any]]:
    """Return this package's types in an annotation."""
    return [part for part in _parts(hint) if _is_ours(part)]


def choices(label: str, hint: Any) -> Iterator[str]:
    """Yield the values that an annotation allows."""
    for part in _parts(hint):
        if get_origin(part) is Literal:
            yield from (f"{label} = {value!r}" for value in get_args(part))


# ------------------------------------------------------------ errors


def errors() -> Iterator[str]:
    """Yield the error codes with their classes and statuses, and the tree of exceptions."""
    yield from (f"code {code}: {error.__name__} {error.default_status}" for code, error in ERRORS.items())
    yield from (f"code of the control plane {code}: {status}" for code, (status, _) in CONTROL_ERRORS.items())
    for error in _below(FakeCreditsError):
        bases = ", ".join(base.__name__ for base in error.__bases__)
        yield f"class {error.__name__}({bases})"


def _below(kind: type[BaseException]) -> Iterator[type[BaseException]]:
    yield kind
    for each in kind.__subclasses__():
        if _is_ours(each):
            yield from _below(each)


def causes() -> Iterator[str]:
    """Yield the values of X-Fake-Credits-Cause."""
    yield from {error.cause for error in ERRORS.values() if error.cause not in ("auth", "fault")}
    yield from (f"auth:{reason}" for reason in AUTH_FAILURE_REASONS)
    yield from (f"README.md: {cause}" for cause in _first_cells("By X-Fake-Credits-Cause"))


def _first_cells(heading: str) -> list[str]:
    """Return the names in the first column of the table under a heading in the docs."""
    section = README.partition(f"\n## {heading}\n")[2].partition("\n#")[0]
    return re.findall(r"^\| `([^`]+)`", section, re.MULTILINE)


# ------------------------------------------------------------ pytest


class _Recorder:
    """A stand-in for pytest's parser that records the options of the plugin."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def getgroup(self, *_names: str) -> "_Recorder":
        return self

    def addoption(self, flag: str, **_words: object) -> None:
        self.words.append(f"flag {flag}")

    def addini(self, name: str, _help: str, type: str = "string", **_words: object) -> None:  # noqa: A002 - pytest's
        self.words.append(f"ini {name} ({type})")


def plugin() -> Iterator[str]:
    """Yield the marker's options, the fixtures, and the plugin's options under each of their names."""
    (entry,) = [each for each in importlib.metadata.entry_points(group="pytest11") if each.value in OURS]
    yield f"plugin {entry.name}"
    module: Any = entry.load()
    recorder = _Recorder()
    module.pytest_addoption(recorder)
    yield from recorder.words
    for option in PLUGIN_OPTIONS:
        if not option.ini_only:
            yield f"environment {option.env_variable}"
        yield f"default of {option.ini}: {shown(option.default)}"
    yield from (f"marker {word}=" for word in MARKER_OPTIONS)
    yield from (f"marker allow= {word!r}" for word in ALLOWABLE_PROBLEMS)
    yield from (f"ini fake_credits_env {{{field}}}: {variable}" for field, variable in ENV_FIELDS.items())
    members: dict[str, object] = {**vars(module), **vars(module._SandboxPlugin)}
    for name, member in sorted(members.items()):
        if type(member).__name__ == "FixtureFunctionDefinition":
            scope = re.search(r"scope='(\w+)'", repr(getattr(member, "_fixture_function_marker", None)))
            yield f"fixture {name} ({scope[1] if scope else 'function'})"


# ------------------------------------------------------------ command line


_CLEAN = {"PATH": os.defpath, "LC_ALL": "C.UTF-8"}


def command_line() -> Iterator[str]:
    """Yield the commands with their flags, arguments and variables, and the exit codes."""
    for name, command in {"": cli, **cli.commands}.items():
        label = f"fake-credits {name}".rstrip()
        yield label
        for each in command.params:
            yield from _parameter(label, each)
    codes = " ".join(_first_cells("Exit codes"))
    yield from (f"exit code {number} in README.md" for number in re.findall(r"\d+", codes))
    yield from exit_codes()


def exit_codes() -> Iterator[str]:
    """Run commands, and yield their exit codes."""
    with socket.create_server(("127.0.0.1", 0)) as taken, tempfile.TemporaryDirectory() as folder:
        killed = f"{sys.executable} -c 'import os; os.kill(os.getpid(), 15)'"
        commands = {
            "openapi": ["openapi"],
            "wait in vain": ["wait", "http://127.0.0.1:9", "--timeout", "0.1"],
            "an unknown flag": ["serve", "--unknown"],
            "serve at a port that is taken": ["serve", "--port", str(taken.getsockname()[1])],
            "run a folder": ["run", "--", folder],
            "run what is not there": ["run", "--", f"{folder}/nothing"],
            "run what signal 15 ends": ["run", "--", *shlex.split(killed)],
        }
        started = {
            what: subprocess.Popen(
                [sys.executable, "-m", "fake_credits", *words],
                env=_CLEAN,
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for what, words in commands.items()
        }
        for what, process in started.items():
            yield f"exit code {process.wait(60)}: {what}"


def _parameter(label: str, each: click.Parameter) -> Iterator[str]:
    if isinstance(each, click.Argument):
        yield f"{label} {each.human_readable_name}{'...' if each.nargs < 0 else ''}"
        return
    for flag in (*each.opts, *each.secondary_opts):
        many = " (repeatable)" if each.multiple else ""
        yield f"{label} {flag}{many}"
    flag = each.opts[0]
    if each.envvar:
        yield f"{label} {flag} variable {each.envvar}"
    if each.metavar:
        yield f"{label} {flag} {each.metavar}"
    if isinstance(each.type, click.Choice):
        yield from (f"{label} {flag} = {choice!r}" for choice in each.type.choices)
    if isinstance(each.default, str | int | float) and not isinstance(each.default, bool):
        yield f"{label} {flag} by default {each.default!r}"


_CHILD = """
import json, os, ssl, urllib.request
trusted = ssl.create_default_context(cafile=os.environ["CREDITS_CA_FILE"])
headers = {"X-API-Key": os.environ["CREDITS_API_KEY"]}
url = os.environ["CREDITS_BASE_URL"] + "/v1/applications/app-id/users/user-id/balance"
urllib.request.urlopen(urllib.request.Request(url, headers=headers), context=trusted, timeout=10).read()
print(json.dumps(sorted(os.environ)))
"""


def environment() -> Iterator[str]:
    """Run ``fake-credits run``; yield the variables that it sets for its command, and the members of its log."""
    python_child = [sys.executable, "-I", "-c", _CHILD]
    told = subprocess.run(
        [sys.executable, "-m", "fake_credits", "run", "--tls", "--balance", "1", "--log", "json", "--", *python_child],
        env=_CLEAN,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if told.returncode:
        raise RuntimeError(told.stderr)
    yield from (f"run sets {name}" for name in json.loads(told.stdout) if name not in _CLEAN)
    for line in told.stderr.splitlines():
        if line.startswith("{"):
            yield from (f"--log json {path}" for path in paths(json.loads(line)))


# ------------------------------------------------------------ the control plane

_CALL, _BEGIN = "call", "begin a call"  # calls to the API itself; the second kind runs in the background
_TRANSACTIONS = "/v1/applications/app-id/users/ada/transactions"
_CALLS: tuple[tuple[str, str, object], ...] = (
    ("POST", "/sandboxes", {"users": {"ada": 5}, "clock": "2030-01-01T00:00:00Z"}),
    ("GET", "/sandboxes", None),
    ("GET", "/sandboxes/{sandbox}", None),
    ("PUT", "/sandboxes/{sandbox}/users/{user}", {"balance": 3}),
    ("GET", "/sandboxes/{sandbox}/users/{user}", None),
    ("GET", "/sandboxes/{sandbox}/users", None),
    ("POST", "/sandboxes/{sandbox}/users/{user}/transactions", {"transactions": [1]}),
    ("GET", "/sandboxes/{sandbox}/users/{user}/transactions", None),
    ("POST", "/sandboxes/{sandbox}/tokens", {"user_id": "ada"}),
    ("POST", "/sandboxes/{sandbox}/bindings", {"issuer": AUTH_PROVIDERS["plain"].issuer, "user_id": "ada"}),
    ("GET", "/presets", None),
    ("POST", "/sandboxes/{sandbox}/faults", {"effect": "late_write", "after_ms": 60_000, "name": "later"}),
    (_BEGIN, _TRANSACTIONS, None),
    ("GET", "/sandboxes/{sandbox}/clock", "parked"),
    ("POST", "/sandboxes/{sandbox}/faults", {"effect": "reset", "nth": 1, "name": "mine"}),
    ("POST", "/sandboxes/{sandbox}/faults/load", {"preset": "outage"}),
    ("GET", "/sandboxes/{sandbox}/faults", None),
    ("GET", "/sandboxes/{sandbox}/faults/{rule}", None),
    ("DELETE", "/sandboxes/{sandbox}/faults/{rule}", None),
    ("DELETE", "/sandboxes/{sandbox}/faults", None),
    ("POST", "/sandboxes/{sandbox}/gates", {"name": "gate", "operation": "writes"}),
    ("GET", "/sandboxes/{sandbox}/gates", None),
    ("GET", "/sandboxes/{sandbox}/gates/{gate}", None),
    ("POST", "/sandboxes/{sandbox}/gates/{gate}/wait", {"count": 9, "limit_s": 0.001}),
    (_BEGIN, _TRANSACTIONS, None),
    ("POST", "/sandboxes/{sandbox}/gates/{gate}/wait", {"count": 1}),
    ("POST", "/sandboxes/{sandbox}/gates/{gate}/release", {}),
    (_CALL, _TRANSACTIONS, None),
    ("GET", "/sandboxes/{sandbox}/journal", None),
    ("GET", "/sandboxes/{sandbox}/journal/canonical", None),
    ("GET", "/sandboxes/{sandbox}/clock", None),
    ("POST", "/sandboxes/{sandbox}/clock/freeze", {}),
    ("POST", "/sandboxes/{sandbox}/clock/advance", {"seconds": 1}),
    ("POST", "/sandboxes/{sandbox}/clock/travel", {"to": "2030-02-01T00:00:00Z"}),
    ("POST", "/sandboxes/{sandbox}/clock/settle", None),
    ("DELETE", "/sandboxes/{sandbox}/users/{user}", None),
    ("POST", "/sandboxes/{sandbox}/reset", None),
    ("GET", "/sandboxes/{sandbox}/problems", None),
    ("DELETE", "/sandboxes/{sandbox}", None),
)
"""Requests to every route, in an order in which each succeeds, except a wait that times out.

A string instead of a body names a member of the response; the request is repeated until that member is truthy.
"""


def control() -> Iterator[str]:
    """Yield each route with the members of its query, its body and an actual response."""
    for route in CONTROL_ROUTES:
        label = f"{route.method} {route.path}"
        yield f"{label} -> {route.status}"
        what = "query" if route.method in ("GET", "DELETE") else "body"
        names: Any = getattr(route.schema, "__struct_fields__", ("<rule or scenario>",))
        for name in names:
            yield f"{label} {what} {name}"
            yield from choices(f"{label} {what} {name}", _hints(route.schema).get(name))
    factory = Factory(dict)
    try:
        server = factory.server()
        factory(api_key="")
        yield from _answers(server.base_url, server.control_token)
    finally:
        factory.close()


def _answers(base_url: str, token: str) -> Iterator[str]:
    parts = {"sandbox": "", "user": "ada", "rule": "mine", "gate": "gate"}
    api_key = ""
    for method, path, body in _CALLS:
        if method in (_CALL, _BEGIN):
            thread = threading.Thread(target=_spend, args=(f"{base_url}{path}", api_key), daemon=True)
            thread.start()
            if method == _CALL:
                thread.join()
            continue
        headers = {"X-Fake-Credits-Control": token, "Content-Type": "application/json"}
        url = f"{base_url}/_fake{path.format(**parts)}"
        status, answer, names = _ask(method, url, headers, None if isinstance(body, str) else body)
        deadline_s = time.monotonic() + 30
        while isinstance(body, str) and not answer[body] and time.monotonic() < deadline_s:
            time.sleep(0.01)
            status, answer, names = _ask(method, url, headers, None)
        if status >= 400 and answer["error"]["code"] not in ("gate_limit", "gate_timeout"):
            raise RuntimeError(f"{method} {path}: {status} {answer}")
        yield from (f"{method} {path} answers {word}" for word in paths(answer))
        yield from (f"header {name}" for name in names if name.startswith("x-"))
        if (method, path) == ("POST", "/sandboxes"):
            parts["sandbox"], api_key = answer["name"], answer["api_key"]
    yield "header X-Fake-Credits-Control"
    for path in ("livez", "readyz", "openapi.json"):
        status, _, _ = _ask("GET", f"{base_url}/_fake/{path}", {}, None)
        yield f"GET /{path} -> {status}, for everybody"
    status, _, _ = _ask("GET", f"{base_url}/.well-known/jwks.json", {}, None)
    yield f"GET /.well-known/jwks.json -> {status}, for everybody"


def _spend(url: str, api_key: str) -> None:
    headers = {"X-API-Key": api_key, "Content-Type": "application/json", **dict.fromkeys(ALWAYS_JOURNALED, "x")}
    with suppress(OSError, HTTPException):  # a late write gets no response
        _ask("POST", url, headers, {"delta": -1, "reason": "consume"})


def _ask(method: str, url: str, headers: Mapping[str, str], body: object) -> tuple[int, Any, list[str]]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, dict(headers), method=method)  # noqa: S310 - our own server
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            text, names = answer.read(), [name.lower() for name in answer.headers]
            return answer.status, _json(text), names
    except urllib.error.HTTPError as error:
        with error:
            return error.code, _json(error.read()), [name.lower() for name in error.headers]


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text.decode()


def paths(value: Any, before: str = "") -> Iterator[str]:
    """Yield the path of each member of a JSON value."""
    if isinstance(value, dict):
        for name, member in cast("dict[str, Any]", value).items():
            yield f"{before}.{name}".lstrip(".")
            yield from paths(member, f"{before}.{name}")
    elif isinstance(value, list):
        for each in cast("list[object]", value):
            yield from paths(each, f"{before}[]")


# ------------------------------------------------------------ JSON and TOML


def faults() -> Iterator[str]:
    """Yield the names that rules, effects, presets, delays and scenarios have in JSON and TOML."""
    yield from _shape("rule", Rule)
    yield from (f"rule operation = {word!r}" for word in (*OPERATIONS_BY_NAME, *METHOD_NAMES))
    yield from (f"rule script = {word!r}" for word in SCRIPT_ACTIONS)
    for word, effect in EFFECTS.items():
        yield f"effect {word}"
        yield from _shape(f"effect {word}", effect)
        yield from (f"effect {word} phase = {phase!r}" for phase in effect.phases)
    yield from (f"preset {name}" for name in FAULT_PRESETS)
    for word, kind in DISTRIBUTIONS_BY_NAME.items():
        yield from _shape(f"latency {word}", kind)
    yield from (f"scenario {key}" for key in _known_keys({"version": 1, "?": 0}))
    yield from (f"scenario changes {key}" for key in _known_keys({"changes": [{"?": 0}]}))


def _known_keys(wrong: Mapping[str, object]) -> list[str]:
    """Return the known keys that are listed in the error for an unknown key."""
    try:
        fake_credits.FakeCredits(faults=wrong)
    except FaultError as error:
        listed = re.search(r"known: ([\w, ]+)\)", str(error))
        if listed:
            return listed[1].split(", ")
    raise RuntimeError("the error for an unknown key no longer lists the known keys")


def _shape(label: str, kind: Any) -> Iterator[str]:
    hints = _hints(kind)
    for each in dataclasses.fields(kind):
        required = each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
        default = each.default if each.default_factory is dataclasses.MISSING else each.default_factory()
        yield f"{label} {each.name}" + ("" if required else f" = {shown(default)} by default")
        yield from choices(f"{label} {each.name}", hints.get(each.name))


def contract() -> Iterator[str]:
    """Yield the keys of a contract file with their allowed values."""
    yield from _shape("contract", fake_credits.Contract)
    default = fake_credits.Contract()
    yield from (f"contract routes.{name.value} = {default.routes[name]}" for name in Operation)
    yield from (f"contract statuses.{code}" for code in ERRORS)
    yield from (f"contract field_names.{name}" for name in FIELD_NAMES)
    yield from (f"contract {name} = {getattr(default, name)}" for name in ("api_key", "user_token"))


def worlds() -> Iterator[str]:
    """Yield the names of worlds and the keys of profiles and of world files."""
    yield from (f"world {name}" for name in PROFILES)
    yield from _shape("profile", Profile)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "world.json"
        told = CliRunner().invoke(cli, ["seed", "--profile", "edge", "--json", "--out", str(file)])
        yield from (f"world file {path}" for path in paths(json.loads(file.read_text())))
    for line in told.output.splitlines():
        yield from (f"seed --json {path}" for path in paths(json.loads(line)))


def tokens() -> Iterator[str]:
    """Yield the token providers, and the kinds of bad tokens with their reasons."""
    yield from (f"provider {name}: {each.algorithm} {each.issuer}" for name, each in AUTH_PROVIDERS.items())
    yield from (f"provider {each.name}: keys at {each.keys_path}" for each in AUTH_PROVIDERS.values() if each.keys_path)
    yield from (f"bad token {name}: auth:{each.auth_reason} {each.code}" for name, each in BAD_TOKENS.items())


# ------------------------------------------------------------ the API


def api() -> Iterator[str]:
    """Yield the paths, operations, schemas and headers of the OpenAPI document, and the headers in the journal."""
    document = json.loads(CliRunner().invoke(cli, ["openapi"]).output)
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if not isinstance(operation, dict) or "responses" not in operation:
                continue
            described = cast("dict[str, Any]", operation)
            yield f"{method.upper()} {path} {described.get('operationId', '')}".rstrip()
            yield from (f"{method.upper()} {path} -> {status}" for status in described["responses"])
    components: dict[str, dict[str, Any]] = document["components"]
    yield from (f"{section} {name}" for section, named in components.items() for name in named)
    for name, schema in components["schemas"].items():
        yield from (f"schemas {name}.{member}" for member in schema.get("properties", ()))
    yield from (f"header {name}" for name in set(re.findall(r'"((?:X|Retry)-[\w-]+)"', json.dumps(document))))
    yield from (f"header {name} is journalled" for name in ALWAYS_JOURNALED)


SURFACES: Mapping[str, Callable[[], Iterable[str]]] = {
    "Python": python,
    "Python beside README": python_beside,
    "errors": errors,
    "causes": causes,
    "pytest": plugin,
    "command line": command_line,
    "environment": environment,
    "control plane": control,
    "faults": faults,
    "contract": contract,
    "worlds": worlds,
    "tokens": tokens,
    "API": api,
}


def words() -> dict[str, list[str]]:
    """Return the names of each surface, sorted."""
    return {surface: sorted(set(listed())) for surface, listed in SURFACES.items()}


def text(found: Mapping[str, Iterable[str]]) -> str:
    """Return the names in the format of the file."""
    return "\n".join(f"[{surface}]\n" + "".join(f"{word}\n" for word in listed) for surface, listed in found.items())


def accepted() -> dict[str, list[str]]:
    """Return the names in the file."""
    parts = re.split(r"^\[([\w ]+)\]\n", FILE.read_text(), flags=re.MULTILINE)[1:]
    return {surface: listed.strip().splitlines() for surface, listed in zip(parts[::2], parts[1::2], strict=True)}


def main() -> int:
    """Print the names, or write them to the file."""
    found = text(words())
    if "--write" in sys.argv[1:]:
        FILE.write_text(found)
    else:
        print(found, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
