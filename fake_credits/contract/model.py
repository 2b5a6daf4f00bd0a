"""The `Contract`, whose settings cover choices that the API README leaves open.

Each setting appears, with its row number, in the table "What is a guess" in docs/reference/contract.md.
"""

import dataclasses
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType, UnionType
from typing import Any, Literal, cast, get_args, get_origin

from fake_credits.contract.types import (
    DEFAULT_ROUTES,
    FIELD_NAMES,
    MAX_AMOUNT,
    ContractError,
    CredentialHeader,
    Operation,
    RouteTemplate,
    TimestampFormat,
    normalize_operation,
)
from fake_credits.errors import ERRORS, ApiError, did_you_mean
from fake_credits.text import short_repr

_UNSUPPORTED: Mapping[str, tuple[str, ...]] = {"amounts": ("decimal",), "idempotency": ("replay", "reject")}
"""The values that are planned but not supported yet, by setting."""

_MAX_LISTED_CHOICES = 12
_HEADER_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_PATH_SEGMENT = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@-]+")  # RFC 3986, section 3.3, without percent-encoding
_PATH_PARAMETERS = ("{applicationId}", "{userId}")
# HEAD has no response body; OPTIONS is reserved for preflights, and CONNECT and TRACE for other purposes (RFC 9110,
# section 9.3). Other methods can't be described in OpenAPI 3.1.
_OPERATION_METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")
_RESERVED_SEGMENTS = ("_fake", ".well-known")
_BODILESS_STATUSES = (204, 205)  # RFC 9110, sections 15.3.5 and 15.3.6
_ORIGIN_PATTERN = re.compile(r"[a-z][a-z0-9+.-]*://(?:(?![/?#@])[!-~]){1,255}")  # RFC 6454, section 6.2
# Headers that HTTP itself or the client uses for other purposes
_RESERVED_HEADERS = frozenset(
    {"accept", "connection", "content-length", "content-type", "host", "origin", "te", "transfer-encoding", "upgrade"}
)
# Groups of members that can occur in the same body, so their names must be distinct
_SAME_BODY = (
    ("applicationId", "userId", "createdAt"),
    ("delta", "reason", "createdAt", "id", "balance"),
    ("users", "nextCursor"),
    ("transactions", "nextCursor"),
)
_RANGES: Mapping[str, tuple[int, int]] = {
    "created_user_status": (200, 299),
    "existing_user_status": (200, 299),
    "created_transaction_status": (200, 299),
    "page_size": (1, 1000),
    "id_max_length": (1, 4096),
    "floor": (-MAX_AMOUNT, 0),
    "ceiling": (1, MAX_AMOUNT),
}

_ACCEPTED_TYPES: Mapping[object, tuple[tuple[type, ...], str]] = {
    str: ((str,), "a str"),
    tuple: ((tuple, list), "a tuple of strings"),
    Mapping: ((Mapping,), "a mapping with string keys"),
    CredentialHeader: ((CredentialHeader,), "a CredentialHeader, such as CredentialHeader('Authorization', 'Bearer')"),
}
"""For each annotation of a setting, the accepted types and their description in error messages."""

SortOrder = Literal["newest_first", "oldest_first"]


@dataclass(frozen=True, slots=True)
class ContractSetting:
    """A setting of a contract: its name, its description, and its row in docs/reference/contract.md."""

    name: str
    doc: str
    row: int


