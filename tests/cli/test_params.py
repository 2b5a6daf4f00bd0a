"""Conversion of flag values: files to be written."""

import os
from pathlib import Path

import pytest

from fake_credits.cli.params import writable_file


def test_writable_file_rejects_pipes_and_devices(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for path in (str(tmp_path / "pipe"), str(tmp_path / "link"), os.devnull):
        with pytest.raises(ValueError, match="^is a device, a pipe or a socket, .*: give a file$"):
            writable_file(path)


def test_writable_file_resolves_symbolic_links(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert writable_file(str(tmp_path / "link")) == tmp_path / "file"
