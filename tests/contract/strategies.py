"""Hypothesis strategies for contracts: every setting within its valid range."""

from dataclasses import fields
from typing import Any

from hypothesis import strategies as st

from fake_credits.contract import (
    DEFAULT_CONTRACT,
    FIELD_NAMES,
    MAX_AMOUNT,
    Contract,
    ContractError,
    CredentialHeader,
    Operation,
    RouteTemplate,
)
from fake_credits.errors import ERRORS

__all__ = ["contracts"]

_identifiers = st.text("abcdefghijklmnopqrstuvwxyzABC_-", min_size=1, max_size=8)
_names = st.text(
    st.characters(codec="utf-8", categories=("L", "N", "P", "S"), exclude_characters='"\\'), min_size=1, max_size=6
)
_success_statuses = st.sampled_from([200, 201, 202, 203, 206, 299])
_headers = st.sampled_from([CredentialHeader("Authorization"), CredentialHeader("X-Token")]) | st.builds(
    CredentialHeader, st.sampled_from(["Authorization", "X-Key", "x-User"]), st.sampled_from(["", "Bearer", "Token"])
)


@st.composite
def _route(draw: st.DrawFn, operation: Operation) -> RouteTemplate:
    method = draw(st.sampled_from(["DELETE", "GET", "PATCH", "POST", "PUT"]))
    segments = ["{applicationId}", *([] if operation is Operation.LIST_USERS else ["{userId}"])]
    # A distinct first segment keeps random routes from colliding.
    return RouteTemplate(
        method, "/" + "/".join([f"{operation.value}-{draw(_identifiers)}", *draw(st.permutations(segments))])
    )


_SETTINGS: dict[str, st.SearchStrategy[Any]] = {
    "routes": st.fixed_dictionaries(
        {setting: st.just(DEFAULT_CONTRACT.routes[setting]) | _route(setting) for setting in Operation}
    ),
    "created_user_status": _success_statuses,
    "existing_user_status": _success_statuses,
    "created_transaction_status": _success_statuses,
    "api_key": _headers,
    "user_token": _headers,
    "both_credentials": st.sampled_from(["refuse", "key", "token"]),
    "applications": st.none() | st.just(("app-id", "other")),
    "key_applications": st.none() | st.just(("app-id",)),
    "unknown_user": st.sampled_from(["refuse", "create", "zero"]),
    "sign": st.sampled_from(["by_reason", "free"]),
    "floor": st.none() | st.integers(-MAX_AMOUNT, 0),
    "ceiling": st.none() | st.integers(1, MAX_AMOUNT),
    "created_transaction": st.sampled_from(["plain", "id", "balance", "wrapped", "empty"]),
    "transactions_order": st.sampled_from(["newest_first", "oldest_first"]),
    "users_order": st.sampled_from(["newest_first", "oldest_first"]),
    "page_size": st.integers(1, 8) | st.integers(1, 1000),
    "limit_parameter": st.just("") | _identifiers.map(lambda word: "limit" + word),
    "cursor_parameter": _names.map(lambda name: "cursor" + name),
    "end_of_list": st.sampled_from(["absent", "null", "empty"]),
    "error_body": st.sampled_from(["nested", "problem", "flat"]),
    "statuses": st.dictionaries(st.sampled_from(sorted(ERRORS)), st.integers(400, 599), max_size=8),
    "created_at": st.sampled_from(["iso_ms", "iso_s", "unix_s", "unix_ms"]),
    "field_names": st.dictionaries(st.sampled_from(FIELD_NAMES), _names, max_size=6),
    "retry_after": st.sampled_from(["seconds", "date", "absent"]),
    "cors_origins": st.sampled_from([("*",), (), ("https://app.example", "http://localhost:3000")]),
    "id_max_length": st.integers(16, 4096),
    "id_pattern": st.sampled_from(["", r"[\w@|.-]+", r"(?i)[a-z-]+"]),
}
_EXCLUDED = {"trust", "amounts", "idempotency"}  # trust needs a file on disk; the others have only one value
assert set(_SETTINGS) | _EXCLUDED == {setting.name for setting in fields(Contract)}


@st.composite
def contracts(draw: st.DrawFn) -> Contract:
    """Draw a valid contract."""
    settings: dict[str, Any] = draw(st.fixed_dictionaries({}, optional=_SETTINGS))
    try:
        return Contract(**settings)
    except ContractError as error:
        if error.setting != "field_names":  # settings can only conflict if two fields have the same name
            raise
        settings["field_names"] = {}
        return Contract(**settings)
