"""The `World` class (users with back-dated histories), and functions for world files."""

import hashlib
import threading
from array import array
from collections.abc import Callable, Iterable, Iterator
from operator import gt
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from fake_credits.clock import from_ms
from fake_credits.contract import Contract, id_problem
from fake_credits.errors import ApiError
from fake_credits.files import atomic_file
from fake_credits.ledger import REASON_CODES, Account, Ledger, TransactionColumns


class WorldError(ValueError):
    """A problem with a profile, world or file; the message says what is wrong."""


class UnknownWorld(WorldError):
    """A name that is neither a profile nor a file."""


class TargetError(Exception):
    """A failure to seed a server, because it rejects the data, can't be reached or has conflicting data."""


WEEK_MS = 7 * 86_400_000
WORLD_SPAN_MS = 51 * WEEK_MS
"""The time span of a world. It ends on the most recent Monday, so it starts less than a year ago."""

MAX_KEPT_TRANSACTIONS = 200_000
"""The maximum number of transactions for which a world caches its histories."""

_FORBIDDEN_IDS = ("", ".", "..")  # never valid, because URL libraries resolve them to other paths
_FIRST_MONDAY_MS = 4 * 86_400_000  # 1970-01-05


class UserHistory(NamedTuple):
    """A user's history. Times are in milliseconds since the world's start, which is a Monday at midnight (UTC)."""

    user_id: str
    created_ms: int
    columns: TransactionColumns


def world_start_ms(now_ms: int) -> int:
    """Return the start of a world that ends on the most recent Monday as of ``now_ms``.

    Raises WorldError if the start would be before 1970.
    """
    start_ms = now_ms - (now_ms - _FIRST_MONDAY_MS) % WEEK_MS - WORLD_SPAN_MS
    if start_ms < 0:
        raise WorldError(
            f"the clock is at {from_ms(now_ms):%Y-%m-%d}, but a world covers the year before that date and can't "
            "start before 1970"
        )
    return start_ms


class _LoadedAccounts(NamedTuple):
    contract: Contract
    application_id: str
    start_ms: int
    accounts: tuple[Account, ...]


class World:
    """Users with histories, in order of sign-up. ``make_histories`` must return the same histories each time.

    Loading the same world again is cheap, because ledgers share a history until one of them adds to it. See
    docs/how-to/demo-data.md.
    """

    def __init__(
        self, name: str, seed: int, transaction_count: int, make_histories: Callable[[], Iterable[UserHistory]]
    ) -> None:
        self.name = name
        self.seed = seed
        self.transaction_count = transaction_count
        self._make_histories = make_histories
        self._lock = threading.RLock()
        self._kept_histories: tuple[UserHistory, ...] | None = None
        self._loaded: _LoadedAccounts | None = None

    def __repr__(self) -> str:
        return f"<World {self.name!r}: transactions={self.transaction_count}>"

    def histories(self) -> Iterable[UserHistory]:
        """Return the users' histories, cached unless the world is too large; raise WorldError if generation fails."""
        if self.transaction_count > MAX_KEPT_TRANSACTIONS:
            return self._make_histories()
        with self._lock:
            if self._kept_histories is None:
                self._kept_histories = tuple(self._make_histories())
            return self._kept_histories

    def load_into(self, ledger: Ledger, application_id: str, now_ms: int) -> tuple[str, ...]:
        """Add the users to a ledger, with histories spread over the year before ``now_ms``, and return their ids.

        Raises WorldError, without adding any user, if one already exists or a history violates the ledger's contract.
        """
        accounts = self._loaded_accounts(ledger.contract, application_id, world_start_ms(now_ms))
        for account in accounts:
            if ledger.find_account(application_id, account.user_id) is not None:
                raise self._error(account.user_id, "a user with this id already exists")
        for account in accounts:
            ledger.add_account(account.copy_on_write())
        return tuple(account.user_id for account in accounts)

    def _loaded_accounts(self, contract: Contract, application_id: str, start_ms: int) -> tuple[Account, ...]:
        """Return the accounts to copy into a ledger; the last result is cached."""
        with self._lock:
            loaded = self._loaded
            if loaded is None or loaded[:3] != (contract, application_id, start_ms):
                self._loaded = None  # free the old accounts before building new ones
                accounts = tuple(self.build_accounts(Ledger(contract), application_id, start_ms))
                loaded = self._loaded = _LoadedAccounts(contract, application_id, start_ms, accounts)
            return loaded.accounts

    def build_accounts(self, ledger: Ledger, application_id: str, start_ms: int = 0) -> Iterator[Account]:
        """Yield each user's account, checked by the ledger but not added to it; raise WorldError if one is invalid."""
        for history in self.histories():
            is_forbidden = history.user_id in _FORBIDDEN_IDS
            problem = "is not allowed" if is_forbidden else id_problem(ledger.contract, history.user_id)
            if problem:
                raise self._error(history.user_id, f"the id {problem}")
            try:
                account = ledger.new_account(application_id, history.user_id, start_ms + history.created_ms)
                columns = history.columns
                times = array("q", map(start_ms.__add__, columns.times))
                ledger.extend(account, TransactionColumns(columns.deltas, columns.reasons, times))
            except ApiError as error:
                raise self._error(history.user_id, error.message) from error
            yield account

    def _error(self, user_id: str, problem: str) -> WorldError:
        return WorldError(f"world {self.name!r} can't be used here: user {user_id!r}: {problem}")


