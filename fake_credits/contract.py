"""Own the wire as data: one value object with a setting for every choice that the API's README leaves open.

Server, clients and documents read the same `Contract`. It knows nothing of HTTP libraries, of storage or of time.
Row numbers in the comments are those of the contract's table of choices.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Literal

from fake_credits.clock import from_ms
from fake_credits.errors import ApiError

__all__ = [
    "BODY_LIMIT_BYTES",
    "DEFAULT",
    "FIELD_NAMES",
    "MAX_AMOUNT",
    "Contract",
    "CreatedAtForm",
    "HeaderForm",
    "Operation",
    "RouteTemplate",
    "created_at_to_json",
    "json_to_created_at",
]

MAX_AMOUNT = 2**53 - 1
"""The largest delta and, by default, balance: the largest integer that JavaScript's numbers hold exactly."""

BODY_LIMIT_BYTES = 64 * 1024
"""A larger body is refused with ``payload_too_large``, without being read to memory."""

CreatedAtForm = Literal["iso_ms", "iso_s", "unix_s", "unix_ms"]


class Operation(StrEnum):
    """Name the six operations as the API's README does; there is no seventh."""

    CREATE_USER = "createUser"
    GET_USER = "getUser"
    LIST_USERS = "listUsers"
    GET_BALANCE = "getBalance"
    CREATE_TRANSACTION = "createTransaction"
    LIST_TRANSACTIONS = "listTransactions"

    @property
    def server_only(self) -> bool:
        """Tell whether a user's token is refused here with ``insufficient_scope``."""
        return self in _SERVER_ONLY


_SERVER_ONLY = frozenset({Operation.CREATE_USER, Operation.LIST_USERS, Operation.CREATE_TRANSACTION})


@dataclass(frozen=True, slots=True)
class RouteTemplate:
    """Be the method and path of an operation, over ``{applicationId}`` and ``{userId}``."""

    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class HeaderForm:
    """Say where a credential travels: a header, and a scheme in front of it where ``scheme`` is not empty."""

    header: str
    scheme: str = ""

    def value(self, credential: str) -> str:
        """Return the header's value for a credential."""
        return f"{self.scheme} {credential}" if self.scheme else credential


_APPLICATION = "/v1/applications/{applicationId}"
_USER = _APPLICATION + "/users/{userId}"

_ROUTES: Mapping[Operation, RouteTemplate] = MappingProxyType(
    {
        Operation.CREATE_USER: RouteTemplate("PUT", _USER),
        Operation.GET_USER: RouteTemplate("GET", _USER),
        Operation.LIST_USERS: RouteTemplate("GET", _APPLICATION + "/users"),
        Operation.GET_BALANCE: RouteTemplate("GET", _USER + "/balance"),
        Operation.CREATE_TRANSACTION: RouteTemplate("POST", _USER + "/transactions"),
        Operation.LIST_TRANSACTIONS: RouteTemplate("GET", _USER + "/transactions"),
    }
)

FIELD_NAMES = (
    "applicationId",
    "userId",
    "createdAt",
    "users",
    "transactions",
    "nextCursor",
    "balance",
    "delta",
    "reason",
)
"""The members of the API's bodies, as the README names them; ``Contract.field_names`` can rename each."""


@dataclass(frozen=True)
class Contract:
    """Say what goes over the wire. The defaults are the default contract; one application serves one contract."""

    routes: Mapping[Operation, RouteTemplate] = field(default_factory=lambda: _ROUTES)  # row 1
    created_user_status: int = 201
    existing_user_status: int = 200
    created_transaction_status: int = 201
    api_key: HeaderForm = HeaderForm("X-API-Key")  # row 2
    user_token: HeaderForm = HeaderForm("Authorization", "Bearer")  # row 3
    both_credentials: Literal["refuse", "key", "token"] = "refuse"  # row 4
    applications: tuple[str, ...] | None = None  # row 5; None: any id exists
    unknown_user: Literal["refuse", "create", "zero"] = "refuse"  # row 6
    sign: Literal["by_reason", "free"] = "by_reason"  # row 8
    floor: int | None = 0  # row 9; None: overdraft allowed
    ceiling: int | None = MAX_AMOUNT  # row 10
    created_transaction: Literal["plain", "id", "balance", "wrapped", "empty"] = "plain"  # row 11
    transactions_order: Literal["newest_first", "oldest_first"] = "newest_first"  # row 12
    users_order: Literal["newest_first", "oldest_first"] = "oldest_first"  # row 12
    page_size: int = 20  # row 13
    limit_parameter: str = ""  # row 13; empty: no such parameter
    cursor_parameter: str = "cursor"  # row 14
    end_of_list: Literal["absent", "null", "empty"] = "absent"  # row 15
    error_body: Literal["nested", "problem", "flat"] = "nested"  # row 18
    statuses: Mapping[str, int] = field(default_factory=dict[str, int])  # rows 9, 16 and 19, by error code
    created_at: CreatedAtForm = "iso_ms"  # row 20
    field_names: Mapping[str, str] = field(default_factory=dict[str, str])  # row 21
    retry_after: Literal["seconds", "date", "absent"] = "seconds"  # row 22
    cors_origins: tuple[str, ...] = ("*",)  # row 23; empty: off
    id_max_length: int = 256  # row 24
    id_pattern: str = ""  # row 24; empty: anything but control characters

    def status_of(self, error: type[ApiError] | ApiError) -> int:
        """Return the status that an error is sent with (row 19)."""
        return self.statuses.get(error.code, error.default_status)

    def name_of(self, member: str) -> str:
        """Return the name that a member of a body has on the wire (row 21)."""
        return self.field_names.get(member, member)


DEFAULT = Contract()
"""The default contract; changing one of its values is a major release."""


def created_at_to_json(form: CreatedAtForm, ms: int) -> str | int:
    """Return a time in milliseconds since 1970 as the JSON value that the contract sends (row 20)."""
    if form == "unix_ms":
        return ms
    if form == "unix_s":
        return ms // 1000
    spec = "milliseconds" if form == "iso_ms" else "seconds"
    return from_ms(ms).replace(tzinfo=None).isoformat(timespec=spec) + "Z"


def json_to_created_at(form: CreatedAtForm, value: object) -> datetime:
    """Return the aware datetime behind a JSON value; raise ValueError where it is not of the contract's form."""
    if form in ("unix_ms", "unix_s"):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"createdAt is {value!r}, not a number")
        return from_ms(int(value) if form == "unix_ms" else int(value * 1000))
    if not isinstance(value, str):
        raise ValueError(f"createdAt is {value!r}, not a string")
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError(f"createdAt is {value!r}, without a time zone")
    return moment.astimezone(UTC)
