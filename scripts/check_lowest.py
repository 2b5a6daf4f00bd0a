"""Run the suite once with the lowest versions that pyproject.toml allows, in a fresh environment.

    python scripts/check_lowest.py [PYTEST ARGUMENT ...]

Before that, check that the lowest versions have wheels for this platform on every supported Python. Only the product's
own dependencies are pinned; the development tools are the latest versions.

Needs PyPI, and the development extra in the environment that runs it (for ``packaging``).
"""

import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
BIN = "Scripts" if sys.platform == "win32" else "bin"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CLASSIFIER = "Programming Language :: Python :: 3."
SUPPORTED = [f"3.{each.removeprefix(CLASSIFIER)}" for each in PROJECT["classifiers"] if each.startswith(CLASSIFIER)]
CURRENT = f"{sys.version_info.major}.{sys.version_info.minor}"


def lowest(python: str) -> list[str]:
    """Return the requirements of the product and its ``demo`` extra on a Python version, pinned to the lower bounds."""
    bounds: dict[str, Version] = {}
    for requirement in map(Requirement, (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["demo"])):
        if requirement.marker and not requirement.marker.evaluate({"python_version": python}):
            continue
        name, bound = canonicalize_name(requirement.name), lower_bound(requirement)
        bounds[name] = max(bound, bounds.get(name, bound))
    return [f"{name}=={bound}" for name, bound in bounds.items()]


def lower_bound(requirement: Requirement) -> Version:
    """Return the lower bound of a requirement; exit if it does not have exactly one."""
    bounds = [each.version for each in requirement.specifier if each.operator == ">="]
    if len(bounds) != 1:
        sys.exit(f"a dependency must have one lower bound, got {requirement}")
    return Version(bounds[0])


def check_wheels(folder: Path) -> None:
    """Exit if a lower bound has no wheel for a supported Python."""
    for python in SUPPORTED:
        target = ("--python-version", python, "--only-binary", ":all:", "--no-deps", "--target", folder / "wheels")
        install = [sys.executable, "-m", "pip", "install", "-q", "--dry-run", *target, *lowest(python)]
        if subprocess.run(list(map(str, install)), check=False).returncode:
            sys.exit(f"a lower bound has no wheel on Python {python}")
    print(f"the lower bounds have wheels on Python {', '.join(SUPPORTED)}", flush=True)


def main() -> None:
    """Check the wheels, install the lowest versions, and run the suite."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        check_wheels(folder)
        venv.create(folder / "env", with_pip=True)
        python = folder / "env" / BIN / "python"
        constraints = folder / "lowest.txt"
        constraints.write_text("\n".join(lowest(CURRENT)) + "\n")
        install = [python, "-m", "pip", "install", "-q", "-c", constraints, "-e", f"{ROOT}[dev]"]
        subprocess.run(list(map(str, install)), check=True)
        sys.exit(subprocess.run([str(python), "-m", "pytest", "-q", *sys.argv[1:]], cwd=ROOT, check=False).returncode)


if __name__ == "__main__":
    main()
