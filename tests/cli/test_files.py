"""A file is there whole or not at all, and nothing of a failed attempt stays: it may hold private keys."""

import os
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from fake_credits.cli import files


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(("write", "step"), [(files.create, (os, "link")), (files.replace, (Path, "replace"))])
def test_a_failure_names_flag_and_file_and_leaves_no_draft(
    write: Callable[[Path, str, str], None], step: tuple[object, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(*step, full)
    with pytest.raises(click.ClickException, match="^--key-file '.*/keys' can't be written: No space left on device$"):
        write(tmp_path / "keys", "private", "--key-file")
    assert list(tmp_path.iterdir()) == []


def test_a_text_that_can_not_be_written_leaves_no_draft(tmp_path: Path) -> None:
    with pytest.raises(click.ClickException, match="can't be written"):
        files.replace(tmp_path / "ready", "\ud800", "--ready-file")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_can_not_be_read_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff")
    assert not files.holds(tmp_path / "absent", "")
    assert not files.holds(tmp_path / "binary", "")
    with pytest.raises(click.ClickException, match="^--key-file '.*absent' can't be read: No such file or directory$"):
        files.read(tmp_path / "absent", "--key-file")
