"""Test the package as a whole: what importing it loads, what its modules promise, which errors the tree draws."""

import ast
import importlib
import importlib.util
import os
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import fake_credits
from fake_credits import errors

ROOT = Path(fake_credits.__file__).parent
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages([str(ROOT)], "fake_credits.")
    if not module.name.endswith("__main__")
)
PROJECT: dict[str, Any] = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["project"]
HEAVY = (
    "starlette",
    "uvicorn",
    "httpx2",
    "httpx",
    "jwt",
    "cryptography",
    "msgspec",
    "anyio",
    "asyncio",
    "ssl",
)


def loaded_by(code: str) -> set[str]:
    """Return the modules that a fresh interpreter has loaded after running some code."""
    script = f"import sys; before = set(sys.modules); {code}; print(*(set(sys.modules) - before))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT.parent)}
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    return set(ran.stdout.split())


def test_importing_the_package_loads_nothing_but_typing() -> None:
    loaded = loaded_by("import typing; before = set(sys.modules); import fake_credits")
    assert loaded == {"fake_credits"}


def test_importing_an_error_or_a_noun_loads_nothing_heavy() -> None:
    loaded = loaded_by("from fake_credits import ApiError, Reason")
    assert loaded.isdisjoint(HEAVY)
    assert "fake_credits.fake" not in loaded


def test_importing_the_fake_loads_no_server_and_nothing_that_few_suites_need() -> None:
    """Few sandboxes answer over a socket, start with rules, or sign with RSA."""
    loaded = loaded_by("import fake_credits.fake")
    rules = {"statistics", "tomllib", "fake_credits.faults.scenarios"}
    server = {"uvicorn", "uvloop", "httptools", "fake_credits.transports.live", "fake_credits.control.app"}
    assert loaded.isdisjoint(rules | server | {"jwt", "cryptography", "httpx2", "httpx"})


def test_importing_a_client_loads_no_server_and_no_http_library() -> None:
    loaded = loaded_by("from fake_credits import ServerClient, UserClient")
    assert loaded.isdisjoint({"starlette", "uvicorn", "httpx2", "httpx", "jwt", "cryptography", "asyncio"})


@pytest.mark.parametrize("name", fake_credits.__all__)
def test_every_promised_name_loads_and_is_what_it_says(name: str) -> None:
    assert getattr(fake_credits, name).__name__ == name


def test_every_promised_name_has_its_home_and_its_import_for_type_checkers() -> None:
    """The list stands three times in the package's file: for type checkers, for readers, for loading."""
    tree = ast.parse((ROOT / "__init__.py").read_text())
    typed = {alias.asname for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    homes: dict[str, str] = vars(fake_credits)["_MODULES_BY_NAME"]
    assert set(fake_credits.__all__) == set(homes) == typed - {None}
    assert fake_credits.__all__ == sorted(fake_credits.__all__)


def test_a_misspelt_name_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'FakeCredit'"):
        getattr(fake_credits, "FakeCredit")  # noqa: B009 - a plain access is an error of types, as it should be


@pytest.mark.parametrize("name", MODULES)
def test_a_module_lists_its_public_names_sorted_and_all_of_them(name: str) -> None:
    """Packages that hold no code list nothing."""
    tree = ast.parse(source_of(name))
    defined = public_definitions(tree)
    listed = getattr(importlib.import_module(name), "__all__", [])
    assert list(listed) == sorted(listed, key=in_ruffs_order)
    assert len(set(listed)) == len(listed)
    assert defined <= set(listed)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_has_every_name_that_it_lists(name: str) -> None:
    module = importlib.import_module(name)
    assert [missing for missing in getattr(module, "__all__", []) if not hasattr(module, missing)] == []


@pytest.mark.parametrize("name", MODULES)
def test_a_module_with_code_opens_with_a_sentence_on_what_it_owns(name: str) -> None:
    source = source_of(name)
    assert not source.strip() or (ast.get_docstring(ast.parse(source)) or "").split("\n")[0].strip() != ""


def source_of(name: str) -> str:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).read_text()


def public_definitions(tree: ast.Module) -> set[str]:
    """Return the names of a module's public functions and classes, but for commands: those hang on their group."""
    definitions = [
        node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    ]
    return {node.name for node in definitions if not node.name.startswith("_") and not is_command(node)}


