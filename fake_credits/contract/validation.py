"""Own what a contract's settings may be; know nothing of where they come from.

Every function raises ContractError, which names the setting and the rule.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Literal, Protocol, get_args, get_origin

from fake_credits.contract.types import (
    FIELD_NAMES,
    MAX_AMOUNT,
    ContractError,
    CredentialHeader,
    Operation,
    RouteTemplate,
)
from fake_credits.errors import ERRORS, did_you_mean

__all__ = [
    "UNSUPPORTED",
    "check_applications",
    "check_credential_headers",
    "check_field_names",
    "check_literal",
    "check_numbers",
    "check_origins",
    "check_pattern",
    "check_query_parameters",
    "check_routes",
    "check_statuses",
    "check_trust",
    "suggest_choices",
]

UNSUPPORTED: Mapping[str, tuple[str, ...]] = {"amounts": ("decimal",), "idempotency": ("replay", "reject")}
"""Values that the table of choices foresees and that this version can't do."""

_MAX_LISTED_CHOICES = 12
_HEADER_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_PATH_SEGMENT = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@-]+")  # RFC 3986, section 3.3, without percent-encoding
_PATH_PARAMETERS = ("{applicationId}", "{userId}")
# The others have no body in their answers (HEAD), mean something already (OPTIONS: a browser's preflight; CONNECT,
# TRACE: RFC 9110, section 9.3), or can't be described in OpenAPI 3.1.
_OPERATION_METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")
_RESERVED_SEGMENTS = ("_fake", ".well-known")
_BODILESS_STATUSES = (204, 205)  # RFC 9110, sections 15.3.5 and 15.3.6
_ORIGIN_PATTERN = re.compile(r"[a-z][a-z0-9+.-]*://(?:(?![/?#@])[!-~]){1,255}")  # RFC 6454, section 6.2
# Header fields that every request has, or whose meaning is HTTP's own.
_RESERVED_HEADERS = frozenset(
    {"accept", "connection", "content-length", "content-type", "host", "origin", "te", "transfer-encoding", "upgrade"}
)
# Members that stand beside each other in one body: no two of them may get the same name.
_SAME_BODY = (
    ("applicationId", "userId", "createdAt"),
    ("delta", "reason", "createdAt", "id", "balance"),
    ("users", "nextCursor"),
    ("transactions", "nextCursor"),
)


class _NumericSettings(Protocol):
    @property
    def created_user_status(self) -> int: ...
    @property
    def existing_user_status(self) -> int: ...
    @property
    def created_transaction_status(self) -> int: ...
    @property
    def floor(self) -> int | None: ...
    @property
    def ceiling(self) -> int | None: ...
    @property
    def page_size(self) -> int: ...
    @property
    def id_max_length(self) -> int: ...


def suggest_choices(name: str, choices: Iterable[str]) -> str:
    """Return a hint of the known name nearest to one that is unknown, and of all where they are few or none is near."""
    names = list(choices)
    suggestion = did_you_mean(name, names)
    return (
        suggestion
        if suggestion and len(names) > _MAX_LISTED_CHOICES
        else f"{suggestion} (there are {', '.join(names)})"
    )


def check_literal(name: str, annotation: object, value: object) -> None:
    """Check a setting whose type lists its values; any other type passes."""
    if get_origin(annotation) is not Literal:
        return
    choices = get_args(annotation)
    if value in UNSUPPORTED.get(name, ()):
        raise ContractError(name, f"{value!r} is not supported yet: choose {choices[0]!r}")
    if value not in choices:
        raise ContractError(name, f"{value!r} is none of {', '.join(map(repr, choices))}")


def check_routes(routes: Mapping[Operation, RouteTemplate]) -> None:
    """Check that each operation has a route of its own, over the two ids and nothing else."""
    missing = [operation.value for operation in Operation if operation not in routes]
    if missing:
        raise ContractError("routes", f"there is none for {', '.join(missing)}")
    operation_by_pattern: dict[str, Operation] = {}
    for operation, route in routes.items():
        name = f"routes.{operation.value}"
        _check_route(name, route, requires_user=operation is not Operation.LIST_USERS)
        pattern = f"{route.method} {re.sub(r'{[^}]*}', '{}', route.path)}"
        if pattern in operation_by_pattern:
            raise ContractError(name, f"{route} is {operation_by_pattern[pattern].value}'s route already")
        operation_by_pattern[pattern] = operation


def _check_route(name: str, route: RouteTemplate, *, requires_user: bool) -> None:
    if route.method not in _OPERATION_METHODS:
        raise ContractError(
            name, f"{route.method!r} is no method of an operation (there are {', '.join(_OPERATION_METHODS)})"
        )
    before_slash, *segments = route.path.split("/")
    if before_slash or not segments:
        raise ContractError(name, f"the path {route.path!r} does not start with a slash")
    if segments[0] in _RESERVED_SEGMENTS:
        raise ContractError(name, f"the paths below /{segments[0]}/ are the fake's own")
    for segment in segments:
        if segment not in _PATH_PARAMETERS and (segment in (".", "..") or not _PATH_SEGMENT.fullmatch(segment)):
            raise ContractError(
                name, f"{segment!r} is no segment of a path (parameters: {', '.join(_PATH_PARAMETERS)})"
            )
    expected = _PATH_PARAMETERS if requires_user else _PATH_PARAMETERS[:1]
    if sorted(parameter for parameter in segments if parameter in _PATH_PARAMETERS) != sorted(expected):
        raise ContractError(name, f"the path {route.path!r} must name {' and '.join(expected)}, each once")


