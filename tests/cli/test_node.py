"""The README's API from another language, without a client library."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND, LIMIT_S, clean_environment


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_readme_example_runs_in_node_over_fetch() -> None:
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
