"""Own the pieces that a contract is made of: operations, routes, headers, the names of members; know no contract."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Literal

__all__ = [
    "BODY_LIMIT_BYTES",
    "DEFAULT_ROUTES",
    "FIELD_NAMES",
    "MAX_AMOUNT",
    "ContractError",
    "CreatedAtForm",
    "HeaderForm",
    "Operation",
    "RouteTemplate",
]

MAX_AMOUNT = 2**53 - 1
"""The largest delta and, by default, balance: the largest integer that JavaScript's numbers hold exactly."""

BODY_LIMIT_BYTES = 64 * 1024
"""A larger body is refused with ``payload_too_large``, without being read to memory."""

CreatedAtForm = Literal["iso_ms", "iso_s", "unix_s", "unix_ms"]


class ContractError(ValueError):
    """Report a setting that is unknown or can't be; the message names ``setting`` and the rule."""

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"{setting}: {problem}")
        self.setting = setting


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

    def __str__(self) -> str:
        return f"{self.header}: {self.scheme}" if self.scheme else self.header

    def value(self, credential: str) -> str:
        """Return the header's value for a credential."""
        return f"{self.scheme} {credential}" if self.scheme else credential


_APPLICATION = "/v1/applications/{applicationId}"
_USER = _APPLICATION + "/users/{userId}"

DEFAULT_ROUTES: Mapping[Operation, RouteTemplate] = MappingProxyType(
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
    "transaction",
    "nextCursor",
    "balance",
    "delta",
    "reason",
    "id",
)
"""The members of the API's bodies, as the README names them; ``Contract.field_names`` can rename each."""
