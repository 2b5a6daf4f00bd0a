"""The parts of a contract: operations, routes, credential headers, member names and timestamp formats."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Literal

from fake_credits.clock import from_ms
from fake_credits.errors import PicklableError, did_you_mean

MAX_AMOUNT = 2**53 - 1
"""The maximum magnitude of a delta and, by default, the maximum balance: JavaScript's ``Number.MAX_SAFE_INTEGER``."""

MAX_BODY_BYTES = 64 * 1024
"""The maximum size of a request body; larger ones are rejected with ``payload_too_large``."""

TimestampFormat = Literal["iso_ms", "iso_s", "unix_s", "unix_ms"]


class ContractError(PicklableError, ValueError):
    """An unknown or invalid setting of a contract; the message names ``setting`` and the problem."""

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"{setting}: {problem}")
        self.setting = setting


class Operation(StrEnum):
    """The six operations, named as in the API README."""

    CREATE_USER = "createUser"
    GET_USER = "getUser"
    LIST_USERS = "listUsers"
    GET_BALANCE = "getBalance"
    CREATE_TRANSACTION = "createTransaction"
    LIST_TRANSACTIONS = "listTransactions"

    @property
    def requires_api_key(self) -> bool:
        """Return whether the operation requires the API key; if so, a user's token gets ``insufficient_scope``."""
        return self in _API_KEY_OPERATIONS


OperationName = (
    Operation
    | Literal["createUser", "getUser", "listUsers", "getBalance", "createTransaction", "listTransactions"]
    | Literal["create_user", "get_user", "list_users", "get_balance", "create_transaction", "list_transactions"]
)
"""An operation: a member of `Operation`, its name in the API README, or the name of the client method."""

OperationSelector = OperationName | Literal["*", "reads", "writes"]
"""An operation, or a group of operations."""

ALL_OPERATIONS = frozenset(Operation)
WRITE_OPERATIONS = frozenset({Operation.CREATE_USER, Operation.CREATE_TRANSACTION})
READ_OPERATIONS = ALL_OPERATIONS - WRITE_OPERATIONS

OPERATIONS_BY_NAME: Mapping[str, frozenset[Operation]] = {
    "*": ALL_OPERATIONS,
    "reads": READ_OPERATIONS,
    "writes": WRITE_OPERATIONS,
    **{operation.value: frozenset({operation}) for operation in Operation},
}
"""The operations that each operation name or group name selects."""

METHOD_NAMES: Mapping[str, Operation] = {operation.name.lower(): operation for operation in Operation}
"""The names of the client methods, such as ``create_transaction``, accepted in place of those in the API README."""


def normalize_operation(name: object) -> object:
    """Translate a client method's name to the operation's name in the API README; return any other value unchanged."""
    return METHOD_NAMES[name].value if isinstance(name, str) and name in METHOD_NAMES else name


def parse_operation(name: object) -> str:
    """Return the name of an operation, as in the API README, or of a group of operations.

    Raises ValueError, listing the known names, if ``name`` is unknown, and TypeError if it is not a string.
    """
    if not isinstance(name, str):
        raise TypeError(f"an operation must be a str, such as 'createTransaction', not {type(name).__name__}")
    normalized = str(normalize_operation(name))
    if normalized not in OPERATIONS_BY_NAME:
        known = ", ".join(OPERATIONS_BY_NAME)
        raise ValueError(f"unknown operation {name!r}{did_you_mean(name, OPERATIONS_BY_NAME)} (known: {known})")
    return normalized


_API_KEY_OPERATIONS = frozenset({Operation.CREATE_USER, Operation.LIST_USERS, Operation.CREATE_TRANSACTION})


@dataclass(frozen=True, slots=True)
class RouteTemplate:
    """The method and path of an operation; the path may contain ``{applicationId}`` and ``{userId}``."""

    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class CredentialHeader:
    """The header that carries a credential, and the authentication scheme, which may be empty."""

    header: str
    scheme: str = ""

    def __str__(self) -> str:
        return f"{self.header}: {self.scheme}" if self.scheme else self.header

    def value_for(self, credential: str) -> str:
        """Return the header's value for a credential."""
        return f"{self.scheme} {credential}" if self.scheme else credential


def header_example(header: CredentialHeader) -> str:
    """Return an example of the header, with a placeholder for the credential, for use in error messages."""
    return f"'{header.header}: {header.value_for('…')}'"


_APPLICATION_PATH = "/v1/applications/{applicationId}"
_USER_PATH = _APPLICATION_PATH + "/users/{userId}"

DEFAULT_ROUTES: Mapping[Operation, RouteTemplate] = MappingProxyType(
    {
        Operation.CREATE_USER: RouteTemplate("PUT", _USER_PATH),
        Operation.GET_USER: RouteTemplate("GET", _USER_PATH),
        Operation.LIST_USERS: RouteTemplate("GET", _APPLICATION_PATH + "/users"),
        Operation.GET_BALANCE: RouteTemplate("GET", _USER_PATH + "/balance"),
        Operation.CREATE_TRANSACTION: RouteTemplate("POST", _USER_PATH + "/transactions"),
        Operation.LIST_TRANSACTIONS: RouteTemplate("GET", _USER_PATH + "/transactions"),
    }
)

FIELD_NAMES = (
    "applicationId",
    "userId",
    "createdAt",
    "users",
    "transactions",
    "transaction",
    "nextCursor",
    "balance",
    "delta",
    "reason",
    "id",
)
"""The members of request and response bodies, by their default names; ``Contract.field_names`` can rename them."""


def created_at_to_json(timestamp_format: TimestampFormat, ms: int) -> str | int:
    """Convert a time in milliseconds since 1970 to a JSON value in the contract's format."""
    if timestamp_format == "unix_ms":
        return ms
    if timestamp_format == "unix_s":
        return ms // 1000
    timespec = "milliseconds" if timestamp_format == "iso_ms" else "seconds"
    return from_ms(ms).replace(tzinfo=None).isoformat(timespec=timespec) + "Z"


def created_at_from_json(timestamp_format: TimestampFormat, value: object) -> datetime:
    """Convert a JSON value to an aware datetime in UTC; raise ValueError if it is not in the contract's format."""
    if timestamp_format in ("unix_ms", "unix_s"):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"createdAt must be a number, not {value!r}")
        return from_ms(int(value) if timestamp_format == "unix_ms" else int(value * 1000))
    if not isinstance(value, str):
        raise ValueError(f"createdAt must be a string, not {value!r}")
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError(f"createdAt must have a time zone, got {value!r}")
    return moment.astimezone(UTC)
