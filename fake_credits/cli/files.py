"""Own the files that the command line writes: whole or not at all, and for their owner alone; know no contents."""

import contextlib
import os
from pathlib import Path

import click

from fake_credits.chance import fresh_name

__all__ = ["create", "read", "replace"]


def replace(path: Path, text: str) -> None:
    """Write a file in one step, so that nobody reads half of it."""
    try:
        _beside(path, text).replace(path)
    except OSError as error:
        raise click.FileError(str(path), error.strerror or str(error)) from error


def create(path: Path, text: str) -> None:
    """Write a file in one step, unless there is one: of two processes that start together the first wins."""
    try:
        draft = _beside(path, text)
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    except OSError as error:
        raise click.FileError(str(path), error.strerror or str(error)) from error


def read(path: Path) -> str:
    """Return a file's text."""
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise click.FileError(str(path), str(error)) from error


def _beside(path: Path, text: str) -> Path:
    draft = path.with_name(fresh_name(f".{path.name}."))
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    return draft
