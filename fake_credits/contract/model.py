"""The `Contract`, with a setting for every choice that the API README leaves open.

Each setting belongs to a row of docs/reference/contract.md, "What is a guess".
"""

import dataclasses
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, cast

from fake_credits.contract import validation
from fake_credits.contract.types import (
    DEFAULT_ROUTES,
    MAX_AMOUNT,
    CredentialHeader,
    Operation,
    RouteTemplate,
    TimestampFormat,
)
from fake_credits.errors import ApiError

SortOrder = Literal["newest_first", "oldest_first"]


@dataclass(frozen=True, slots=True)
class ContractSetting:
    """A setting of a contract: its name, its description, and its row in docs/reference/contract.md."""

    name: str
    doc: str
    row: int


def _setting_field(row: int, default: Any, doc: str) -> Any:  # Any, as in the type of `dataclasses.field`
    """Return a dataclass field with its documentation."""
    metadata = {"row": row, "doc": doc}
    if isinstance(default, MappingProxyType):  # dataclasses reject it as a default, because it is unhashable
        return field(default_factory=lambda: cast("Any", default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Contract:
    """The HTTP form of the API. The default values make up the default contract.

    Raises ContractError for settings that are invalid, alone or in combination.
    """

    routes: Mapping[Operation, RouteTemplate] = _setting_field(1, DEFAULT_ROUTES, "method and path of each operation")
    created_user_status: int = _setting_field(1, 201, "status of createUser for a new user, 200 to 299")
    existing_user_status: int = _setting_field(1, 200, "status of createUser for an existing user, 200 to 299")
    created_transaction_status: int = _setting_field(1, 201, "status of createTransaction, 200 to 299")
    api_key: CredentialHeader = _setting_field(
        2, CredentialHeader("X-API-Key"), "header of the API key: `Header` or `Header: Scheme`"
    )
    user_token: CredentialHeader = _setting_field(
        3, CredentialHeader("Authorization", "Bearer"), "header of a user's token: `Header` or `Header: Scheme`"
    )
    trust: Mapping[str, str] = _setting_field(
        3, MappingProxyType({}), "foreign issuers of user tokens, each with a file of its keys (JWKS or PEM)"
    )
    both_credentials: Literal["refuse", "key", "token"] = _setting_field(
        4, "refuse", "whether a request with both credentials is refused, or which of them is used"
    )
    applications: tuple[str, ...] | None = _setting_field(5, None, 'the existing applications; `"open"`: all ids exist')
    key_applications: tuple[str, ...] | None = _setting_field(
        5, None, 'applications that the API key can access, 403 for others; `"open"`: all'
    )
    unknown_user: Literal["refuse", "create", "zero"] = _setting_field(
        6, "refuse", "response for an unknown user: 404, created on first use, or a balance of 0"
    )
    amounts: Literal["integer"] = _setting_field(7, "integer", "allowed values of a delta")
    sign: Literal["by_reason", "free"] = _setting_field(
        8, "by_reason", "whether grant and refund must be > 0, consume < 0"
    )
    floor: int | None = _setting_field(9, 0, 'lowest balance after a consumption, 0 or less; `"none"`: no limit')
    ceiling: int | None = _setting_field(10, MAX_AMOUNT, 'highest balance; `"none"`: no limit')
    created_transaction: Literal["plain", "id", "balance", "wrapped", "empty"] = _setting_field(
        11,
        "plain",
        "body of createTransaction's response: as in the API README, with `id`, with `balance`, wrapped, or none (204)",
    )
    transactions_order: SortOrder = _setting_field(12, "newest_first", "order of listTransactions")
    users_order: SortOrder = _setting_field(12, "oldest_first", "order of listUsers, by creation")
    page_size: int = _setting_field(13, 20, "entries per page, 1 to 1000")
    limit_parameter: str = _setting_field(13, "", "name of the query parameter for the page size; empty: none")
    cursor_parameter: str = _setting_field(14, "cursor", "name of the query parameter for the cursor")
    end_of_list: Literal["absent", "null", "empty"] = _setting_field(15, "absent", "nextCursor on the last page")
    idempotency: Literal["ignore"] = _setting_field(
        17, "ignore", "effect of `Idempotency-Key`, which is journaled either way"
    )
    error_body: Literal["nested", "problem", "flat"] = _setting_field(
        18, "nested", 'form of an error body: `{"error":{…}}`, RFC 9457, or `{"code","message"}`'
    )
    statuses: Mapping[str, int] = _setting_field(19, MappingProxyType({}), "status by error code, 400 to 599")
    created_at: TimestampFormat = _setting_field(
        20, "iso_ms", "form of createdAt: ISO 8601 in UTC, or a number since 1970"
    )
    field_names: Mapping[str, str] = _setting_field(
        21, MappingProxyType({}), "new names of body members, by original name"
    )
    retry_after: Literal["seconds", "date", "absent"] = _setting_field(
        22, "seconds", "form of Retry-After in injected errors"
    )
    cors_origins: tuple[str, ...] = _setting_field(23, ("*",), "origins that may read with a user token; empty: none")
    id_max_length: int = _setting_field(24, 256, "maximum length of an id in code points, 1 to 4096")
    id_pattern: str = _setting_field(24, "", "regular expression that an id must match completely; empty: any id")

    def __post_init__(self) -> None:
        for setting in dataclasses.fields(self):
            validation.check_literal(setting.name, setting.type, getattr(self, setting.name))
        validation.check_routes(self.routes)
        validation.check_credential_headers({"api_key": self.api_key, "user_token": self.user_token})
        validation.check_numbers(vars(self))
        validation.check_statuses(self.statuses)
        validation.check_field_names(self.field_names)
        validation.check_query_parameters(self.cursor_parameter, self.limit_parameter)
        validation.check_trust(self.trust)
        validation.check_origins(self.cors_origins)
        validation.check_pattern(self.id_pattern)
        validation.check_applications(self.applications, self.key_applications)

    def status_of(self, error: type[ApiError] | ApiError) -> int:
        """Return the status of an error response (row 19)."""
        return self.statuses.get(error.code, error.default_status)

    def name_of(self, member: str) -> str:
        """Return the name of a body member in this contract (row 21)."""
        return self.field_names.get(member, member)


def settings() -> tuple[ContractSetting, ...]:
    """Return all settings of a contract, in the order of docs/reference/contract.md."""
    return tuple(
        ContractSetting(spec.name, spec.metadata["doc"], spec.metadata["row"]) for spec in dataclasses.fields(Contract)
    )


DEFAULT_CONTRACT = Contract()
"""The default contract; changing one of its values requires a major release."""


def id_problem(contract: Contract, identifier: str) -> str:
    """Return why an id is invalid under the contract, or an empty string if it is valid."""
    if len(identifier) > contract.id_max_length:
        return f"must have at most {contract.id_max_length} characters, not {len(identifier)}"
    if not identifier.isprintable() and any(unicodedata.category(char) == "Cc" for char in identifier):
        return "must not contain control characters"
    if contract.id_pattern and not re.fullmatch(contract.id_pattern, identifier):
        return f"must match the contract's pattern {contract.id_pattern}"
    return ""
