"""Loading contract files: valid settings and errors."""

from pathlib import Path

import pytest

from fake_credits.contract import (
    DEFAULT_CONTRACT,
    Contract,
    ContractError,
    CredentialHeader,
    Operation,
    RouteTemplate,
    settings,
)
from fake_credits.contract.loading import contract_from, load_contract


def test_file_with_only_a_version_is_the_default_contract() -> None:
    assert contract_from({"version": 1}) == DEFAULT_CONTRACT


def test_file_changes_only_the_settings_it_names(tmp_path: Path) -> None:
    path = tmp_path / "contract.toml"
    path.write_text(
        'version = 1\napi_key = "Authorization: Bearer"\nfloor = "none"\napplications = ["a", "b"]\n'
        'cors_origins = []\n[routes]\ngetUser = "GET /x/{applicationId}/{userId}"\n'
        "[statuses]\ninsufficient_credits = 409\n[field_names]\ndelta = 'amount'\n"
    )
    contract = load_contract(path)
    assert contract.api_key == CredentialHeader("Authorization", "Bearer")
    assert (contract.floor, contract.applications, contract.cors_origins) == (None, ("a", "b"), ())
    assert contract.routes[Operation.GET_USER] == RouteTemplate("GET", "/x/{applicationId}/{userId}")
    assert contract.routes[Operation.GET_BALANCE] == DEFAULT_CONTRACT.routes[Operation.GET_BALANCE]
    assert contract.statuses == {"insufficient_credits": 409}
    assert contract.name_of("delta") == "amount"