def check_credential_headers(headers: Mapping[str, CredentialHeader]) -> None:
    """Check header names and schemes."""
    for name, credential_header in headers.items():
        if not _HEADER_TOKEN.fullmatch(credential_header.header) or (
            credential_header.scheme and not _HEADER_TOKEN.fullmatch(credential_header.scheme)
        ):
            raise ContractError(name, f"{str(credential_header)!r} is neither `Header` nor `Header: Scheme`")
        if credential_header.header.lower() in _RESERVED_HEADERS:
            raise ContractError(name, f"{credential_header.header!r} can't bear a credential: HTTP uses it itself")


def check_numbers(settings: _NumericSettings) -> None:
    """Check the ranges of all numbers."""
    _check_success_status("created_user_status", settings.created_user_status)
    _check_success_status("existing_user_status", settings.existing_user_status)
    _check_success_status("created_transaction_status", settings.created_transaction_status)
    _check_range("page_size", settings.page_size, 1, 1000)
    _check_range("id_max_length", settings.id_max_length, 1, 4096)
    if settings.floor is not None:
        _check_range("floor", settings.floor, -MAX_AMOUNT, 0)
    if settings.ceiling is not None:
        _check_range("ceiling", settings.ceiling, 1, MAX_AMOUNT)


def check_statuses(statuses: Mapping[str, int]) -> None:
    """Check that error codes are known and statuses are those of errors."""
    for code, status in statuses.items():
        if code not in ERRORS:
            raise ContractError(f"statuses.{code}", f"there is no such error code{suggest_choices(code, ERRORS)}")
        _check_range(f"statuses.{code}", status, 400, 599)


def check_field_names(names: Mapping[str, str]) -> None:
    """Check that members are known, and that no body gets two of one name."""
    for member, name in names.items():
        if member not in FIELD_NAMES:
            raise ContractError(
                f"field_names.{member}", f"there is no such member{suggest_choices(member, FIELD_NAMES)}"
            )
        if not (isinstance(name, str) and name and name.isprintable()):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ContractError(f"field_names.{member}", f"{name!r} is no name")
        if '"' in name or "\\" in name:
            raise ContractError(f"field_names.{member}", f"{name!r} has a quotation mark or a backslash")
    for members in _SAME_BODY:
        renamed = [names.get(member, member) for member in members]
        duplicates = [name for name in renamed if renamed.count(name) > 1]
        if duplicates:
            raise ContractError("field_names", f"a body would have two members called {duplicates[0]!r}")


def check_query_parameters(cursor: str, limit: str) -> None:
    """Check the names of query parameters."""
    if not cursor or not cursor.isprintable():
        raise ContractError("cursor_parameter", f"{cursor!r} is no name")
    if not limit.isprintable():
        raise ContractError("limit_parameter", f"{limit!r} is no name")
    if limit == cursor:
        raise ContractError("limit_parameter", f"{limit!r} is the cursor's name already")


def check_origins(origins: Iterable[str]) -> None:
    """Check that origins are written as a browser sends them, as they are compared as texts."""
    for origin in origins:
        if origin not in ("*", "null") and not _ORIGIN_PATTERN.fullmatch(origin):
            raise ContractError("cors_origins", f"{origin!r} is no origin: `scheme://host` or `scheme://host:port`")


def check_trust(trust: Mapping[str, str]) -> None:
    """Check that issuers and their files are texts; what is in the files is found out by who reads them."""
    for issuer, path in trust.items():
        if not (issuer and isinstance(path, str) and path):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ContractError("trust", f"{issuer!r} = {path!r} is not an issuer and the name of a file")


def check_pattern(pattern: str) -> None:
    """Check that a pattern for ids is a regular expression."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise ContractError("id_pattern", f"{pattern!r} is no regular expression: {error}") from None


def check_applications(applications: tuple[str, ...] | None, key_applications: tuple[str, ...] | None) -> None:
    """Check that the key's applications are among those there are."""
    if applications is None or key_applications is None:
        return
    unknown = [application_id for application_id in key_applications if application_id not in applications]
    if unknown:
        raise ContractError("key_applications", f"{unknown[0]!r} is not one of the applications")


def _check_success_status(name: str, status: int) -> None:
    _check_range(name, status, 200, 299)
    if status in _BODILESS_STATUSES:
        raise ContractError(name, f"a {status} has no body (created_transaction = 'empty' answers 204)")


def _check_range(name: str, value: int, minimum: int, maximum: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ContractError(name, f"must be an integer, not {value!r}")
    if not minimum <= value <= maximum:
        raise ContractError(name, f"must be from {minimum} to {maximum}, not {value}")
