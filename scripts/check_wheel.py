"""Build the sdist and the wheel, install the wheel into a fresh environment, and use it as a user would.

    python scripts/check_wheel.py

Requires the development extra (for ``build``) in the environment that runs it, and access to PyPI.
"""

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = "Scripts" if sys.platform == "win32" else "bin"

GOOD = """\
from datetime import datetime

from fake_credits import FakeCredits, ServerClient
from fake_credits.client.user import UserClient
from fake_credits.models import Balance


def balance(client: ServerClient) -> Balance:
    return client.get_balance("app-id", "user-id")


def when(fake_credits: FakeCredits) -> datetime:
    user: UserClient = fake_credits.user_client("user-id")
    return user.get_user("user-id").created_at
"""

MISSPELT = "from fake_credits import ServerCleint\n\nprint(ServerCleint)\n"

TEST = """\
def test_the_fixture_works(fake_credits):
    fake_credits.user("ada", balance=100)
    fake_credits.server_client.create_transaction("app-id", "ada", delta=-10, reason="consume")
    assert fake_credits.user_client("ada").get_balance("ada").balance == 90
"""


def run(*command: str | Path, cwd: Path, fails: bool = False) -> str:
    """Run a command and return its output; exit unless it succeeds (or, if ``fails`` is true, unless it fails)."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if (done.returncode != 0) is not fails:
        expected = "fail" if fails else "succeed"
        sys.exit(f"{' '.join(map(str, command))} did not {expected}:\n{done.stdout}")
    return done.stdout


def build(into: Path) -> Path:
    """Build the sdist, and the wheel from it; return the path of the wheel."""
    run(sys.executable, "-m", "build", "--outdir", into, ROOT, cwd=into)
    (wheel,) = into.glob("*.whl")
    return wheel


def main() -> None:
    """Build the wheel, install it, and check that it works."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "dist").mkdir()
        wheel = build(folder / "dist")
        venv.create(folder / "env", with_pip=True)
        python = folder / "env" / BIN / "python"
        run(python, "-m", "pip", "install", "-q", wheel, "pytest", "mypy", "pyright", cwd=folder)
        use(python, folder)
    print("the wheel works outside the checkout")


def use(python: Path, folder: Path) -> None:
    """Check the installed wheel with the fixture, the command line and both type checkers."""
    downstream = folder / "downstream"
    downstream.mkdir()
    (downstream / "good.py").write_text(GOOD)
    (downstream / "misspelt.py").write_text(MISSPELT)
    (downstream / "test_it.py").write_text(TEST)
    run(python, "-W", "error", "-m", "pytest", "-q", "test_it.py", cwd=downstream)
    run(python, "-m", "fake_credits", "--help", cwd=downstream)
    run(python, "-m", "fake_credits", "seed", "--profile", "edge", "--out", "edge.json", cwd=downstream)
    if "pip install 'fake-credits[demo]'" not in run(
        python, "-m", "fake_credits", "seed", "--profile", "tiny", "--out", "tiny.json", cwd=downstream, fails=True
    ):
        sys.exit("without Faker it is not said how to install it")
    # Name the interpreter, because pyright uses the first one on PATH by default.
    for checker in (("mypy", "--strict"), ("pyright", "--pythonpath", python)):
        run(python, "-m", *checker, "good.py", cwd=downstream)
        output = run(python, "-m", *checker, "misspelt.py", cwd=downstream, fails=True)
        if "ServerCleint" not in output:
            sys.exit(f"{checker[0]} fails on the misspelt import for another reason:\n{output}")


if __name__ == "__main__":
    main()
