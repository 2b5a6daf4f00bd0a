"""Atomic file writes: a failure leaves no partial or temporary file behind, as it might contain private keys."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from fake_credits.files import atomic_file


def write(path: Path, data: bytes, *, keep_existing: bool = True) -> None:
    with atomic_file(path, mode=0o600, keep_existing=keep_existing) as file:
        file.write(data)


def test_file_appears_with_its_mode_after_the_block(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "keys", mode=0o600) as file:
        file.write(b"private")
        assert not (tmp_path / "keys").exists()
    assert (tmp_path / "keys").read_bytes() == b"private"
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [tmp_path / "keys"]


def test_error_in_the_block_keeps_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(b"old")
    parts: list[Any] = [b"half", None]
    with pytest.raises(TypeError), atomic_file(tmp_path / "keys") as file:
        file.writelines(parts)
    assert (tmp_path / "keys").read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [tmp_path / "keys"]


@pytest.fixture(params=[None, errno.EPERM, errno.ENOTSUP], ids=["links", "EPERM", "ENOTSUP"])
def hard_links(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Simulate file systems that support hard links, lack them (such as exFAT), or forbid them."""

    def raise_link_error(*_: object) -> None:
        raise OSError(request.param, os.strerror(request.param))

    if request.param is not None:
        monkeypatch.setattr(os, "link", raise_link_error)


@pytest.mark.usefixtures("hard_links")
def test_keep_existing_keeps_the_first_file(tmp_path: Path) -> None:
    write(tmp_path / "keys", b"the first's")
    write(tmp_path / "keys", b"the second's")
    (file,) = tmp_path.iterdir()
    assert file.read_bytes() == b"the first's"
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("keep_existing", [True, False])
def test_full_disk_leaves_no_file(keep_existing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_disk_full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "link", raise_disk_full)
    monkeypatch.setattr(Path, "replace", raise_disk_full)
    with pytest.raises(OSError, match="No space left on device"):
        write(tmp_path / "keys", b"private", keep_existing=keep_existing)
    assert list(tmp_path.iterdir()) == []
