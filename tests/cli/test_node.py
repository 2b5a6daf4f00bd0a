"""An application in another language, with nothing of ours in it, meets the API that the README describes."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND, LIMIT_S, clean_environment


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_readmes_whole_example_runs_in_node_over_plain_fetch() -> None:
    script = Path(__file__).parent / "readme.mjs"
    done = subprocess.run(
        [*COMMAND, "run", "--", "node", str(script)],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
        env=clean_environment(),
    )
    assert (done.returncode, done.stdout) == (0, "all as the README says\n"), done.stderr
