"""Files passed via flags: errors name the flag and the file, and newlines are Unix newlines on every platform."""

import importlib
import io
import os
from pathlib import Path

import click
import pytest

from fake_credits.cli.bootstrap import load_signing_keys, remove_file, write_file
from fake_credits.cli.https import trust_env
from fake_credits.transports.certificates import issue_certificate


def test_write_failure_names_flag_and_file(tmp_path: Path) -> None:
    with pytest.raises(click.ClickException, match="^--key-file '.*/keys' can't be written: No such file"):
        write_file(tmp_path / "nowhere" / "keys", "private", "--key-file")


def test_unencodable_text_leaves_no_temporary_file(tmp_path: Path) -> None:
    with pytest.raises(click.ClickException, match="can't be written"):
        write_file(tmp_path / "ready", "\ud800", "--ready-file")
    assert list(tmp_path.iterdir()) == []


def test_unreadable_key_file_names_flag_and_file(tmp_path: Path) -> None:
    with pytest.raises(click.ClickException, match="^--key-file '.*' can't be read: Is a directory$"):
        load_signing_keys(tmp_path)


def test_file_with_different_text_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff")
    for name in ("absent", "binary"):
        remove_file(tmp_path / name, "--ready-file", only_with_text="ours")
    assert list(tmp_path.iterdir()) == [tmp_path / "binary"]


@pytest.fixture
def windows_newlines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write text with CRLF, as on Windows: the pure-Python `_pyio` uses `os.linesep`, unlike the C implementation."""
    monkeypatch.setattr(io, "open", importlib.import_module("_pyio").open)
    monkeypatch.setattr(os, "linesep", "\r\n")


@pytest.mark.usefixtures("windows_newlines")
def test_written_files_have_unix_newlines_on_windows(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("a\n")
    assert (tmp_path / "text").read_bytes() == b"a\r\n"  # check that the fixture works
    write_file(tmp_path / "ready", "A=1\nB=2\n", "--ready-file")
    assert (tmp_path / "ready").read_bytes() == b"A=1\nB=2\n"
    ca = tmp_path / "ca.pem"
    ca.write_bytes(issue_certificate(()).ca_pem.encode())
    with trust_env(ca, {}) as variables:
        assert all(b"\r" not in Path(bundle).read_bytes() for bundle in variables.values())
