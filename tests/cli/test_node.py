"""The API from JavaScript, without a client library: from a script, and from test runners."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND, LIMIT_S, clean_environment

EXAMPLES = Path(__file__).parents[1] / "examples" / "javascript"
RUNNERS = {
    "vitest@4": ("vitest.test.mjs", ["npx", "vitest", "run"]),
    "jest@30": ("jest.test.cjs", ["npx", "jest"]),
}


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_readme_example_runs_in_node_with_fetch() -> None:
    script = Path(__file__).parent / "readme.mjs"
    result = subprocess.run(
        [*COMMAND, "run", "--", "node", str(script)],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
        env=clean_environment(),
    )
    assert (result.returncode, result.stdout) == (0, "all as the README says\n"), result.stderr


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
@pytest.mark.parametrize("package", RUNNERS)
def test_example_for_test_runner_passes(package: str, tmp_path: Path) -> None:
    """This needs the npm registry."""
    example, command = RUNNERS[package]
    for name in ("credits.cjs", example):
        shutil.copy(EXAMPLES / name, tmp_path)
    (tmp_path / "package.json").write_text("{}")
    install = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", package]
    subprocess.run(install, cwd=tmp_path, capture_output=True, check=True)
    result = subprocess.run(
        [*COMMAND, "run", "--", *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=3 * LIMIT_S,
        env=clean_environment(NO_COLOR="1", FORCE_COLOR="0"),
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 passed" in result.stdout + result.stderr
