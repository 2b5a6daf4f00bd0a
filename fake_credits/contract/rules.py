"""Own what a contract's settings may be; know nothing of where they come from.

Every function raises ContractError, which names the setting and the rule.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Literal, Protocol, get_args, get_origin

from fake_credits.contract.parts import FIELD_NAMES, MAX_AMOUNT, ContractError, HeaderForm, Operation, RouteTemplate
from fake_credits.errors import ERRORS, did_you_mean

__all__ = [
    "NOT_YET",
    "check_applications",
    "check_choice",
    "check_headers",
    "check_names",
    "check_numbers",
    "check_origins",
    "check_parameters",
    "check_pattern",
    "check_routes",
    "check_statuses",
    "check_trust",
    "nearest",
]

NOT_YET: Mapping[str, tuple[str, ...]] = {"amounts": ("decimal",), "idempotency": ("replay", "reject")}
"""Values that the table of choices foresees and that this version can't do."""

_LISTED = 12
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_SEGMENT = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@-]+")  # RFC 3986, section 3.3, without percent-encoding
_PARAMETERS = ("{applicationId}", "{userId}")
# The others have no body in their answers (HEAD), mean something already (OPTIONS: a browser's preflight; CONNECT,
# TRACE: RFC 9110, section 9.3), or can't be described in OpenAPI 3.1.
_METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")
_OWN_SEGMENTS = ("_fake", ".well-known")
_BODILESS = (204, 205)  # RFC 9110, sections 15.3.5 and 15.3.6
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:(?![/?#@])[!-~]){1,255}")  # RFC 6454, section 6.2
# Header fields that every request has, or whose meaning is HTTP's own.
_TAKEN_HEADERS = frozenset(
    {"accept", "connection", "content-length", "content-type", "host", "origin", "te", "transfer-encoding", "upgrade"}
)
# Members that stand beside each other in one body: no two of them may get the same name.
_TOGETHER = (
    ("applicationId", "userId", "createdAt"),
    ("delta", "reason", "createdAt", "id", "balance"),
    ("users", "nextCursor"),
    ("transactions", "nextCursor"),
)


class _Numbers(Protocol):
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


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint of the known name nearest to one that is unknown, and of all where they are few or none is near."""
    names = list(known)
    near = did_you_mean(name, names)
    return near if near and len(names) > _LISTED else f"{near} (there are {', '.join(names)})"


def check_choice(name: str, annotation: object, value: object) -> None:
    """Check a setting whose type lists its values; any other type passes."""
    if get_origin(annotation) is not Literal:
        return
    known = get_args(annotation)
    if value in NOT_YET.get(name, ()):
        raise ContractError(name, f"{value!r} is not supported yet: choose {known[0]!r}")
    if value not in known:
        raise ContractError(name, f"{value!r} is none of {', '.join(map(repr, known))}")


def check_routes(routes: Mapping[Operation, RouteTemplate]) -> None:
    """Check that each operation has a route of its own, over the two ids and nothing else."""
    missing = [operation.value for operation in Operation if operation not in routes]
    if missing:
        raise ContractError("routes", f"there is none for {', '.join(missing)}")
    taken: dict[str, Operation] = {}
    for operation, route in routes.items():
        name = f"routes.{operation.value}"
        _check_template(name, route, wants_user=operation is not Operation.LIST_USERS)
        shape = f"{route.method} {re.sub(r'{[^}]*}', '{}', route.path)}"
        if shape in taken:
            raise ContractError(name, f"{route} is {taken[shape].value}'s route already")
        taken[shape] = operation


def _check_template(name: str, route: RouteTemplate, *, wants_user: bool) -> None:
    if route.method not in _METHODS:
        raise ContractError(name, f"{route.method!r} is no method of an operation (there are {', '.join(_METHODS)})")
    first, *segments = route.path.split("/")
    if first or not segments:
        raise ContractError(name, f"the path {route.path!r} does not start with a slash")
    if segments[0] in _OWN_SEGMENTS:
        raise ContractError(name, f"the paths below /{segments[0]}/ are the fake's own")
    for segment in segments:
        if segment not in _PARAMETERS and (segment in (".", "..") or not _SEGMENT.fullmatch(segment)):
            raise ContractError(name, f"{segment!r} is no segment of a path (parameters: {', '.join(_PARAMETERS)})")
    wanted = _PARAMETERS if wants_user else _PARAMETERS[:1]
    if sorted(each for each in segments if each in _PARAMETERS) != sorted(wanted):
        raise ContractError(name, f"the path {route.path!r} must name {' and '.join(wanted)}, each once")


def check_headers(forms: Mapping[str, HeaderForm]) -> None:
    """Check header names and schemes."""
    for name, form in forms.items():
        if not _TOKEN.fullmatch(form.header) or (form.scheme and not _TOKEN.fullmatch(form.scheme)):
            raise ContractError(name, f"{str(form)!r} is neither `Header` nor `Header: Scheme`")
        if form.header.lower() in _TAKEN_HEADERS:
            raise ContractError(name, f"{form.header!r} can't bear a credential: HTTP uses it itself")


def check_numbers(numbers: _Numbers) -> None:
    """Check the ranges of all numbers."""
    _success("created_user_status", numbers.created_user_status)
    _success("existing_user_status", numbers.existing_user_status)
    _success("created_transaction_status", numbers.created_transaction_status)
    _between("page_size", numbers.page_size, 1, 1000)
    _between("id_max_length", numbers.id_max_length, 1, 4096)
    if numbers.floor is not None:
        _between("floor", numbers.floor, -MAX_AMOUNT, 0)
    if numbers.ceiling is not None:
        _between("ceiling", numbers.ceiling, 1, MAX_AMOUNT)


def check_statuses(statuses: Mapping[str, int]) -> None:
    """Check that error codes are known and statuses are those of errors."""
    for code, status in statuses.items():
        if code not in ERRORS:
            raise ContractError(f"statuses.{code}", f"there is no such error code{nearest(code, ERRORS)}")
        _between(f"statuses.{code}", status, 400, 599)


def check_names(names: Mapping[str, str]) -> None:
    """Check that members are known, and that no body gets two of one name."""
    for member, name in names.items():
        if member not in FIELD_NAMES:
            raise ContractError(f"field_names.{member}", f"there is no such member{nearest(member, FIELD_NAMES)}")
        if not (isinstance(name, str) and name and name.isprintable()):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ContractError(f"field_names.{member}", f"{name!r} is no name")
        if '"' in name or "\\" in name:
            raise ContractError(f"field_names.{member}", f"{name!r} has a quotation mark or a backslash")
    for members in _TOGETHER:
        renamed = [names.get(member, member) for member in members]
        twice = [name for name in renamed if renamed.count(name) > 1]
        if twice:
            raise ContractError("field_names", f"a body would have two members called {twice[0]!r}")


def check_parameters(cursor: str, limit: str) -> None:
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
        if origin not in ("*", "null") and not _ORIGIN.fullmatch(origin):
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


def check_applications(applications: tuple[str, ...] | None, allowed: tuple[str, ...] | None) -> None:
    """Check that the key's applications are among those there are."""
    if applications is None or allowed is None:
        return
    unknown = [each for each in allowed if each not in applications]
    if unknown:
        raise ContractError("key_applications", f"{unknown[0]!r} is not one of the applications")


def _success(name: str, status: int) -> None:
    _between(name, status, 200, 299)
    if status in _BODILESS:
        raise ContractError(name, f"a {status} has no body (created_transaction = 'empty' answers 204)")


def _between(name: str, value: int, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ContractError(name, f"must be an integer, not {value!r}")
    if not least <= value <= most:
        raise ContractError(name, f"must be from {least} to {most}, not {value}")
