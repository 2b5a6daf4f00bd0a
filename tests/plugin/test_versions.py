"""The check for versions of pytest or pluggy that are too old."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pytest_fake_credits import check_versions

from tests.documentation import TEXT

REQUIRED_VERSIONS = "pytest 7.0 or later and pluggy 1.2 or later"

OLD_PYTEST = """
import pytest
pytest.__version__ = "6.2.5"
del pytest.StashKey
raise SystemExit(pytest.main(["-p", "pytest_fake_credits", "-p", "no:cacheprovider"]))
"""


@pytest.mark.parametrize("versions", [("7.0.0", "1.2.0"), ("7.0.0rc1", "1.10"), ("10.0", "2.0.0.dev1+g0")])
def test_supported_versions_are_accepted(versions: tuple[str, str]) -> None:
    check_versions(pytest=versions[0], pluggy=versions[1])


@pytest.mark.parametrize("versions", [("6.2.5", "1.7.0"), ("7.0.0", "1.1.0"), ("6.2.5", "0.13.1")])
def test_old_versions_are_rejected_with_installed_and_required_versions(versions: tuple[str, str]) -> None:
    with pytest.raises(pytest.UsageError) as exc_info:
        check_versions(pytest=versions[0], pluggy=versions[1])
    installed = "pytest {} and pluggy {}".format(*versions)
    assert (
        str(exc_info.value) == f"fake-credits needs {REQUIRED_VERSIONS}, got {installed}: pip install -U pytest pluggy"
    )


def test_run_with_old_pytest_exits_with_a_usage_error(tmp_path: Path) -> None:
    """This applies even if no test uses the plugin."""
    (tmp_path / "test_unused.py").write_text("def test_unused():\n    pass\n")
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-c", OLD_PYTEST]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    [line] = result.stderr.strip().splitlines()
    assert line.startswith(f"ERROR: fake-credits needs {REQUIRED_VERSIONS}, got pytest 6.2.5 and ")


def test_docs_state_the_required_versions() -> None:
    assert REQUIRED_VERSIONS in TEXT.replace("\n", " ")
