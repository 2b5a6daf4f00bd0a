"""Clients generated from the OpenAPI document, end to end; each test is skipped if its generator is missing."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fake_credits.fake import FakeCredits
from tests.contract.test_openapi import COMMITTED_DOCUMENT

pytestmark = pytest.mark.slow

OPENAPI_PYTHON_CLIENT = """
import json, sys
from generated import AuthenticatedClient
from generated.api.transactions import create_transaction, get_balance, list_transactions
from generated.api.users import create_user
from generated.models import ApiError, CreateTransactionRequest, CreateUserBody, CreditTransactionReason as Reason

base_url, api_key = sys.argv[1:]
client = AuthenticatedClient(base_url=base_url, token=api_key, prefix="", auth_header_name="X-API-Key")

def book(delta, reason, user="ada"):
    body = CreateTransactionRequest(delta=delta, reason=reason)
    return create_transaction.sync("app-id", user, client=client, body=body)

user = create_user.sync("app-id", "ada", client=client, body=CreateUserBody())
book(10, Reason.GRANT)
errors = [book(-50, Reason.CONSUME), book(5, Reason.CONSUME), book(5, Reason.GRANT, "nobody")]
assert all(isinstance(error, ApiError) for error in errors)
print(json.dumps({
    "user": user.user_id,
    "balance": get_balance.sync("app-id", "ada", client=client).balance,
    "deltas": [each.delta for each in list_transactions.sync("app-id", "ada", client=client).transactions],
    "errors": [error.to_dict() for error in errors],
}))
"""

OPENAPI_GENERATOR = """
import json, sys
import openapi_client
from openapi_client import ApiException, CreateTransactionRequest

base_url, api_key = sys.argv[1:]
configuration = openapi_client.Configuration(host=base_url, api_key={"apiKey": api_key})
client = openapi_client.ApiClient(configuration)
users, transactions = openapi_client.UsersApi(client), openapi_client.TransactionsApi(client)

def book(delta, reason, user="ada"):
    body = CreateTransactionRequest(delta=delta, reason=reason)
    try:
        transactions.create_transaction("app-id", user, body)
    except ApiException as error:
        return error.data.to_dict()

user = users.create_user("app-id", "ada")
book(10, "grant")
print(json.dumps({
    "user": user.user_id,
    "errors": [book(-50, "consume"), book(5, "consume"), book(5, "grant", "nobody")],
    "balance": transactions.get_balance("app-id", "ada").balance,
    "deltas": [each.delta for each in transactions.list_transactions("app-id", "ada").transactions],
}))
"""

GENERATORS = {
    "openapi-python-client": (
        ["openapi-python-client", "generate", "--path", "{document}", "--output-path", "generated", "--meta", "none"],
        OPENAPI_PYTHON_CLIENT,
    ),
    "openapi-generator-cli": (
        ["openapi-generator-cli", "generate", "-i", "{document}", "-g", "python", "-o", "."],
        OPENAPI_GENERATOR,
    ),
}


@pytest.mark.parametrize(("command", "script"), GENERATORS.values(), ids=GENERATORS)
def test_generated_client_works_and_keeps_all_error_members(command: list[str], script: str, tmp_path: Path) -> None:
    search_path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    generator = shutil.which(command[0], path=search_path)
    if generator is None:
        pytest.skip(f"{command[0]} is not installed (pip install {command[0]})")
    arguments = [argument.format(document=COMMITTED_DOCUMENT) for argument in command[1:]]
    subprocess.run([generator, *arguments], cwd=tmp_path, check=True, capture_output=True)
    with FakeCredits() as credits:
        result = subprocess.run(
            [sys.executable, "-c", script, credits.base_url, credits.api_key],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert result.returncode == 0, result.stderr
    printed = json.loads(result.stdout)
    assert (printed["user"], printed["balance"], printed["deltas"]) == ("ada", 10, [10])
    insufficient, wrong_sign, unknown_user = [each["error"] for each in printed["errors"]]
    assert insufficient["code"] == "insufficient_credits"
    assert unknown_user["code"] == "user_not_found"
    assert wrong_sign["details"] == [{"field": "delta", "problem": wrong_sign["details"][0]["problem"]}]
    assert all(error["message"] and error["requestId"] for error in (insufficient, wrong_sign, unknown_user))
