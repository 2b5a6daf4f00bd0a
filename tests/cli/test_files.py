"""Atomic file writes: a failure leaves no partial or temporary file, which may hold private keys."""

import errno
import importlib
import io
import os
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from fake_credits.cli import files
from fake_credits.cli.https import trust_env
from fake_credits.transports.certificates import issue_certificate


def raise_disk_full(*_: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("write", "step"), [(files.create_if_missing, (os, "link")), (files.write_atomically, (Path, "replace"))]
)
def test_write_failure_names_flag_and_file_and_leaves_no_temporary_file(
    write: Callable[[Path, str, str], None], step: tuple[object, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(*step, raise_disk_full)
    with pytest.raises(click.ClickException, match="^--key-file '.*/keys' can't be written: No space left on device$"):
        write(tmp_path / "keys", "private", "--key-file")
    assert list(tmp_path.iterdir()) == []


def test_unencodable_text_leaves_no_temporary_file(tmp_path: Path) -> None:
    with pytest.raises(click.ClickException, match="can't be written"):
        files.write_atomically(tmp_path / "ready", "\ud800", "--ready-file")
    assert list(tmp_path.iterdir()) == []


def test_unreadable_file_has_no_content_and_raises_on_read(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff")
    assert not files.has_content(tmp_path / "absent", "")
    assert not files.has_content(tmp_path / "binary", "")
    with pytest.raises(click.ClickException, match="^--key-file '.*absent' can't be read: No such file or directory$"):
        files.read_text(tmp_path / "absent", "--key-file")


@pytest.fixture
def no_hard_links(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Simulate a file system that has no hard links (such as exFAT) or forbids them."""

    def raise_link_error(*_: object) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(os, "link", raise_link_error)


on_file_systems_without_links = pytest.mark.parametrize(
    "no_hard_links", [errno.EPERM, errno.ENOTSUP, errno.EINVAL], ids=["EPERM", "ENOTSUP", "EINVAL"], indirect=True
)


@on_file_systems_without_links
@pytest.mark.usefixtures("no_hard_links")
def test_file_is_created_atomically_without_hard_links(tmp_path: Path) -> None:
    files.create_if_missing(tmp_path / "keys", "private", "--key-file")
    (file,) = tmp_path.iterdir()
    assert file.read_text() == "private"
    assert file.stat().st_mode & 0o777 == 0o600


@on_file_systems_without_links
@pytest.mark.usefixtures("no_hard_links")
def test_existing_file_is_kept_without_hard_links(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("another's")
    files.create_if_missing(tmp_path / "keys", "private", "--key-file")
    (file,) = tmp_path.iterdir()
    assert file.read_text() == "another's"


@pytest.mark.parametrize("no_hard_links", [errno.EPERM], indirect=True)
@pytest.mark.usefixtures("no_hard_links")
def test_write_failure_leaves_no_empty_file_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty file would be read as the key file at the next start."""
    monkeypatch.setattr(Path, "replace", raise_disk_full)
    with pytest.raises(click.ClickException, match="No space left on device"):
        files.create_if_missing(tmp_path / "keys", "private", "--key-file")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def windows_newlines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write text with CRLF: Python's own file objects use `os.linesep`, unlike those in C."""
    monkeypatch.setattr(io, "open", importlib.import_module("_pyio").open)
    monkeypatch.setattr(os, "linesep", "\r\n")


@pytest.mark.usefixtures("windows_newlines")
def test_windows_newlines_fixture_writes_crlf(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("a\n")
    assert (tmp_path / "text").read_bytes() == b"a\r\n"


@pytest.mark.usefixtures("windows_newlines")
@pytest.mark.parametrize("write", [files.create_if_missing, files.write_atomically])
def test_written_file_has_unix_newlines_on_windows(write: Callable[[Path, str, str], None], tmp_path: Path) -> None:
    write(tmp_path / "ready", "A=1\nB=2\n", "--ready-file")
    assert (tmp_path / "ready").read_bytes() == b"A=1\nB=2\n"


@pytest.mark.usefixtures("windows_newlines")
def test_ca_bundles_have_unix_newlines_on_windows(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(issue_certificate(()).ca_pem.encode())
    with trust_env(ca, {}) as variables:
        assert all(b"\r" not in Path(bundle).read_bytes() for bundle in variables.values())