INVALID_DOCUMENTS: dict[str, tuple[dict[str, object], str]] = {
    "no version": ({}, "version: must be 1, but is missing"),
    "later version": ({"version": 2}, "version: must be 1, not 2"),
    "true for version": ({"version": True}, "version: must be 1, not True"),
    "unknown setting": ({"pagesize": 3}, "pagesize: unknown setting: did you mean 'page_size'"),
    "setting without similar name": ({"x": 3}, r"x: unknown setting \(known: .*page_size"),
    "unknown operation": ({"routes": {"getusr": "GET /"}}, r"routes.getusr: .*: did you mean 'getUser'\?"),
    "unknown code": ({"statuses": {"forbiden": 403}}, r"statuses.forbiden: .*: did you mean 'forbidden'\?"),
    "unknown member": ({"field_names": {"deltas": "x"}}, r"field_names.deltas: .*: did you mean 'delta'\?"),
    "value outside choices": ({"sign": "any"}, "sign: must be one of 'by_reason', 'free', not 'any'"),
    "decimal amounts": ({"amounts": "decimal"}, "amounts: 'decimal' is not supported yet"),
    "idempotency replay": ({"idempotency": "replay"}, "idempotency: 'replay' is not supported yet"),
    "string for integer": ({"page_size": "20"}, "page_size: must be an integer, not '20'"),
    "true for integer": ({"floor": True}, "floor: must be an integer, not True"),
    "page size too large": ({"page_size": 1001}, "page_size: must be from 1 to 1000, not 1001"),
    "positive floor": ({"floor": 1}, "floor: must be from"),
    "success status for error": ({"statuses": {"forbidden": 200}}, "statuses.forbidden: must be from 400"),
    "error status for success": ({"created_user_status": 404}, "created_user_status: must be from 200"),
    "list for string": ({"api_key": ["X"]}, "api_key: must be a string"),
    "invalid header": ({"api_key": "X Key"}, "api_key: must be .*, not 'X Key'"),
    "string for table": ({"routes": "GET /"}, "routes: must be a table"),
    "string for list": ({"applications": "a"}, "applications: must be a list of strings or 'open'"),
    "number in a list": ({"cors_origins": [1]}, "cors_origins: must be a string"),
    "invalid pattern": ({"id_pattern": "["}, "id_pattern: .* not a valid regular expression"),
    "template without userId": ({"routes": {"getUser": "GET /{applicationId}"}}, "routes.getUser: .* must be exactly"),
    "template with unknown parameter": (
        {"routes": {"listUsers": "GET /{applicationId}/{page}"}},
        "routes.listUsers: invalid path segment '{page}'",
    ),
    "template with dots": (
        {"routes": {"listUsers": "GET /../{applicationId}"}},
        "listUsers: invalid path segment '..'",
    ),
    "template without a slash": ({"routes": {"listUsers": "GET {applicationId}"}}, "must start with a slash"),
    "method in lower case": ({"routes": {"listUsers": "get /{applicationId}"}}, "unsupported method 'get'"),
    "method whose answer has no body": (
        {"routes": {"listUsers": "HEAD /{applicationId}"}},
        "unsupported method 'HEAD'",
    ),
    "reserved path": ({"routes": {"listUsers": "GET /_fake/{applicationId}"}}, "paths under /_fake/ are reserved"),
    "two operations on one route": (
        {"routes": {"getUser": "PUT /v1/applications/{applicationId}/users/{userId}"}},
        "is already the route of (createUser|getUser)",
    ),
    "two fields with one name": ({"field_names": {"delta": "reason"}}, "two members named 'reason'"),
    "member with a quotation mark": ({"field_names": {"delta": 'a"b'}}, "field_names.delta: .* a quotation mark"),
    "success status without body": (
        {"created_user_status": 204},
        "created_user_status: must not be 204, because a 204 response has no body",
    ),
    "origin with a path": ({"cors_origins": ["https://x/"]}, "cors_origins: 'https://x/' is not an origin"),
    "non-ASCII origin": ({"cors_origins": ["https://☃.example"]}, "cors_origins: .* is not an origin"),
    "reserved header": ({"api_key": "Host: Key"}, "api_key: 'Host' can't carry a credential"),
    "invalid parameter name": ({"limit_parameter": "a\nb"}, "limit_parameter: must be a printable string"),
    "empty cursor parameter": (
        {"cursor_parameter": ""},
        "cursor_parameter: must be a non-empty printable string, not ''",
    ),
    "floor below JSON integers": ({"floor": -(2**53)}, "floor: must be from"),
    "ceiling of 0": ({"ceiling": 0}, "ceiling: must be from 1"),
    "id length too large": ({"id_max_length": 4097}, "id_max_length: must be from 1 to 4096"),
    "trusted issuer without a file": ({"trust": {"https://x/": ""}}, "trust: must map each issuer to a file name"),
    "number for key file": ({"trust": {"https://x/": 1}}, "trust: must map each issuer to a file name"),
    "empty field name": (
        {"field_names": {"delta": ""}},
        "field_names.delta: must be a non-empty printable string, not ''",
    ),
    "key application outside list": (
        {"applications": ["a"], "key_applications": ["b"]},
        "key_applications: 'b' is not in `applications`",
    ),
    "same name for both parameters": ({"limit_parameter": "cursor"}, "limit_parameter: 'cursor' is already the name"),
}


@pytest.mark.parametrize("name", INVALID_DOCUMENTS)
def test_invalid_setting_is_rejected_by_name(name: str) -> None:
    document, message = INVALID_DOCUMENTS[name]
    version: dict[str, object] = {} if "version" in name else {"version": 1}
    with pytest.raises(ContractError, match=message):
        contract_from({**version, **document})


def test_load_error_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("version = 1\npagesize = 3\n")
    with pytest.raises(ContractError, match="mine.toml: pagesize: unknown setting"):
        load_contract(path)


@pytest.mark.parametrize(("content", "message"), [(b"version = ", "not valid TOML"), (b"\xff", "not valid TOML")])
def test_invalid_toml_is_rejected(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(ContractError, match=message):
        load_contract(path)


def test_missing_file_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="can't be read: No such file"):
        load_contract(tmp_path / "none.toml")


def test_every_setting_has_documentation_and_row() -> None:
    assert all(setting.doc and 1 <= setting.row <= 24 for setting in settings())
    assert [setting.row for setting in settings()] == sorted(setting.row for setting in settings())


def test_contracts_with_equal_settings_are_equal() -> None:
    assert Contract(page_size=3) == Contract(page_size=3) != DEFAULT_CONTRACT
