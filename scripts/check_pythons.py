"""Run the suite on each supported CPython found on this machine, one after another, each in a fresh environment.

    python scripts/check_pythons.py [--except-current] [PYTEST ARGUMENT ...]

The classifiers in pyproject.toml say which Pythons are supported. The script looks for each of them on PATH (for
example, as ``python3.13``) and among pyenv's versions, and uses the newest patch release. A version that isn't found is
reported, but is not a failure. With ``--except-current``, the version that runs this script is left out.

Requires access to PyPI.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = "Scripts" if sys.platform == "win32" else "bin"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CLASSIFIER = "Programming Language :: Python :: 3."
SUPPORTED = [f"3.{each.removeprefix(CLASSIFIER)}" for each in PROJECT["classifiers"] if each.startswith(CLASSIFIER)]
CURRENT = f"{sys.version_info.major}.{sys.version_info.minor}"

# Free-threaded builds are left out: few compiled packages have wheels for them.
DESCRIBE = """\
import json, sys, sysconfig
if sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED"):
    print(json.dumps(sys.version_info[:]))
"""


def candidates(version: str) -> Iterator[Path]:
    """Yield the paths of possible interpreters for a version ("3.13")."""
    if version == CURRENT:
        yield Path(sys.executable)
    for folder in os.get_exec_path():
        found = shutil.which(f"python{version}", path=folder)
        if found:
            yield Path(found)
    if shutil.which("pyenv"):
        root = subprocess.run(["pyenv", "root"], text=True, stdout=subprocess.PIPE, check=True).stdout.strip()
        yield from (Path(root) / "versions").glob(f"{version}.*/bin/python")


def patch_release(python: Path) -> list[int | str]:
    """Return an interpreter's ``sys.version_info``, or an empty list if it isn't a working CPython."""
    try:
        command = [str(python), "-I", "-c", DESCRIBE]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return list(json.loads(ran.stdout or "[]"))


def find(version: str) -> tuple[Path, str] | None:
    """Return the interpreter with the newest patch release of a version, and that release ("3.13.2")."""
    found = {python: patch_release(python) for python in candidates(version)}
    fitting = {python: release for python, release in found.items() if release[:2] == [*map(int, version.split("."))]}
    if not fitting:
        return None
    newest = max(fitting, key=lambda python: fitting[python])
    return newest, ".".join(map(str, fitting[newest][:3]))


def passes(python: Path, arguments: list[str]) -> bool:
    """Return whether the suite passes on an interpreter, in a fresh environment."""
    with tempfile.TemporaryDirectory() as name:
        fresh = str(Path(name) / "env" / BIN / "python")
        steps = (
            [str(python), "-m", "venv", str(Path(name) / "env")],
            [fresh, "-m", "pip", "install", "-q", "-e", f"{ROOT}[dev]"],
            [fresh, "-m", "pytest", "-q", *arguments],
        )
        return all(subprocess.run(step, cwd=ROOT, check=False).returncode == 0 for step in steps)


def main() -> None:
    """Find the interpreters, run the suite on each, and print the outcomes."""
    parser = argparse.ArgumentParser(
        usage="check_pythons.py [--except-current] [PYTEST ARGUMENT ...]", allow_abbrev=False
    )
    parser.add_argument("--except-current", action="store_true", help=f"leave out Python {CURRENT}")
    options, arguments = parser.parse_known_args()
    outcomes: dict[str, str] = {}
    for version in SUPPORTED:
        if options.except_current and version == CURRENT:
            outcomes[version] = "left out"
        elif found := find(version):
            python, release = found
            print(f"--- Python {release}: {python}", flush=True)
            outcomes[version] = f"{release} {'passed' if passes(python, arguments) else 'FAILED'}"
        else:
            outcomes[version] = "not found"
    for version, outcome in outcomes.items():
        print(f"Python {version}: {outcome}")
    if set(outcomes.values()) == {"not found"}:
        sys.exit("no supported Python was found")
    sys.exit(any(outcome.endswith("FAILED") for outcome in outcomes.values()))


if __name__ == "__main__":
    main()