def is_command(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    return any(".command" in ast.unparse(decorator) for decorator in node.decorator_list)


def in_ruffs_order(name: str) -> tuple[int, str]:
    """Sort as the linter does (RUF022): constants, classes, the rest."""
    if name.isupper():
        return 0, name
    return (1, name) if name[0].isupper() else (2, name)


def error_classes() -> dict[str, type[BaseException]]:
    found = {name: value for name, value in vars(errors).items() if isinstance(value, type)}
    return {name: value for name, value in found.items() if issubclass(value, errors.FakeCreditsError)}


def drawn_tree() -> dict[str, str]:
    """Return each class of the tree in the docstring with the one that it hangs under."""
    lines = (errors.__doc__ or "").split("::\n\n")[1].splitlines()
    trail: list[str] = []
    parents: dict[str, str] = {}
    for line in filter(str.strip, lines):
        names, _, _ = line.strip("│├└─ ").partition("   ")
        depth = (len(line) - len(line.lstrip("│├└─ "))) // 4 - 1
        words = line.strip("│├└─ ").split() if depth == 2 else [names.split()[0]]
        parents.update(dict.fromkeys(words, trail[depth - 1] if depth else ""))
        trail[depth:] = [words[0]]
    return parents


def test_every_error_is_drawn_in_the_tree_under_its_base() -> None:
    assert drawn_tree() == {
        name: "" if error is errors.FakeCreditsError else error.__bases__[0].__name__
        for name, error in error_classes().items()
    }


def test_every_refusal_of_the_api_stands_in_the_table_under_its_code() -> None:
    refusals = [error for error in errors.ApiError.__subclasses__() if error.__module__ == errors.__name__]
    assert set(errors.ERRORS.values()) == set(refusals)
    assert {code: error.code for code, error in errors.ERRORS.items()} == {code: code for code in errors.ERRORS}


@pytest.mark.parametrize("error", errors.ERRORS.values(), ids=errors.ERRORS.keys())
def test_a_code_is_the_name_of_its_class_and_its_status_an_error(error: type[errors.ApiError]) -> None:
    assert error.code.replace("_", "") == error.__name__.lower()
    assert 400 <= error.default_status < 600
    assert str(error("why")) == f"{error.default_status} {error.code}: why"


def classified(category: str) -> list[str]:
    """Return what the classifiers of a category say."""
    prefix = f"{category} :: "
    return [each.removeprefix(prefix) for each in PROJECT["classifiers"] if each.startswith(prefix)]


def test_the_classifiers_name_each_python_from_the_lowest_that_is_required() -> None:
    minors = [int(each.removeprefix("3.")) for each in classified("Programming Language :: Python") if each[:2] == "3."]
    assert minors == list(range(minors[0], minors[-1] + 1))
    required = SpecifierSet(PROJECT["requires-python"])
    assert all(f"3.{minor}" in required for minor in minors)
    assert f"3.{minors[0] - 1}" not in required


def test_the_classifiers_name_cpython_and_the_system_that_the_tests_have_run_on() -> None:
    assert classified("Programming Language :: Python :: Implementation") == ["CPython"]
    assert classified("Operating System") == ["POSIX :: Linux"]


def test_the_author_holds_the_licence() -> None:
    """There is no URL yet, so the metadata have none."""
    (author,) = PROJECT["authors"]
    assert f"Copyright (c) 2026 {author['name']}\n" in (ROOT.parent / "LICENSE").read_text()
    assert "urls" not in PROJECT


def test_every_dependency_has_one_bound_the_lowest() -> None:
    requirements = map(Requirement, PROJECT["dependencies"])
    operators = {str(each): [clause.operator for clause in each.specifier] for each in requirements}
    assert [text for text, found in operators.items() if found != [">="]] == []


@pytest.mark.parametrize(
    ("platform", "implementation", "expected"),
    [
        ("linux", "cpython", True),
        ("darwin", "cpython", True),
        ("win32", "cpython", False),
        ("cygwin", "cpython", False),
        ("linux", "pypy", False),
    ],
)
def test_uvloop_is_required_only_where_it_has_wheels(platform: str, implementation: str, expected: bool) -> None:
    environment = {"sys_platform": platform, "implementation_name": implementation, "python_version": "3.15"}
    markers = [each.marker for each in map(Requirement, PROJECT["dependencies"]) if each.name == "uvloop"]
    assert {marker is None or marker.evaluate(environment) for marker in markers} == {expected}


STYLE = Path(__file__).parents[2] / "shared" / "tools"


@pytest.mark.skipif(not (STYLE / "style_metrics.py").exists(), reason="the metrics are not beside this checkout")
def test_no_modules_import_each_other_in_a_circle() -> None:
    """The order of the layers is checked by import-linter."""
    limits = ("--limit", "cycles_all=0", "--limit", "module_max=400")
    command = [sys.executable, str(STYLE / "style_metrics.py"), str(ROOT), *limits]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
