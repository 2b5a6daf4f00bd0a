"""Atomic file writes: a reader sees all of a file or none of it, and a failure leaves nothing behind."""

import contextlib
import os
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO

from fake_credits.keyed_random import random_name

__all__ = ["atomic_file"]


@contextlib.contextmanager
def atomic_file(path: Path, *, mode: int = 0o666, keep_existing: bool = False) -> Generator[BinaryIO]:
    """Open a file that is put at ``path`` once the block has ended without an error.

    With ``keep_existing``, a file that is already there stays: of two processes that start together the first wins.
    """
    temporary = path.with_name(random_name(f".{path.name[:100]}."))
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            yield file
        if keep_existing:
            _move_unless_exists(temporary, path)
        else:
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _move_unless_exists(source: Path, path: Path) -> None:
    try:
        os.link(source, path)
    except FileExistsError:
        pass
    except OSError:  # some file systems have no hard links; there, two processes could both write
        if not path.exists():
            source.replace(path)
