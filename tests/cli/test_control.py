"""The control plane from another language: four files of Node's runner in parallel, a sandbox each, on one `run`."""

import shutil
import subprocess
from pathlib import Path

import pytest

from fake_credits.web.control.table import ROUTES, match
from tests.cli.conftest import COMMAND, LIMIT_S, clean_environment

FOLDER = Path(__file__).parent / "control"
FILES = sorted(FOLDER.glob("*.test.mjs"))


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_a_suite_in_node_uses_every_verb_in_four_files_at_once(tmp_path: Path) -> None:
    recorded = tmp_path / "recorded"
    preload = f"--import={(FOLDER / 'record.mjs').as_uri()}"
    done = subprocess.run(
        [*COMMAND, "run", "--", "node", "--test", "--test-concurrency=4", *map(str, FILES)],
        capture_output=True,
        text=True,
        check=False,
        timeout=3 * LIMIT_S,
        env=clean_environment(NODE_OPTIONS=preload, RECORDED=str(recorded)),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(FILES) == 4
    assert done.stderr == ""
    asked = [line.split(" ") for line in recorded.read_text().splitlines()]
    used = [match(method, path.split("/")[2:], path)[0] for method, path in asked if path.startswith("/_fake/")]
    assert [route for route in ROUTES if route not in used] == []
