"""Fixtures for the sample tests: a free port, and the programs that the samples call."""

import os
import socket
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import clean_environment


@pytest.fixture
def port() -> int:
    """Return a free port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def programs_environment(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which ``fake-credits`` runs this source tree and ``pip`` does nothing."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name, line in (("fake-credits", f'exec "{sys.executable}" -m fake_credits "$@"'), ("pip", "exit 0")):
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)
    return clean_environment(PATH=f"{folder}{os.pathsep}{os.environ['PATH']}")
