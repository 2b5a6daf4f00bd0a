"""Own the files that the command line writes: whole or not at all, for their owner alone unless told; know no contents.

Each failure names the flag that named the file.
"""

import contextlib
import errno
import os
from collections.abc import Generator
from pathlib import Path

import click

from fake_credits.keyed_random import random_name

__all__ = ["create_if_missing", "has_content", "read_text", "remove", "write_atomically"]

_OWNER_ONLY_MODE = 0o600
# What systems answer where a file system has no hard links, or allows none; ENOTSUP is EOPNOTSUPP on some only.
_NO_LINKS = {errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EMLINK}


def write_atomically(path: Path, text: str, flag: str, *, mode: int = _OWNER_ONLY_MODE) -> None:
    """Write a file in one step, so that nobody reads half of it."""
    with _click_errors(flag, path, "written"), _temporary_sibling(path, text, mode) as temporary:
        temporary.replace(path)


def create_if_missing(path: Path, text: str, flag: str) -> None:
    """Write a file in one step, unless there is one: of two processes that start together the first wins."""
    with (
        _click_errors(flag, path, "written"),
        _temporary_sibling(path, text) as temporary,
        contextlib.suppress(FileExistsError),
    ):
        try:
            os.link(temporary, path)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            _claim(path, temporary)


def read_text(path: Path, flag: str) -> str:
    """Return a file's text."""
    with _click_errors(flag, path, "read"):
        return path.read_text("utf-8")


def remove(path: Path, flag: str) -> None:
    """Remove a file, if it is there."""
    with _click_errors(flag, path, "removed"):
        path.unlink(missing_ok=True)


def has_content(path: Path, text: str) -> bool:
    """Tell whether a file has this text; one that is absent or can't be read has not."""
    try:
        return path.read_text("utf-8") == text
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def _click_errors(flag: str, path: Path, verb: str) -> Generator[None, None, None]:
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise click.ClickException(f"{flag} {str(path)!r} can't be {verb}: {reason}") from error


def _claim(path: Path, draft: Path) -> None:
    """Put a draft in the place of a path that is free, without a hard link.

    Raise FileExistsError where it is taken. Whoever reads the file between the two steps finds it empty.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY_MODE))
    try:
        draft.replace(path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _temporary_sibling(path: Path, text: str, mode: int = _OWNER_ONLY_MODE) -> Generator[Path, None, None]:
    """Write a file of another name beside the path; nothing of it stays, whatever happens: it may hold private keys."""
    temporary = path.with_name(random_name(f".{path.name}."))
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:  # text would have CRLF on Windows, which no shell reads
            file.write(text.encode("utf-8"))
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
