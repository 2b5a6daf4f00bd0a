"""The OpenAPI document: valid for any contract, complete, and identical to the committed copy."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from openapi_spec_validator import OpenAPIV31SpecValidator

from fake_credits.api.openapi import openapi_document
from fake_credits.cli.main import cli
from fake_credits.contract import DEFAULT_CONTRACT, Contract, CredentialHeader, Operation, RouteTemplate
from fake_credits.contract.loading import load_contract
from fake_credits.errors import ERRORS
from fake_credits.fake import FakeCredits
from fake_credits.http_message import Request
from fake_credits.transports.in_process import InProcessDriver
from fake_credits.transports.shared_resources import SharedResources
from tests.contract.strategies import contracts

ROOT = Path(__file__).parents[2]
COMMITTED_DOCUMENT = ROOT / "fixtures" / "openapi.json"
CONTRACT_FILES = {path.stem: path for path in sorted((ROOT / "fixtures" / "contracts").glob("*.toml"))}

UNUSUAL_CONTRACTS: dict[str, Contract] = {
    "default": DEFAULT_CONTRACT,
    "no transaction body": replace(DEFAULT_CONTRACT, created_transaction="empty"),
    "every code a 400": replace(DEFAULT_CONTRACT, statuses=dict.fromkeys(ERRORS, 400)),
    "every code a 599": replace(DEFAULT_CONTRACT, statuses=dict.fromkeys(ERRORS, 599)),
    "no applications": replace(DEFAULT_CONTRACT, applications=()),
    "list of CORS origins": replace(DEFAULT_CONTRACT, cors_origins=("https://a.example", "null")),
    "no CORS origins": replace(DEFAULT_CONTRACT, cors_origins=()),
    "problem errors": replace(DEFAULT_CONTRACT, error_body="problem"),
    "flat errors": replace(DEFAULT_CONTRACT, error_body="flat"),
    "wrapped": replace(DEFAULT_CONTRACT, created_transaction="wrapped", end_of_list="null", created_at="unix_ms"),
    "no floor and ceiling": replace(DEFAULT_CONTRACT, floor=None, ceiling=None, created_transaction="balance"),
    "id pattern": replace(DEFAULT_CONTRACT, id_pattern=r"[a-z]+(_[0-9]+)?", id_max_length=1),
    "id pattern with flag": replace(DEFAULT_CONTRACT, id_pattern=r"(?i)[a-z]+"),
    "id pattern with named group": replace(DEFAULT_CONTRACT, id_pattern=r"(?P<kind>u|a)_[0-9]+"),
    "one header": replace(DEFAULT_CONTRACT, api_key=CredentialHeader("Authorization", "Bearer")),
    "custom scheme": replace(DEFAULT_CONTRACT, api_key=CredentialHeader("Authorization", "ApiKey")),
    "token of another scheme": replace(DEFAULT_CONTRACT, user_token=CredentialHeader("Authorization", "Token")),
    "scheme in custom header": replace(DEFAULT_CONTRACT, user_token=CredentialHeader("X-Token", "Bearer")),
    "unusual field names": replace(
        DEFAULT_CONTRACT, field_names={"delta": "a b/~c%", "users": "ü", "nextCursor": "$ref"}
    ),
    "query parameter names": replace(DEFAULT_CONTRACT, limit_parameter="page[size]", cursor_parameter="page[after]"),
    "one path": replace(
        DEFAULT_CONTRACT,
        routes={
            **DEFAULT_CONTRACT.routes,
            Operation.GET_USER: RouteTemplate("GET", "/{userId}/{applicationId}"),
            Operation.CREATE_TRANSACTION: RouteTemplate("PATCH", "/{userId}/{applicationId}"),
            Operation.CREATE_USER: RouteTemplate("POST", "/{userId}/{applicationId}"),
            Operation.LIST_TRANSACTIONS: RouteTemplate("DELETE", "/{userId}/{applicationId}"),
        },
    ),
    **{name: load_contract(path) for name, path in CONTRACT_FILES.items()},
}


def assert_valid(contract: Contract) -> dict[str, Any]:
    document = json.loads(json.dumps(openapi_document(contract, "1.2.3")))
    validator: Any = OpenAPIV31SpecValidator(document)
    validator.validate()
    return dict(document)


FAST = ("default", "formance-manner")


@pytest.mark.parametrize(
    "name", [item if item in FAST else pytest.param(item, marks=pytest.mark.slow) for item in UNUSUAL_CONTRACTS]
)
def test_document_is_valid_for_unusual_contracts(name: str) -> None:
    document = assert_valid(UNUSUAL_CONTRACTS[name])
    described = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert sorted(described) == sorted(operation.value for operation in Operation)


@pytest.mark.slow
@settings(max_examples=15)
@given(contract=contracts())
def test_document_is_valid_for_random_contracts(contract: Contract) -> None:
    assert_valid(contract)


def test_committed_document_matches_default_contract() -> None:
    """Changing the default contract requires a major release, unless the change only adds to the document."""
    committed = json.loads(COMMITTED_DOCUMENT.read_text())
    # Use the committed version, so that a release alone does not change the document.
    assert openapi_document(DEFAULT_CONTRACT, committed["info"]["version"]) == committed, (
        "the OpenAPI document of the default contract has changed; if this is intended, run "
        "`python -m fake_credits openapi > fixtures/openapi.json`, commit the file, and update CHANGELOG.md"
    )


@pytest.mark.parametrize("name", [None, *CONTRACT_FILES])
def test_command_line_and_server_return_the_same_document(name: str | None) -> None:
    flags = [] if name is None else ["--contract", str(CONTRACT_FILES[name])]
    printed = CliRunner().invoke(cli, ["openapi", *flags])
    assert printed.exit_code == 0
    contract = DEFAULT_CONTRACT if name is None else load_contract(CONTRACT_FILES[name])
    with FakeCredits(contract=contract) as fake:
        app = SharedResources().app(contract)
        reply = InProcessDriver(app, fake.sandbox).call(Request("GET", b"/_fake/openapi.json", [], b""))
    document = json.loads(printed.output)
    assert (reply.status, json.loads(reply.body)) == (200, document)
    assert document == openapi_document(contract, document["info"]["version"])


@pytest.mark.parametrize("name", UNUSUAL_CONTRACTS)
def test_every_error_code_is_described_under_its_status(name: str) -> None:
    contract = UNUSUAL_CONTRACTS[name]
    document = openapi_document(contract, "0")
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    for code, error in ERRORS.items():
        status = str(contract.status_of(error))
        described = [item["responses"][status]["description"] for item in operations if status in item["responses"]]
        is_described = code != "application_not_found" or contract.applications is not None
        assert any(f" {code}" in text for text in described) == is_described, code


def operation_object(contract: Contract, operation: Operation) -> Any:
    route = contract.routes[operation]
    return openapi_document(contract, "0")["paths"][route.path][route.method.lower()]


@pytest.mark.parametrize("operation", [Operation.LIST_USERS, Operation.LIST_TRANSACTIONS])
def test_list_parameters_follow_the_contract(operation: Operation) -> None:
    contract = replace(DEFAULT_CONTRACT, cursor_parameter="after", limit_parameter="size", page_size=7)
    queries = {
        item["name"]: item["schema"]
        for item in operation_object(contract, operation)["parameters"]
        if item["in"] == "query"
    }
    assert queries == {
        "after": {"type": "string", "minLength": 1},
        "size": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 7},
    }


def test_security_lists_accepted_credentials_per_operation() -> None:
    for operation in Operation:
        allowed = [name for item in operation_object(DEFAULT_CONTRACT, operation)["security"] for name in item]
        assert allowed == (["apiKey"] if operation.requires_api_key else ["apiKey", "userToken"])


def test_security_schemes_follow_the_contract() -> None:
    schemes = openapi_document(UNUSUAL_CONTRACTS["stripe-manner"], "0")["components"]["securitySchemes"]
    assert schemes == {
        "apiKey": {"type": "http", "scheme": "bearer"},
        "userToken": {"type": "apiKey", "in": "header", "name": "X-User-Token"},
    }


@pytest.mark.parametrize(
    ("code", "status", "header"),
    [
        ("method_not_allowed", 404, "Allow"),
        ("rate_limited", 503, "Retry-After"),
        ("forbidden", 401, "WWW-Authenticate"),
    ],
)
def test_moved_error_code_keeps_its_header(code: str, status: int, header: str) -> None:
    assert header in error_response(replace(DEFAULT_CONTRACT, statuses={code: status}), status)["headers"]


def test_retry_after_is_not_described_when_absent() -> None:
    assert "Retry-After" not in error_response(replace(DEFAULT_CONTRACT, retry_after="absent"), 429)["headers"]


def error_response(contract: Contract, status: int) -> Any:
    """Return the response component that getBalance references for a status."""
    reference = operation_object(contract, Operation.GET_BALANCE)["responses"][str(status)]["$ref"]
    return openapi_document(contract, "0")["components"]["responses"][reference.removeprefix("#/components/responses/")]


@pytest.mark.parametrize("name", UNUSUAL_CONTRACTS)
def test_every_error_response_has_the_same_plain_schema(name: str) -> None:
    """Generators drop members of error bodies whose schemas use allOf."""
    document = openapi_document(UNUSUAL_CONTRACTS[name], "0")
    schemas = [
        content["schema"]
        for response in document["components"]["responses"].values()
        for content in response["content"].values()
    ]
    assert schemas == [{"$ref": "#/components/schemas/ApiError"}] * len(schemas)
    assert not {"allOf", "oneOf", "anyOf"} & _keys(document)


def _keys(node: Any) -> set[str]:
    if isinstance(node, dict):
        members: dict[str, Any] = node  # pyright: ignore[reportUnknownVariableType]
        return members.keys() | {key for value in members.values() for key in _keys(value)}
    items: list[Any] = node if isinstance(node, list) else []  # pyright: ignore[reportUnknownVariableType]
    return {key for value in items for key in _keys(value)}


def test_error_responses_are_named_after_their_status() -> None:
    document = openapi_document(replace(DEFAULT_CONTRACT, statuses={"invalid_cursor": 599}), "0")
    names = [*document["components"]["responses"]]
    assert names[:4] == ["BadRequest", "Unauthorized", "PaymentRequired", "Forbidden"]
    assert names[-2:] == ["GatewayTimeout", "Status599"]


def test_rules_beyond_schemas_are_described() -> None:
    parameters = operation_object(DEFAULT_CONTRACT, Operation.LIST_TRANSACTIONS)["parameters"]
    described = {item["name"]: f"{item['description']} {item['schema'].get('description', '')}" for item in parameters}
    assert "control characters" in described["applicationId"]
    assert "control characters" in described["userId"]
    assert "an empty cursor is rejected" in described["cursor"]
    schemas = openapi_document(DEFAULT_CONTRACT, "0")["components"]["schemas"]
    delta = schemas["CreateTransactionRequest"]["properties"]["delta"]
    assert "positive for grant and refund, negative for consume" in delta["description"]
    assert "Absent on the last page" in schemas["ListUsersResponse"]["properties"]["nextCursor"]["description"]


def test_sign_is_described_only_if_it_depends_on_the_reason() -> None:
    schemas = openapi_document(replace(DEFAULT_CONTRACT, sign="free"), "0")["components"]["schemas"]
    delta = schemas["CreateTransactionRequest"]["properties"]["delta"]
    assert delta["description"] == "Change in the balance, in credits; not 0."


@pytest.mark.parametrize(
    ("both_credentials", "rule"),
    [("refuse", "a request with both is rejected"), ("key", "the API key is used"), ("token", "the token is used")],
)
def test_choice_of_credentials_is_described(both_credentials: Any, rule: str) -> None:
    contract = replace(DEFAULT_CONTRACT, both_credentials=both_credentials)
    for operation in Operation:
        description = operation_object(contract, operation)["description"]
        assert (rule in description) is not operation.requires_api_key
        assert ("Requires the API key." in description) is operation.requires_api_key


def test_every_operation_has_a_described_tag() -> None:
    tags = [tag["name"] for tag in openapi_document(DEFAULT_CONTRACT, "0")["tags"]]
    assert {tag for operation in Operation for tag in operation_object(DEFAULT_CONTRACT, operation)["tags"]} == set(
        tags
    )


def test_python_only_id_pattern_is_described_in_text() -> None:
    parameters = operation_object(replace(DEFAULT_CONTRACT, id_pattern="[a-z]+"), Operation.GET_USER)["parameters"]
    assert {item["schema"]["pattern"] for item in parameters} == {"^(?:[a-z]+)$"}
    [parameter] = operation_object(replace(DEFAULT_CONTRACT, id_pattern="(?i)[a-z]+"), Operation.LIST_USERS)[
        "parameters"
    ][:1]
    assert "pattern" not in parameter["schema"]
    assert "(?i)[a-z]+" in parameter["schema"]["description"]
