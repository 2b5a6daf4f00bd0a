"""The `Contract`: one value object with a setting for every choice that the API's README leaves open.

Each setting is a row of CONTRACT.md, "Choices and their knobs".
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

__all__ = ["DEFAULT_CONTRACT", "Contract", "ContractSetting", "id_problem", "settings"]

SortOrder = Literal["newest_first", "oldest_first"]


@dataclass(frozen=True, slots=True)
class ContractSetting:
    """Describe one setting of a contract: its name, what it decides, and its row in README's "What is a guess"."""

    name: str
    doc: str
    row: int


def _setting_field(row: int, default: Any, doc: str) -> Any:  # as `dataclasses.field` itself is typed
    """Return a dataclass field with its documentation."""
    metadata = {"row": row, "doc": doc}
    if isinstance(default, MappingProxyType):  # unhashable, so dataclasses take it for mutable
        return field(default_factory=lambda: cast("Any", default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Contract:
    """Say what goes over the wire. The defaults are the default contract; one application serves one contract.

    Raises ContractError for settings that can't be, alone or together.
    """

    routes: Mapping[Operation, RouteTemplate] = _setting_field(1, DEFAULT_ROUTES, "method and path of each operation")
    created_user_status: int = _setting_field(1, 201, "status of createUser for a new user, 200 to 299")
    existing_user_status: int = _setting_field(1, 200, "status of createUser for a user who exists, 200 to 299")
    created_transaction_status: int = _setting_field(1, 201, "status of createTransaction, 200 to 299")
    api_key: CredentialHeader = _setting_field(
        2, CredentialHeader("X-API-Key"), "where the API key travels: `Header` or `Header: Scheme`"
    )
    user_token: CredentialHeader = _setting_field(
        3, CredentialHeader("Authorization", "Bearer"), "where a user's token travels"
    )
    trust: Mapping[str, str] = _setting_field(
        3, MappingProxyType({}), "foreign issuers of users' tokens, each with a file of its keys (JWKS or PEM)"
    )
    both_credentials: Literal["refuse", "key", "token"] = _setting_field(
        4, "refuse", "what a request with both credentials is: refused, or one of them wins"
    )
    applications: tuple[str, ...] | None = _setting_field(
        5, None, 'the applications there are; `"open"`: any id exists'
    )
    key_applications: tuple[str, ...] | None = _setting_field(
        5, None, 'the applications that the API key may touch, else 403; `"open"`: all'
    )
    unknown_user: Literal["refuse", "create", "zero"] = _setting_field(
        6, "refuse", "a user who does not exist: 404, created on first use, or a balance of 0"
    )
    amounts: Literal["integer"] = _setting_field(7, "integer", "what a delta may be")
    sign: Literal["by_reason", "free"] = _setting_field(
        8, "by_reason", "whether grant and refund must be > 0, consume < 0"
    )
    floor: int | None = _setting_field(
        9, 0, 'the lowest balance that a consumption may leave, 0 or less; `"none"`: no limit'
    )
    ceiling: int | None = _setting_field(10, MAX_AMOUNT, 'the highest balance; `"none"`: no limit')
    created_transaction: Literal["plain", "id", "balance", "wrapped", "empty"] = _setting_field(
        11,
        "plain",
        "body of createTransaction: as in the README, plus `id`, plus `balance`, wrapped, or 204 without one",
    )
    transactions_order: SortOrder = _setting_field(12, "newest_first", "order of listTransactions")
    users_order: SortOrder = _setting_field(12, "oldest_first", "order of listUsers, by creation")
    page_size: int = _setting_field(13, 20, "entries a page, 1 to 1000")
    limit_parameter: str = _setting_field(13, "", "name of a query parameter for the page size; empty: there is none")
    cursor_parameter: str = _setting_field(14, "cursor", "name of the query parameter for the cursor")
    end_of_list: Literal["absent", "null", "empty"] = _setting_field(15, "absent", "nextCursor on the last page")
    idempotency: Literal["ignore"] = _setting_field(17, "ignore", "what `Idempotency-Key` does; it is journalled")
    error_body: Literal["nested", "problem", "flat"] = _setting_field(
        18, "nested", 'form of a refusal: `{"error":{…}}`, RFC 9457, or `{"code","message"}`'
    )
    statuses: Mapping[str, int] = _setting_field(19, MappingProxyType({}), "status by error code, 400 to 599")
    created_at: TimestampFormat = _setting_field(
        20, "iso_ms", "form of createdAt: ISO 8601 in UTC, or a number since 1970"
    )
    field_names: Mapping[str, str] = _setting_field(21, MappingProxyType({}), "other names for members of bodies")
    retry_after: Literal["seconds", "date", "absent"] = _setting_field(
        22, "seconds", "form of Retry-After where a fault sends one"
    )
    cors_origins: tuple[str, ...] = _setting_field(23, ("*",), "origins whose pages may read as a user; empty: none")
    id_max_length: int = _setting_field(24, 256, "most code points of an id, 1 to 4096")
    id_pattern: str = _setting_field(24, "", "regular expression that an id must match as a whole; empty: any")

    def __post_init__(self) -> None:
        for setting in dataclasses.fields(self):
            validation.check_literal(setting.name, setting.type, getattr(self, setting.name))
        validation.check_routes(self.routes)
        validation.check_credential_headers({"api_key": self.api_key, "user_token": self.user_token})
        validation.check_numbers(self)
        validation.check_statuses(self.statuses)
        validation.check_field_names(self.field_names)
        validation.check_query_parameters(self.cursor_parameter, self.limit_parameter)
        validation.check_trust(self.trust)
        validation.check_origins(self.cors_origins)
        validation.check_pattern(self.id_pattern)
        validation.check_applications(self.applications, self.key_applications)

    def status_of(self, error: type[ApiError] | ApiError) -> int:
        """Return the status that an error is sent with (row 19)."""
        return self.statuses.get(error.code, error.default_status)

    def name_of(self, member: str) -> str:
        """Return the name that a member of a body has on the wire (row 21)."""
        return self.field_names.get(member, member)


def settings() -> tuple[ContractSetting, ...]:
    """Return all settings of a contract, in the order of README's "What is a guess"."""
    return tuple(
        ContractSetting(spec.name, spec.metadata["doc"], spec.metadata["row"]) for spec in dataclasses.fields(Contract)
    )


DEFAULT_CONTRACT = Contract()
"""The default contract; changing one of its values is a major release."""


def id_problem(contract: Contract, identifier: str) -> str:
    """Return how an id breaks the contract's rule, an empty string where it does not."""
    if len(identifier) > contract.id_max_length:
        return f"must have at most {contract.id_max_length} characters, not {len(identifier)}"
    if not identifier.isprintable() and any(unicodedata.category(char) == "Cc" for char in identifier):
        return "must not have control characters"
    if contract.id_pattern and not re.fullmatch(contract.id_pattern, identifier):
        return f"must match the contract's pattern {contract.id_pattern}"
    return ""