def _setting_field(row: int, default: Any, doc: str) -> Any:  # returns Any to match every field's annotation
    """Return a dataclass field with ``row`` and ``doc`` in its metadata."""
    metadata = {"row": row, "doc": doc}
    if isinstance(default, MappingProxyType):  # unhashable on Python 3.11, so dataclasses reject it as a default
        return field(default_factory=lambda: cast("Any", default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Contract:
    """The choices that define how the API behaves over HTTP; their defaults make up the default contract.

    Raises ContractError for settings that are invalid, individually or in combination, and TypeError for a value of the
    wrong type.
    """

    routes: Mapping[Operation, RouteTemplate] = _setting_field(1, DEFAULT_ROUTES, "method and path of each operation")
    created_user_status: int = _setting_field(1, 201, "status of createUser for a new user, 200 to 299")
    existing_user_status: int = _setting_field(1, 200, "status of createUser for an existing user, 200 to 299")
    created_transaction_status: int = _setting_field(1, 201, "status of createTransaction, 200 to 299")
    api_key: CredentialHeader = _setting_field(
        2, CredentialHeader("X-API-Key"), "header for the API key: `Header` or `Header: Scheme`"
    )
    user_token: CredentialHeader = _setting_field(
        3, CredentialHeader("Authorization", "Bearer"), "header for a user's token: `Header` or `Header: Scheme`"
    )
    trust: Mapping[str, str] = _setting_field(
        3, MappingProxyType({}), "foreign issuers of user tokens, each with a file that contains its keys (JWKS or PEM)"
    )
    both_credentials: Literal["refuse", "key", "token"] = _setting_field(
        4, "refuse", "whether a request with both credentials is refused, or which of them is used"
    )
    applications: tuple[str, ...] | None = _setting_field(5, None, 'applications that exist; `"open"`: every id exists')
    key_applications: tuple[str, ...] | None = _setting_field(
        5, None, 'applications that the API key can access (403 for others); `"open"`: all'
    )
    unknown_user: Literal["refuse", "create", "zero"] = _setting_field(
        6, "refuse", "handling of unknown users: a 404, creation on first use, or a balance of 0"
    )
    amounts: Literal["integer"] = _setting_field(7, "integer", "allowed values for `delta`")
    sign: Literal["by_reason", "free"] = _setting_field(
        8, "by_reason", "whether `delta` must be positive for grant and refund, and negative for consume"
    )
    floor: int | None = _setting_field(9, 0, 'lowest balance after a deduction, 0 or less; `"none"`: no limit')
    ceiling: int | None = _setting_field(10, MAX_AMOUNT, 'highest balance; `"none"`: no limit')
    created_transaction: Literal["plain", "id", "balance", "wrapped", "empty"] = _setting_field(
        11,
        "plain",
        "body of createTransaction's response: a plain transaction, with `id`, with `balance`, wrapped, or none (204)",
    )
    transactions_order: SortOrder = _setting_field(12, "newest_first", "order of listTransactions")
    users_order: SortOrder = _setting_field(12, "oldest_first", "order of listUsers, by creation time")
    page_size: int = _setting_field(13, 20, "entries per page, 1 to 1000")
    limit_parameter: str = _setting_field(13, "", "name of the query parameter for the page size; empty: none")
    cursor_parameter: str = _setting_field(14, "cursor", "name of the query parameter for the cursor")
    end_of_list: Literal["absent", "null", "empty"] = _setting_field(
        15, "absent", "form of nextCursor on the last page"
    )
    idempotency: Literal["ignore"] = _setting_field(
        17, "ignore", "handling of the `Idempotency-Key` header, which the journal always records"
    )
    error_body: Literal["nested", "problem", "flat"] = _setting_field(
        18, "nested", 'form of an error body: `{"error":{…}}`, RFC 9457, or `{"code","message"}`'
    )
    statuses: Mapping[str, int] = _setting_field(19, MappingProxyType({}), "HTTP status (400 to 599) by error code")
    created_at: TimestampFormat = _setting_field(
        20, "iso_ms", "form of createdAt: ISO 8601 in UTC, or (milli)seconds since 1970"
    )
    field_names: Mapping[str, str] = _setting_field(
        21, MappingProxyType({}), "renamed body members, as original name = new name"
    )
    retry_after: Literal["seconds", "date", "absent"] = _setting_field(
        22, "seconds", "form of Retry-After in injected errors"
    )
    cors_origins: tuple[str, ...] = _setting_field(23, ("*",), "origins whose pages may send user tokens; empty: none")
    id_max_length: int = _setting_field(24, 256, "maximum length of an id in code points, 1 to 4096")
    id_pattern: str = _setting_field(24, "", "regular expression that an id must match completely; empty: any id")

    def __post_init__(self) -> None:
        for setting in dataclasses.fields(self):
            _check_type(setting.name, setting.type, getattr(self, setting.name))
            _check_literal(setting.name, setting.type, getattr(self, setting.name))
        object.__setattr__(self, "routes", routes_by_operation(self.routes))  # the class is frozen
        _check_routes(self.routes)
        _check_credential_headers({"api_key": self.api_key, "user_token": self.user_token})
        _check_numbers(vars(self))
        _check_statuses(self.statuses)
        _check_field_names(self.field_names)
        _check_query_parameters(self.cursor_parameter, self.limit_parameter)
        _check_trust(self.trust)
        _check_origins(self.cors_origins)
        _check_pattern(self.id_pattern)
        _check_applications(self.applications, self.key_applications)

    def status_of(self, error: type[ApiError] | ApiError) -> int:
        """Return the status of an error response, taking ``statuses`` into account."""
        return self.statuses.get(error.code, error.default_status)

    def name_of(self, member: str) -> str:
        """Return the name of a body member, taking ``field_names`` into account."""
        return self.field_names.get(member, member)


def settings() -> tuple[ContractSetting, ...]:
    """Return all settings of a contract, in the order of docs/reference/contract.md."""
    return tuple(
        ContractSetting(spec.name, spec.metadata["doc"], spec.metadata["row"]) for spec in dataclasses.fields(Contract)
    )


def success_statuses(contract: Contract, operation: Operation) -> frozenset[int]:
    """Return the statuses of an operation's successful responses."""
    if operation is Operation.CREATE_USER:
        return frozenset((contract.created_user_status, contract.existing_user_status))
    if operation is Operation.CREATE_TRANSACTION:
        return frozenset((204 if contract.created_transaction == "empty" else contract.created_transaction_status,))
    return frozenset((200,))


def id_problem(contract: Contract, identifier: str) -> str:
    """Return why an id is invalid under the contract, or an empty string if it is valid."""
    if len(identifier) > contract.id_max_length:
        return f"must be at most {contract.id_max_length} characters long, not {len(identifier)}"
    if not identifier.isprintable() and any(unicodedata.category(char) == "Cc" for char in identifier):
        return "must not contain control characters"
    if contract.id_pattern and not re.fullmatch(contract.id_pattern, identifier):
        return f"must match the contract's pattern {contract.id_pattern}"
    return ""


def suggest_choices(name: str, choices: Iterable[str]) -> str:
    """Return a hint for an unknown name: the most similar choice, if any, and all choices.

    If there are many choices and one of them is similar, only that one is included.
    """
    names = list(choices)
    suggestion = did_you_mean(name, names)
    return (
        suggestion if suggestion and len(names) > _MAX_LISTED_CHOICES else f"{suggestion} (known: {', '.join(names)})"
    )


def routes_by_operation(routes: Mapping[Any, RouteTemplate]) -> dict[Operation, RouteTemplate]:
    """Return routes keyed by operation; the keys of ``routes`` may also be names of client methods.

    Raises ContractError for an unknown operation.
    """
    known = [operation.value for operation in Operation]
    by_operation: dict[Operation, RouteTemplate] = {}
    for name, route in routes.items():
        operation = str(normalize_operation(name))
        if operation not in known:
            raise ContractError(f"routes.{name}", f"unknown operation{suggest_choices(str(name), known)}")
        by_operation[Operation(operation)] = route
    return by_operation


def _check_type(name: str, annotation: object, value: Any) -> None:
    """Raise TypeError if the value has the wrong type; numbers and choices are checked elsewhere."""
    is_optional = isinstance(annotation, UnionType)
    kind = get_args(annotation)[0] if is_optional else annotation
    accepted, description = _ACCEPTED_TYPES.get(get_origin(kind) or kind, ((object,), ""))
    items = cast("Iterable[object]", value) if isinstance(value, tuple | list | Mapping) else ()
    if not (value is None and is_optional) and not (
        isinstance(value, accepted) and all(isinstance(item, str) for item in items)
    ):
        raise TypeError(f"{name} must be {description}, not {short_repr(cast('object', value))}")


def _check_literal(name: str, annotation: object, value: object) -> None:
    """Check the value of a setting with a Literal type; ignore other settings."""
    if get_origin(annotation) is not Literal:
        return
    choices = get_args(annotation)
    if value in _UNSUPPORTED.get(name, ()):
        raise ContractError(name, f"{value!r} is not supported yet: use {choices[0]!r}")
    if value not in choices:
        raise ContractError(name, f"must be one of {', '.join(map(repr, choices))}, not {value!r}")


def _check_routes(routes: Mapping[Operation, RouteTemplate]) -> None:
    """Check that each operation has a unique route that contains exactly the operation's path parameters."""
    missing = [operation.value for operation in Operation if operation not in routes]
    if missing:
        raise ContractError("routes", f"no route for {', '.join(missing)}")
    operation_by_pattern: dict[str, Operation] = {}
    for operation, route in routes.items():
        name = f"routes.{operation.value}"
        if not isinstance(route, RouteTemplate):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"{name} must be a RouteTemplate, such as {DEFAULT_ROUTES[Operation.GET_USER]!r}, not {route!r}"
            )
        _check_route(name, route, requires_user=operation is not Operation.LIST_USERS)
        pattern = f"{route.method} {re.sub(r'{[^}]*}', '{}', route.path)}"
        if pattern in operation_by_pattern:
            raise ContractError(name, f"{route} is already the route of {operation_by_pattern[pattern].value}")
        operation_by_pattern[pattern] = operation


def _check_route(name: str, route: RouteTemplate, *, requires_user: bool) -> None:
    if route.method not in _OPERATION_METHODS:
        raise ContractError(name, f"unsupported method {route.method!r}: use one of {', '.join(_OPERATION_METHODS)}")
    before_slash, *segments = route.path.split("/")
    if before_slash or not segments:
        raise ContractError(name, f"the path {route.path!r} must start with a slash")
    if segments[0] in _RESERVED_SEGMENTS:
        raise ContractError(name, f"paths under /{segments[0]}/ are reserved for the fake itself")
    for segment in segments:
        if segment not in _PATH_PARAMETERS and (segment in (".", "..") or not _PATH_SEGMENT.fullmatch(segment)):
            raise ContractError(
                name, f"invalid path segment {segment!r} (allowed parameters: {', '.join(_PATH_PARAMETERS)})"
            )
    expected = _PATH_PARAMETERS if requires_user else _PATH_PARAMETERS[:1]
    if sorted(parameter for parameter in segments if parameter in _PATH_PARAMETERS) != sorted(expected):
        raise ContractError(name, f"the parameters in {route.path!r} must be exactly {' and '.join(expected)}")


def _check_credential_headers(headers: Mapping[str, CredentialHeader]) -> None:
    for name, credential_header in headers.items():
        if not _HEADER_TOKEN.fullmatch(credential_header.header) or (
            credential_header.scheme and not _HEADER_TOKEN.fullmatch(credential_header.scheme)
        ):
            raise ContractError(name, f"must be `Header` or `Header: Scheme`, not {str(credential_header)!r}")
        if credential_header.header.lower() in _RESERVED_HEADERS:
            raise ContractError(name, f"{credential_header.header!r} can't carry a credential: it has another purpose")


def _check_numbers(settings: Mapping[str, object]) -> None:
    for name, (minimum, maximum) in _RANGES.items():
        value = settings[name]
        if value is None and name in ("floor", "ceiling"):
            continue
        _check_range(name, value, minimum, maximum)
        if name.endswith("_status") and value in _BODILESS_STATUSES:
            raise ContractError(
                name,
                f"must not be {value}, because a {value} response has no body "
                "(if createTransaction responds with 204, set created_transaction = 'empty')",
            )


def _check_statuses(statuses: Mapping[str, int]) -> None:
    """Check that all error codes are known, and that their statuses are from 400 to 599."""
    for code, status in statuses.items():
        if code not in ERRORS:
            raise ContractError(f"statuses.{code}", f"unknown error code{suggest_choices(code, ERRORS)}")
        _check_range(f"statuses.{code}", status, 400, 599)


def _check_field_names(names: Mapping[str, str]) -> None:
    """Check that all members are known, and that the names within each body are distinct."""
    for member, name in names.items():
        if member not in FIELD_NAMES:
            raise ContractError(f"field_names.{member}", f"unknown member{suggest_choices(member, FIELD_NAMES)}")
        if not (isinstance(name, str) and name and name.isprintable()):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ContractError(f"field_names.{member}", f"must be a non-empty printable string, not {name!r}")
        if '"' in name or "\\" in name:
            raise ContractError(
                f"field_names.{member}", f"must not contain a quotation mark or a backslash, got {name!r}"
            )
    for members in _SAME_BODY:
        renamed = [names.get(member, member) for member in members]
        duplicates = [name for name in renamed if renamed.count(name) > 1]
        if duplicates:
            raise ContractError("field_names", f"a body would have two members named {duplicates[0]!r}")


def _check_query_parameters(cursor: str, limit: str) -> None:
    if not cursor or not cursor.isprintable():
        raise ContractError("cursor_parameter", f"must be a non-empty printable string, not {cursor!r}")
    if not limit.isprintable():
        raise ContractError("limit_parameter", f"must be a printable string, not {limit!r}")
    if limit == cursor:
        raise ContractError("limit_parameter", f"{limit!r} is already the name of the cursor parameter")


def _check_origins(origins: Iterable[str]) -> None:
    """Check that origins have the form that browsers send, because they are compared as strings."""
    for origin in origins:
        if origin not in ("*", "null") and not _ORIGIN_PATTERN.fullmatch(origin):
            raise ContractError(
                "cors_origins", f"{origin!r} is not an origin: use `scheme://host` or `scheme://host:port`"
            )


def _check_trust(trust: Mapping[str, str]) -> None:
    """Check that issuers and file names are non-empty strings; the files are read later."""
    for issuer, path in trust.items():
        if not (issuer and isinstance(path, str) and path):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ContractError("trust", f"must map each issuer to a file name, got {issuer!r} = {path!r}")


def _check_pattern(pattern: str) -> None:
    """Check that the pattern for ids is a valid regular expression."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise ContractError("id_pattern", f"{pattern!r} is not a valid regular expression: {error}") from None


def _check_applications(applications: tuple[str, ...] | None, key_applications: tuple[str, ...] | None) -> None:
    """Check that the API key can only access existing applications."""
    if applications is None or key_applications is None:
        return
    unknown = [application_id for application_id in key_applications if application_id not in applications]
    if unknown:
        raise ContractError("key_applications", f"{unknown[0]!r} is not in `applications`")


def _check_range(name: str, value: object, minimum: int, maximum: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ContractError(name, f"must be an integer, not {value!r}")
    if not minimum <= value <= maximum:
        raise ContractError(name, f"must be from {minimum} to {maximum}, not {value}")


DEFAULT_CONTRACT = Contract()
"""The default contract; changing one of its values requires a major release."""
