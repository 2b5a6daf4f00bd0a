"""Own the `Contract`: one value object with a setting for every choice that the API's README leaves open.

Server, clients and documents read the same one. It knows nothing of files, of HTTP libraries, of storage or of time.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

from fake_credits.contract import rules
from fake_credits.contract.parts import (
    DEFAULT_ROUTES,
    MAX_AMOUNT,
    CreatedAtForm,
    HeaderForm,
    Operation,
    RouteTemplate,
)
from fake_credits.errors import ApiError

__all__ = ["DEFAULT", "Contract", "Setting", "settings"]

Order = Literal["newest_first", "oldest_first"]


@dataclass(frozen=True, slots=True)
class Setting:
    """Describe one setting of a contract: its name, what it decides, and its row in README's "What is a guess"."""

    name: str
    doc: str
    row: int


def _setting(row: int, default: Any, doc: str) -> Any:  # as `dataclasses.field` itself is typed
    """Return a dataclass field with its documentation."""
    described = {"row": row, "doc": doc}
    if isinstance(default, MappingProxyType):  # unhashable, so dataclasses take it for mutable
        return field(default_factory=partial(_same, default), metadata=described)
    return field(default=default, metadata=described)


def _same(default: object) -> object:
    return default


@dataclass(frozen=True, kw_only=True)
class Contract:
    """Say what goes over the wire. The defaults are the default contract; one application serves one contract.

    Raises ContractError for settings that can't be, alone or together.
    """

    routes: Mapping[Operation, RouteTemplate] = _setting(1, DEFAULT_ROUTES, "method and path of each operation")
    created_user_status: int = _setting(1, 201, "status of createUser for a new user, 200 to 299")
    existing_user_status: int = _setting(1, 200, "status of createUser for a user who exists, 200 to 299")
    created_transaction_status: int = _setting(1, 201, "status of createTransaction, 200 to 299")
    api_key: HeaderForm = _setting(
        2, HeaderForm("X-API-Key"), "where the API key travels: `Header` or `Header: Scheme`"
    )
    user_token: HeaderForm = _setting(3, HeaderForm("Authorization", "Bearer"), "where a user's token travels")
    trust: Mapping[str, str] = _setting(
        3, MappingProxyType({}), "foreign issuers of users' tokens, each with a file of its keys (JWKS or PEM)"
    )
    both_credentials: Literal["refuse", "key", "token"] = _setting(
        4, "refuse", "what a request with both credentials is: refused, or one of them wins"
    )
    applications: tuple[str, ...] | None = _setting(5, None, 'the applications there are; `"open"`: any id exists')
    key_applications: tuple[str, ...] | None = _setting(
        5, None, 'the applications that the API key may touch, else 403; `"open"`: all'
    )
    unknown_user: Literal["refuse", "create", "zero"] = _setting(
        6, "refuse", "a user who does not exist: 404, created on first use, or a balance of 0"
    )
    amounts: Literal["integer"] = _setting(7, "integer", "what a delta may be")
    sign: Literal["by_reason", "free"] = _setting(8, "by_reason", "whether grant and refund must be > 0, consume < 0")
    floor: int | None = _setting(9, 0, 'the lowest balance that a consumption may leave, 0 or less; `"none"`: no limit')
    ceiling: int | None = _setting(10, MAX_AMOUNT, 'the highest balance; `"none"`: no limit')
    created_transaction: Literal["plain", "id", "balance", "wrapped", "empty"] = _setting(
        11,
        "plain",
        "body of createTransaction: as in the README, plus `id`, plus `balance`, wrapped, or 204 without one",
    )
    transactions_order: Order = _setting(12, "newest_first", "order of listTransactions")
    users_order: Order = _setting(12, "oldest_first", "order of listUsers, by creation")
    page_size: int = _setting(13, 20, "entries a page, 1 to 1000")
    limit_parameter: str = _setting(13, "", "name of a query parameter for the page size; empty: there is none")
    cursor_parameter: str = _setting(14, "cursor", "name of the query parameter for the cursor")
    end_of_list: Literal["absent", "null", "empty"] = _setting(15, "absent", "nextCursor on the last page")
    idempotency: Literal["ignore"] = _setting(17, "ignore", "what `Idempotency-Key` does; it is journalled")
    error_body: Literal["nested", "problem", "flat"] = _setting(
        18, "nested", 'form of a refusal: `{"error":{…}}`, RFC 9457, or `{"code","message"}`'
    )
    statuses: Mapping[str, int] = _setting(19, MappingProxyType({}), "status by error code, 400 to 599")
    created_at: CreatedAtForm = _setting(20, "iso_ms", "form of createdAt: ISO 8601 in UTC, or a number since 1970")
    field_names: Mapping[str, str] = _setting(21, MappingProxyType({}), "other names for members of bodies")
    retry_after: Literal["seconds", "date", "absent"] = _setting(
        22, "seconds", "form of Retry-After where a fault sends one"
    )
    cors_origins: tuple[str, ...] = _setting(23, ("*",), "origins whose pages may read as a user; empty: none")
    id_max_length: int = _setting(24, 256, "most code points of an id, 1 to 4096")
    id_pattern: str = _setting(24, "", "regular expression that an id must match as a whole; empty: any")

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            rules.check_choice(each.name, each.type, getattr(self, each.name))
        rules.check_routes(self.routes)
        rules.check_headers({"api_key": self.api_key, "user_token": self.user_token})
        rules.check_numbers(self)
        rules.check_statuses(self.statuses)
        rules.check_names(self.field_names)
        rules.check_parameters(self.cursor_parameter, self.limit_parameter)
        rules.check_trust(self.trust)
        rules.check_origins(self.cors_origins)
        rules.check_pattern(self.id_pattern)
        rules.check_applications(self.applications, self.key_applications)

    def status_of(self, error: type[ApiError] | ApiError) -> int:
        """Return the status that an error is sent with (row 19)."""
        return self.statuses.get(error.code, error.default_status)

    def name_of(self, member: str) -> str:
        """Return the name that a member of a body has on the wire (row 21)."""
        return self.field_names.get(member, member)


def settings() -> tuple[Setting, ...]:
    """Return all settings of a contract, in the order of README's "What is a guess"."""
    return tuple(
        Setting(each.name, each.metadata["doc"], each.metadata["row"]) for each in dataclasses.fields(Contract)
    )


DEFAULT = Contract()
"""The default contract; changing one of its values is a major release."""
