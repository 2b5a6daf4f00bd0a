"""What a flag's value may be: a file to write takes no other thing's place."""

import os
from pathlib import Path

import pytest

from fake_credits.cli.params import writable_file


def test_a_pipe_or_a_device_is_refused_as_a_file_would_take_its_place_and_be_removed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for path in (str(tmp_path / "pipe"), str(tmp_path / "link"), os.devnull):
        with pytest.raises(ValueError, match="^is a device, a pipe or a socket, .*: give a file$"):
            writable_file(path)


def test_a_link_stays_and_the_file_that_it_leads_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert writable_file(str(tmp_path / "link")) == tmp_path / "file"