WORLD_FORMAT_VERSION = 1
"""The version of the file format."""

_MAX_WORLD_FILE_BYTES = 2**30  # about ten times the file size of the largest built-in world
_CODE_BY_LETTER = {reason.value[0]: code for reason, code in REASON_CODES.items()}
_LETTER_TABLE = bytes(map(ord, _CODE_BY_LETTER)).ljust(256, b"?")  # indexed by code, for `bytes.translate`


class _UserRecord(msgspec.Struct, gc=False):
    id: str
    created: int
    deltas: list[int]
    reasons: str
    times: list[int]


class _VersionHeader(msgspec.Struct):
    fake_credits_world: int


class _WorldFile(msgspec.Struct):
    name: str
    users: list[msgspec.Raw]
    seed: int = 0
    sha256: str = ""


def save_world(world: World, path: Path, on_progress: Callable[[int], object] = int) -> None:
    """Write a world to a file atomically; ``on_progress`` is called with each user's number of transactions.

    Raises WorldError if the world can't be generated or the file can't be written.
    """
    try:
        with atomic_file(path) as file:
            _write_world(world, file, on_progress)
    except OSError as error:
        raise WorldError(f"can't write {path}: {error.strerror or error}") from None


def _write_world(world: World, file: BinaryIO, on_progress: Callable[[int], object]) -> None:
    digest = hashlib.sha256()
    header = {"fake_credits_world": WORLD_FORMAT_VERSION, "name": world.name, "seed": world.seed}
    file.write(msgspec.json.encode(header)[:-1] + b',"users":[')
    separator = b"\n"
    for history in world.histories():
        line = _encode_user(history)
        digest.update(line)
        file.write(separator + line)
        separator = b",\n"
        on_progress(len(history.columns.deltas))
    file.write(b'\n],"sha256":' + msgspec.json.encode(digest.hexdigest()) + b"}\n")


def _encode_user(history: UserHistory) -> bytes:
    columns = history.columns
    letters = columns.reasons.tobytes().translate(_LETTER_TABLE).decode("ascii")
    user = _UserRecord(history.user_id, history.created_ms, columns.deltas.tolist(), letters, columns.times.tolist())
    return msgspec.json.encode(user)


def load_world(path: Path) -> World:
    """Return the world in a file.

    Raises WorldError, with a message that starts with the path, if the file can't be read, is damaged or has an
    unsupported version.
    """
    try:
        if path.stat().st_size > _MAX_WORLD_FILE_BYTES:
            raise WorldError(f"the file is larger than {_MAX_WORLD_FILE_BYTES} bytes")
        return _decode_world(path.read_bytes())
    except OSError as error:
        raise WorldError(f"{path}: the file can't be read: {error.strerror or error}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WorldError(f"{path}: not a world file, or damaged: {error}") from None
    except WorldError as error:
        raise WorldError(f"{path}: {error}") from None


def _decode_world(data: bytes) -> World:
    version = msgspec.json.decode(data, type=_VersionHeader).fake_credits_world
    if version != WORLD_FORMAT_VERSION:
        raise WorldError(f"the file has version {version}, but this release reads only version {WORLD_FORMAT_VERSION}")
    file, digest = msgspec.json.decode(data, type=_WorldFile), hashlib.sha256()
    histories = tuple(_decode_histories(file, digest.update))
    if file.sha256 and file.sha256 != digest.hexdigest():
        raise WorldError("the file is damaged: its sha256 doesn't match its users")
    return World(file.name, file.seed, sum(len(history.columns.deltas) for history in histories), lambda: histories)


def _decode_histories(file: _WorldFile, update_digest: Callable[[bytes], object]) -> Iterator[UserHistory]:
    user_ids: set[str] = set()
    decoder = msgspec.json.Decoder(_UserRecord)
    for raw in file.users:
        user = decoder.decode(raw)
        update_digest(msgspec.json.encode(user))
        problem = _user_problem(user)
        if problem or user.id in user_ids:
            raise WorldError(f"the file is damaged: user {user.id!r} {problem or 'occurs twice'}")
        user_ids.add(user.id)
        codes = array("b", [_CODE_BY_LETTER[letter] for letter in user.reasons])
        yield UserHistory(
            user.id, user.created, TransactionColumns(array("q", user.deltas), codes, array("q", user.times))
        )


def _user_problem(user: _UserRecord) -> str:
    if not len(user.deltas) == len(user.reasons) == len(user.times):
        counts = f"deltas ({len(user.deltas)}), reasons ({len(user.reasons)}) and times ({len(user.times)})"
        return f"has different numbers of {counts}"
    if not set(user.reasons) <= set(_CODE_BY_LETTER):
        return f"has a reason other than {', '.join(_CODE_BY_LETTER)}"
    times = [user.created, *user.times]
    if any(map(gt, times, user.times)) or not 0 <= user.created <= times[-1] < WORLD_SPAN_MS:
        return f"has times that are out of order or outside the range 0 to {WORLD_SPAN_MS - 1}"
    if any(abs(delta) >= 2**63 for delta in user.deltas):
        return "has a delta that does not fit in 64 bits"
    return ""
