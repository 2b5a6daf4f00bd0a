"""Run the suite once on the lowest versions that pyproject.toml allows, in a fresh environment.

    python scripts/check_lowest.py [PYTEST ARGUMENT ...]

Needs PyPI. Only what the product itself uses is held down: the development tools are the newest.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = "Scripts" if sys.platform == "win32" else "bin"


def lowest() -> list[str]:
    """Return the dependencies of the product and of its extra ``demo``, each pinned to its lower bound."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins: list[str] = []
    for requirement in (*project["dependencies"], *project["optional-dependencies"]["demo"]):
        found = re.fullmatch(r"([\w.\[\]-]+)>=([\w.]+)(;.*)?", requirement)
        if found is None:
            sys.exit(f"no lower bound: {requirement}")
        pins.append(f"{found[1].partition('[')[0]}=={found[2]}{found[3] or ''}")
    return pins


def main() -> None:
    """Install and run."""
    with tempfile.TemporaryDirectory() as name:
        venv.create(Path(name) / "env", with_pip=True)
        python = Path(name) / "env" / BIN / "python"
        constraints = Path(name) / "lowest.txt"
        constraints.write_text("\n".join(lowest()) + "\n")
        install = [python, "-m", "pip", "install", "-q", "-c", constraints, "-e", f"{ROOT}[dev]"]
        subprocess.run(list(map(str, install)), check=True)
        sys.exit(subprocess.run([str(python), "-m", "pytest", "-q", *sys.argv[1:]], cwd=ROOT, check=False).returncode)


if __name__ == "__main__":
    main()
