"""The OpenAPI document: valid for any contract, complete, and the committed copy changes only on purpose."""

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
COMMITTED = ROOT / "fixtures" / "openapi.json"
FILES = {path.stem: path for path in sorted((ROOT / "fixtures" / "contracts").glob("*.toml"))}

ODD: dict[str, Contract] = {
    "default": DEFAULT_CONTRACT,
    "no bodies": replace(DEFAULT_CONTRACT, created_transaction="empty"),
    "every code a 400": replace(DEFAULT_CONTRACT, statuses=dict.fromkeys(ERRORS, 400)),
    "every code a 599": replace(DEFAULT_CONTRACT, statuses=dict.fromkeys(ERRORS, 599)),
    "no applications": replace(DEFAULT_CONTRACT, applications=()),
    "a list of origins": replace(DEFAULT_CONTRACT, cors_origins=("https://a.example", "null")),
    "no browsers": replace(DEFAULT_CONTRACT, cors_origins=()),
    "problems": replace(DEFAULT_CONTRACT, error_body="problem"),
    "flat": replace(DEFAULT_CONTRACT, error_body="flat"),
    "wrapped": replace(DEFAULT_CONTRACT, created_transaction="wrapped", end_of_list="null", created_at="unix_ms"),
    "debts": replace(DEFAULT_CONTRACT, floor=None, ceiling=None, created_transaction="balance"),
    "a pattern": replace(DEFAULT_CONTRACT, id_pattern=r"[a-z]+(_[0-9]+)?", id_max_length=1),
    "a pattern with a flag": replace(DEFAULT_CONTRACT, id_pattern=r"(?i)[a-z]+"),
    "a named group": replace(DEFAULT_CONTRACT, id_pattern=r"(?P<kind>u|a)_[0-9]+"),
    "one header": replace(DEFAULT_CONTRACT, api_key=CredentialHeader("Authorization", "Bearer")),
    "a scheme of its own": replace(DEFAULT_CONTRACT, api_key=CredentialHeader("Authorization", "ApiKey")),
    "a scheme in another header": replace(DEFAULT_CONTRACT, user_token=CredentialHeader("X-Token", "Bearer")),
    "a token of another scheme": replace(DEFAULT_CONTRACT, user_token=CredentialHeader("Authorization", "Token")),
    "odd names": replace(DEFAULT_CONTRACT, field_names={"delta": "a b/~c%", "users": "ü", "nextCursor": "$ref"}),
    "parameters": replace(DEFAULT_CONTRACT, limit_parameter="page[size]", cursor_parameter="page[after]"),
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
    **{name: load_contract(path) for name, path in FILES.items()},
}


def assert_valid(contract: Contract) -> dict[str, Any]:
    document = json.loads(json.dumps(openapi_document(contract, "1.2.3")))
    validator: Any = OpenAPIV31SpecValidator(document)
    validator.validate()
    return dict(document)


QUICK = ("default", *FILES)


@pytest.mark.parametrize(
    "name", [each if each in QUICK else pytest.param(each, marks=pytest.mark.slow) for each in ODD]
)
def test_the_document_of_any_contract_is_valid(name: str) -> None:
    document = assert_valid(ODD[name])
    described = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert sorted(described) == sorted(operation.value for operation in Operation)


@pytest.mark.slow
@settings(max_examples=15)
@given(contract=contracts())
def test_the_document_of_a_contract_that_chance_made_is_valid(contract: Contract) -> None:
    assert_valid(contract)


def test_the_committed_document_is_the_default_contracts() -> None:
    """A change of it is a change of the default contract: a major release, unless it only says more than before."""
    committed = json.loads(COMMITTED.read_text())
    # The version is that of the package that wrote it, so that a release alone does not change the document.
    assert openapi_document(DEFAULT_CONTRACT, committed["info"]["version"]) == committed, (
        "the OpenAPI document of the default contract has changed; where that is meant, run "
        "`python -m fake_credits openapi > fixtures/openapi.json`, commit it, and say so in CHANGELOG.md"
    )


@pytest.mark.parametrize("name", [None, *FILES])
def test_the_command_line_and_the_server_give_the_same_document(name: str | None) -> None:
    flags = [] if name is None else ["--contract", str(FILES[name])]
    printed = CliRunner().invoke(cli, ["openapi", *flags])
    assert printed.exit_code == 0
    contract = DEFAULT_CONTRACT if name is None else load_contract(FILES[name])
    with FakeCredits(contract=contract) as fake:
        app = SharedResources().app(contract)
        reply = InProcessDriver(app, fake.sandbox).call(Request("GET", b"/_fake/openapi.json", [], b""))
    document = json.loads(printed.output)
    assert (reply.status, json.loads(reply.body)) == (200, document)
    assert document == openapi_document(contract, document["info"]["version"])


@pytest.mark.parametrize("name", ODD)
def test_every_code_stands_at_its_status_in_some_operation(name: str) -> None:
    contract = ODD[name]
    document = openapi_document(contract, "0")
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    for code, error in ERRORS.items():
        status = str(contract.status_of(error))
        described = [each["responses"][status]["description"] for each in operations if status in each["responses"]]
        known = code != "application_not_found" or contract.applications is not None
        assert any(f" {code}" in text for text in described) == known, code


def operation(contract: Contract, which: Operation) -> Any:
    route = contract.routes[which]
    return openapi_document(contract, "0")["paths"][route.path][route.method.lower()]


@pytest.mark.parametrize("which", [Operation.LIST_USERS, Operation.LIST_TRANSACTIONS])
def test_the_parameters_of_a_list_are_the_contracts(which: Operation) -> None:
    contract = replace(DEFAULT_CONTRACT, cursor_parameter="after", limit_parameter="size", page_size=7)
    queries = {
        each["name"]: each["schema"] for each in operation(contract, which)["parameters"] if each["in"] == "query"
    }
    assert queries == {
        "after": {"type": "string"},
        "size": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 7},
    }


def test_an_operation_says_which_credential_opens_it() -> None:
    for which in Operation:
        allowed = [name for each in operation(DEFAULT_CONTRACT, which)["security"] for name in each]
        assert allowed == (["apiKey"] if which.requires_api_key else ["apiKey", "userToken"])


def test_credentials_travel_in_the_document_as_in_the_contract() -> None:
    schemes = openapi_document(ODD["stripe-manner"], "0")["components"]["securitySchemes"]
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
def test_a_code_that_is_moved_takes_its_header_with_it(code: str, status: int, header: str) -> None:
    responses = operation(replace(DEFAULT_CONTRACT, statuses={code: status}), Operation.GET_BALANCE)["responses"]
    assert header in responses[str(status)]["headers"]


def test_a_server_without_retry_after_does_not_describe_it() -> None:
    responses = operation(replace(DEFAULT_CONTRACT, retry_after="absent"), Operation.GET_BALANCE)["responses"]
    assert "Retry-After" not in responses["429"]["headers"]


def test_a_pattern_of_ids_is_described_in_words_where_only_python_knows_it() -> None:
    parameters = operation(replace(DEFAULT_CONTRACT, id_pattern="[a-z]+"), Operation.GET_USER)["parameters"]
    assert {each["schema"]["pattern"] for each in parameters} == {"^(?:[a-z]+)$"}
    [parameter] = operation(replace(DEFAULT_CONTRACT, id_pattern="(?i)[a-z]+"), Operation.LIST_USERS)["parameters"][:1]
    assert "pattern" not in parameter["schema"]
    assert "(?i)[a-z]+" in parameter["schema"]["description"]
