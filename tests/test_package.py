"""Test the package as a whole: import cost, public names, the error tree and the project's metadata."""

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
from fake_credits import client, errors

ROOT = Path(fake_credits.__file__).parent
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages([str(ROOT)], "fake_credits.")
    if not module.name.endswith("__main__")
)
PROJECT: dict[str, Any] = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["project"]
HEAVY_MODULES = (
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


def modules_loaded_by(code: str) -> set[str]:
    """Return the modules that a fresh interpreter has loaded after running some code."""
    script = f"import sys; before = set(sys.modules); {code}; print(*(set(sys.modules) - before))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT.parent)}
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    return set(result.stdout.split())


def test_importing_package_loads_no_submodule() -> None:
    loaded = modules_loaded_by("import typing; before = set(sys.modules); import fake_credits")
    assert loaded == {"fake_credits"}


def test_importing_errors_or_models_loads_no_heavy_module() -> None:
    loaded = modules_loaded_by("from fake_credits import ApiError, Reason")
    assert loaded.isdisjoint(HEAVY_MODULES)
    assert "fake_credits.fake" not in loaded


def test_importing_fake_loads_no_server_and_no_optional_module() -> None:
    """These modules are loaded on demand, because few sandboxes use a socket, start with rules or sign with RSA."""
    loaded = modules_loaded_by("import fake_credits.fake")
    rules = {"statistics", "tomllib", "fake_credits.faults.scenarios"}
    server = {"uvicorn", "uvloop", "httptools", "fake_credits.transports.live", "fake_credits.control.app"}
    assert loaded.isdisjoint(rules | server | {"jwt", "cryptography", "httpx2", "httpx"})


def test_importing_clients_loads_no_server_and_no_http_library() -> None:
    loaded = modules_loaded_by("from fake_credits import ServerClient, UserClient")
    assert loaded.isdisjoint({"starlette", "uvicorn", "httpx2", "httpx", "jwt", "cryptography", "asyncio"})


@pytest.mark.parametrize("name", fake_credits.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    assert getattr(fake_credits, name).__name__ == name


def test_public_names_match_lazy_table_and_type_checking_imports() -> None:
    """The package lists its names three times: for type checkers, in ``__all__`` and for lazy loading."""
    tree = ast.parse((ROOT / "__init__.py").read_text())
    type_checker_names = {
        alias.asname for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    modules_by_name: dict[str, str] = vars(fake_credits)["_MODULES_BY_NAME"]
    assert set(fake_credits.__all__) == set(modules_by_name) == type_checker_names - {None}
    assert fake_credits.__all__ == sorted(fake_credits.__all__)


def test_misspelled_name_raises_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'FakeCredit'"):
        getattr(fake_credits, "FakeCredit")  # noqa: B009 - type checkers reject a plain access


def test_dunder_all_is_sorted_and_complete() -> None:
    """Only packages and the modules that the documentation names have an ``__all__``."""
    for name in MODULES:
        module = importlib.import_module(name)
        public_names: list[str] | None = getattr(module, "__all__", None)
        if public_names is None:
            continue
        assert public_names == sorted(set(public_names), key=ruff_sort_key), name
        assert public_definitions(ast.parse(source_of(name))) <= set(public_names), name
        assert [public_name for public_name in public_names if not hasattr(module, public_name)] == []


def test_client_dunder_all_is_sorted_and_its_names_exist() -> None:
    assert client.__all__ == sorted(client.__all__)
    assert all(hasattr(client, name) for name in client.__all__)


def test_non_empty_module_has_docstring() -> None:
    sources = {name: source_of(name) for name in MODULES}
    docstrings = {name: ast.get_docstring(ast.parse(source)) for name, source in sources.items() if source.strip()}
    assert [name for name, docstring in docstrings.items() if not (docstring or "").split("\n")[0].strip()] == []


def source_of(name: str) -> str:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).read_text()


def public_definitions(tree: ast.Module) -> set[str]:
    """Return the names of a module's public functions and classes."""
    definitions = [
        node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    ]
    return {node.name for node in definitions if not node.name.startswith("_")}


def ruff_sort_key(name: str) -> tuple[int, str]:
    """Return a sort key that matches the linter's order (RUF022): constants, classes, the rest."""
    if name.isupper():
        return 0, name
    return (1, name) if name[0].isupper() else (2, name)


def error_classes() -> dict[str, type[BaseException]]:
    classes = {name: value for name, value in vars(errors).items() if isinstance(value, type)}
    return {name: value for name, value in classes.items() if issubclass(value, errors.FakeCreditsError)}


def documented_tree() -> dict[str, str]:
    """Return a mapping of each class in the docstring's tree to its parent."""
    lines = (errors.__doc__ or "").split("::\n\n")[1].splitlines()
    ancestors: list[str] = []
    parents: dict[str, str] = {}
    for line in filter(str.strip, lines):
        names, _, _ = line.strip("│├└─ ").partition("   ")
        depth = (len(line) - len(line.lstrip("│├└─ "))) // 4 - 1
        class_names = line.strip("│├└─ ").split() if depth == 2 else [names.split()[0]]
        parents.update(dict.fromkeys(class_names, ancestors[depth - 1] if depth else ""))
        ancestors[depth:] = [class_names[0]]
    return parents


def test_error_tree_in_docstring_matches_classes() -> None:
    assert documented_tree() == {
        name: "" if error is errors.FakeCreditsError else error.__bases__[0].__name__
        for name, error in error_classes().items()
    }


def test_errors_table_contains_every_api_error() -> None:
    refusals = [error for error in errors.ApiError.__subclasses__() if error.__module__ == errors.__name__]
    assert set(errors.ERRORS.values()) == set(refusals)
    assert {code: error.code for code, error in errors.ERRORS.items()} == {code: code for code in errors.ERRORS}


@pytest.mark.parametrize("error", errors.ERRORS.values(), ids=errors.ERRORS.keys())
def test_error_code_matches_class_name_and_status_is_an_error(error: type[errors.ApiError]) -> None:
    assert error.code.replace("_", "") == error.__name__.lower()
    assert 400 <= error.default_status < 600
    assert str(error("why")) == f"{error.default_status} {error.code}: why"


def classifiers_of(category: str) -> list[str]:
    """Return the classifiers of a category, without the category prefix."""
    prefix = f"{category} :: "
    return [each.removeprefix(prefix) for each in PROJECT["classifiers"] if each.startswith(prefix)]


def test_classifiers_list_every_supported_python() -> None:
    minors = [
        int(each.removeprefix("3.")) for each in classifiers_of("Programming Language :: Python") if each[:2] == "3."
    ]
    assert minors == list(range(minors[0], minors[-1] + 1))
    requires_python = SpecifierSet(PROJECT["requires-python"])
    assert all(f"3.{minor}" in requires_python for minor in minors)
    assert f"3.{minors[0] - 1}" not in requires_python


def test_classifiers_name_cpython_and_linux() -> None:
    assert classifiers_of("Programming Language :: Python :: Implementation") == ["CPython"]
    assert classifiers_of("Operating System") == ["POSIX :: Linux"]


def test_license_names_author() -> None:
    """The metadata has no URLs, as the project has none yet."""
    (author,) = PROJECT["authors"]
    assert f"Copyright (c) 2026 {author['name']}\n" in (ROOT.parent / "LICENSE").read_text()
    assert "urls" not in PROJECT


def test_every_dependency_has_only_a_lower_bound() -> None:
    requirements = map(Requirement, PROJECT["dependencies"])
    operators = {str(each): [clause.operator for clause in each.specifier] for each in requirements}
    assert [text for text, bounds in operators.items() if bounds != [">="]] == []


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
def test_uvloop_is_required_only_on_platforms_with_wheels(platform: str, implementation: str, expected: bool) -> None:
    environment = {"sys_platform": platform, "implementation_name": implementation, "python_version": "3.15"}
    markers = [each.marker for each in map(Requirement, PROJECT["dependencies"]) if each.name == "uvloop"]
    assert {marker is None or marker.evaluate(environment) for marker in markers} == {expected}


STYLE_TOOLS = Path(__file__).parents[2] / "shared" / "tools"


@pytest.mark.skipif(not (STYLE_TOOLS / "style_metrics.py").exists(), reason="the metrics are not beside this checkout")
def test_modules_have_no_import_cycles() -> None:
    """import-linter checks the order of the layers."""
    limits = ("--limit", "cycles_all=0", "--limit", "module_max=400")
    command = [sys.executable, str(STYLE_TOOLS / "style_metrics.py"), str(ROOT), *limits]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
