"""Test the scripts that check the package with other Pythons and the lowest dependency versions."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"


def load_script(name: str) -> ModuleType:
    """Return a script as a module."""
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def check_pythons() -> ModuleType:
    return load_script("check_pythons")


@pytest.fixture
def check_lowest() -> ModuleType:
    return load_script("check_lowest")


def write_program(file: Path, output: str, status: int = 0) -> Path:
    """Write a shell script that prints ``output``, as a stand-in for an interpreter."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\nprintf '%s' '{output}'\nexit {status}\n")
    file.chmod(0o755)
    return file


def version_info(*release: int) -> str:
    return json.dumps([*release, "final", 0])


posix_only = pytest.mark.skipif(sys.platform == "win32", reason="the programs are shell scripts")


@posix_only
def test_newest_patch_release_is_found_on_path_and_in_pyenv(
    check_pythons: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_program(tmp_path / "bin" / "python3.98", version_info(3, 98, 2))
    write_program(tmp_path / "bin" / "pyenv", str(tmp_path))
    write_program(tmp_path / "versions" / "3.98.9" / "bin" / "python", version_info(3, 98, 9))
    newest = write_program(tmp_path / "versions" / "3.98.10" / "bin" / "python", version_info(3, 98, 10))
    write_program(tmp_path / "versions" / "3.9.1" / "bin" / "python", version_info(3, 9, 1))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert check_pythons.find("3.98") == (newest, "3.98.10")


@posix_only
@pytest.mark.parametrize(
    ("output", "status"),
    [("", 0), ("command not found", 127), (version_info(3, 97, 1), 0)],
    ids=["other implementation", "missing interpreter", "other version"],
)
def test_program_that_is_not_cpython_of_requested_version_is_ignored(
    check_pythons: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, status: int
) -> None:
    write_program(tmp_path / "python3.98", output, status)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert check_pythons.find("3.98") is None


def test_patch_release_of_running_python_matches_version_info(check_pythons: ModuleType) -> None:
    assert check_pythons.patch_release(Path(sys.executable)) == list(sys.version_info)


def test_highest_applicable_lower_bound_is_pinned(check_lowest: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    requirements = ["One[x]>=1.9", "one>=1.10; python_version >= '3.13'", "two>=2; python_version < '3.13'"]
    project = {"dependencies": requirements, "optional-dependencies": {"demo": ["three>=3"]}}
    monkeypatch.setattr(check_lowest, "PROJECT", project)
    assert check_lowest.lowest("3.12") == ["one==1.9", "two==2", "three==3"]
    assert check_lowest.lowest("3.13") == ["one==1.10", "three==3"]


def test_dependency_without_lower_bound_is_rejected(check_lowest: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    project = {"dependencies": ["one<2"], "optional-dependencies": {"demo": ["three>=3"]}}
    monkeypatch.setattr(check_lowest, "PROJECT", project)
    with pytest.raises(SystemExit, match="a dependency must have one lower bound, got one<2"):
        check_lowest.lowest("3.13")
