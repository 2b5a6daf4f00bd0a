"""Test that a pytest or a pluggy that is too old for the plugin is refused in one sentence."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pytest_fake_credits import check_versions

NEEDED = "pytest 7.0 or later and pluggy 1.2 or later"
README = Path(__file__).parents[2] / "README.md"

OLD_PYTEST = """
import pytest
pytest.__version__ = "6.2.5"
del pytest.StashKey
raise SystemExit(pytest.main(["-p", "pytest_fake_credits", "-p", "no:cacheprovider"]))
"""


@pytest.mark.parametrize("versions", [("7.0.0", "1.2.0"), ("7.0.0rc1", "1.10"), ("10.0", "2.0.0.dev1+g0")])
def test_versions_that_are_new_enough_pass(versions: tuple[str, str]) -> None:
    check_versions(pytest=versions[0], pluggy=versions[1])


@pytest.mark.parametrize("versions", [("6.2.5", "1.7.0"), ("7.0.0", "1.1.0"), ("6.2.5", "0.13.1")])
def test_older_ones_are_refused_with_what_is_installed_and_what_is_needed(versions: tuple[str, str]) -> None:
    with pytest.raises(pytest.UsageError) as refused:
        check_versions(pytest=versions[0], pluggy=versions[1])
    installed = "pytest {} and pluggy {}".format(*versions)
    assert str(refused.value) == f"fake-credits needs {NEEDED}, got {installed}: pip install -U pytest pluggy"


def test_a_run_with_an_old_pytest_ends_with_that_sentence(tmp_path: Path) -> None:
    """Also where no test uses the plugin."""
    (tmp_path / "test_unused.py").write_text("def test_unused():\n    pass\n")
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-c", OLD_PYTEST]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == pytest.ExitCode.USAGE_ERROR
    [line] = ran.stderr.strip().splitlines()
    assert line.startswith(f"ERROR: fake-credits needs {NEEDED}, got pytest 6.2.5 and ")


def test_the_readme_states_the_same_versions() -> None:
    assert NEEDED in README.read_text(encoding="utf-8").replace("\n", " ")
