"""Own worlds in files: versioned JSON, a user a line, written whole or not at all; know nothing of who made them.

    {"fake_credits_world": 1, "name": "demo", "seed": 0, "users": [
    {"id": …, "created": …, "deltas": […], "reasons": "gccr…", "times": […]},
    …
    ], "sha256": …}

Times are milliseconds after the world's start. The digest is of the users as they stand here; a file from elsewhere
need not have one.
"""

import hashlib
from array import array
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from operator import gt
from pathlib import Path
from typing import BinaryIO

import msgspec

from fake_credits.chance import fresh_name
from fake_credits.ledger import CODES, Columns
from fake_credits.seeding.errors import WorldError
from fake_credits.seeding.world import SPAN_MS, History, World

__all__ = ["FORMAT", "load_world", "save_world"]

FORMAT = 1
"""The version of the format of world files."""

_SIZE_LIMIT_BYTES = 2**30  # ten times the largest world with a name
_LETTERS = {reason.value[0]: code for reason, code in CODES.items()}
_TO_LETTERS = bytes(map(ord, _LETTERS)).ljust(256, b"?")  # by code, for `bytes.translate`


class _User(msgspec.Struct, gc=False):
    id: str
    created: int
    deltas: list[int]
    reasons: str
    times: list[int]


class _Head(msgspec.Struct):
    fake_credits_world: int


class _File(msgspec.Struct):
    name: str
    users: list[msgspec.Raw]
    seed: int = 0
    sha256: str = ""


def save_world(world: World, path: Path, hear: Callable[[int], object] = int) -> None:
    """Write a world, and put it in the file's place once it is whole; ``hear`` is told of each user's transactions.

    Raises WorldError where the world can't be made or the file can't be written; then nothing of it is there.
    """
    try:
        with _draft(path) as draft:
            _write(world, draft, hear)
    except OSError as error:
        raise WorldError(f"{path}: can't be written: {error.strerror or error}") from None


@contextmanager
def _draft(path: Path) -> Generator[BinaryIO, None, None]:
    draft = path.with_name(fresh_name(f".{path.name[:100]}."))
    try:
        with draft.open("xb") as file:
            yield file
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _write(world: World, file: BinaryIO, hear: Callable[[int], object]) -> None:
    digest = hashlib.sha256()
    head = {"fake_credits_world": FORMAT, "name": world.name, "seed": world.seed}
    file.write(msgspec.json.encode(head)[:-1] + b',"users":[')
    separator = b"\n"
    for history in world.histories():
        line = _line(history)
        digest.update(line)
        file.write(separator + line)
        separator = b",\n"
        hear(len(history.columns.deltas))
    file.write(b'\n],"sha256":' + msgspec.json.encode(digest.hexdigest()) + b"}\n")


def _line(history: History) -> bytes:
    columns = history.columns
    letters = columns.reasons.tobytes().translate(_TO_LETTERS).decode("ascii")
    user = _User(history.user_id, history.created, columns.deltas.tolist(), letters, columns.times.tolist())
    return msgspec.json.encode(user)


def load_world(path: Path) -> World:
    """Return the world in a file.

    Raises WorldError, with the file's name in front, for one that can't be read, is cut off or otherwise damaged, is
    of a later version, or tells of what can't have been.
    """
    try:
        if path.stat().st_size > _SIZE_LIMIT_BYTES:
            raise WorldError(f"is over {_SIZE_LIMIT_BYTES} bytes")
        return _read(path.read_bytes())
    except OSError as error:
        raise WorldError(f"{path}: can't be read: {error.strerror or error}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WorldError(f"{path}: is no world, or a damaged one: {error}") from None
    except WorldError as error:
        raise WorldError(f"{path}: {error}") from None


def _read(text: bytes) -> World:
    version = msgspec.json.decode(text, type=_Head).fake_credits_world
    if version != FORMAT:
        raise WorldError(f"is a world of version {version}, and this release reads version {FORMAT}")
    file, digest = msgspec.json.decode(text, type=_File), hashlib.sha256()
    histories = tuple(_histories(file, digest.update))
    if file.sha256 and file.sha256 != digest.hexdigest():
        raise WorldError("is damaged: its users are not those that its sha256 was made of")
    return World(file.name, file.seed, sum(len(each.columns.deltas) for each in histories), lambda: histories)


def _histories(file: _File, hear: Callable[[bytes], object]) -> Iterator[History]:
    seen: set[str] = set()
    decoder = msgspec.json.Decoder(_User)
    for raw in file.users:
        user = decoder.decode(raw)
        hear(msgspec.json.encode(user))
        problem = _problem(user)
        if problem or user.id in seen:
            raise WorldError(f"is damaged: user {user.id!r} {problem or 'is there twice'}")
        seen.add(user.id)
        codes = array("b", [_LETTERS[letter] for letter in user.reasons])
        yield History(user.id, user.created, Columns(array("q", user.deltas), codes, array("q", user.times)))


def _problem(user: _User) -> str:
    if not len(user.deltas) == len(user.reasons) == len(user.times):
        return f"has {len(user.deltas)} deltas, {len(user.reasons)} reasons and {len(user.times)} times"
    if not set(user.reasons) <= set(_LETTERS):
        return f"has a reason that is none of {', '.join(_LETTERS)}"
    moments = [user.created, *user.times]
    if any(map(gt, moments, user.times)) or not 0 <= user.created <= moments[-1] < SPAN_MS:
        return f"has times that are not one after the other, from 0 to {SPAN_MS - 1}"
    if any(abs(delta) >= 2**63 for delta in user.deltas):
        return "has a delta of more than 64 bits"
    return ""
