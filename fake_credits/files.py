"""Atomic file writes: readers never see a partial file, and a failure leaves nothing behind."""

import contextlib
import os
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO

from fake_credits.keyed_random import random_name


@contextlib.contextmanager
def atomic_file(path: Path, *, mode: int = 0o666, keep_existing: bool = False) -> Generator[BinaryIO]:
    """Open a temporary file that is moved to ``path`` if the block completes without an error.

    With ``keep_existing``, an existing file is kept: if two processes write at the same time, the first one wins.
    """
    temporary = path.with_name(random_name(f".{path.name[:100]}."))
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            yield file
        try:
            if keep_existing:
                os.link(temporary, path)
        except FileExistsError:
            return
        except OSError:  # Without hard links, a file that another process has just created could still be overwritten.
            if path.exists():
                return
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
