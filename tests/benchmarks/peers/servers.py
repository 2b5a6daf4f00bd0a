"""The servers: how each is installed and started, and the two requests that are measured on it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import requests

from fake_credits.api.openapi import openapi_document
from fake_credits.contract import DEFAULT_CONTRACT
from tests.benchmarks.load import free_port, start_server
from tests.benchmarks.plan import ROOT
from tests.benchmarks.raw import USER

KEY = "benchmark-key"
JSON = {"Content-Type": "application/json"}
BALANCE = json.dumps({"balance": 100})
TRANSACTION = json.dumps({"delta": 1, "reason": "grant"})
CREATED = json.dumps({"delta": 1, "reason": "grant", "createdAt": "2026-01-01T00:00:00.000Z"})


class NotInstalledError(Exception):
    """Raised when a peer cannot be installed on this machine."""


@dataclass(frozen=True)
class Call:
    """A request that is measured: its path, headers and, unless it is a GET, its body."""

    path: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: str = ""


GET = Call(USER + "/balance", {"X-API-Key": KEY})
POST = Call(USER + "/transactions", {"X-API-Key": KEY, **JSON}, TRANSACTION)


@dataclass(frozen=True)
class Installation:
    """Where a peer's package was installed: its folder, the command that runs Python there, and a scratch folder."""

    folder: Path
    python: str
    scratch: Path


@dataclass(frozen=True)
class ServerPeer:
    """A server: its package, its command line for a port, and its two calls.

    ``package`` is empty if the server needs no installation. ``calls`` takes the URL of the running server, creates the
    data that the calls need, and returns the GET and the POST.
    """

    name: str
    work: str
    command: Callable[[Installation, int], list[str]]
    manager: str = ""
    package: str = ""
    calls: Callable[[str, Installation], tuple[Call, Call]] = lambda _url, _installation: (GET, POST)


@contextmanager
def run_peer(peer: ServerPeer, installation: Installation) -> "Generator[tuple[subprocess.Popen[str], str, float]]":
    """Start a server, and stop it on exit; yield its process, its URL and the milliseconds until its first response."""
    port = free_port()
    command = peer.command(installation, port)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with start_server(command, port, installation.scratch, environment) as (process, start_ms):
        yield process, f"http://127.0.0.1:{port}", start_ms


# ---- Python


def _serve_command(installation: Installation, port: int) -> list[str]:
    flags = ["--api-key", KEY, "--balance", "1000000", "--auth-provider", "auth0", "--log", "off"]
    ready_file = str(installation.scratch / "ready")
    return [sys.executable, "-m", "fake_credits", "serve", "--port", str(port), *flags, "--ready-file", ready_file]


def _stub_command(name: str) -> Callable[[Installation, int], list[str]]:
    return lambda installation, port: [
        *(sys.executable, "-m", "tests.benchmarks.peers.stubs", name, str(port)),
        str(installation.scratch / "ready"),
    ]


def _calls_with_token(_url: str, installation: Installation) -> tuple[Call, Call]:
    """Return a GET with a user's RS256 token, read from the file that the server wrote, and the POST."""
    ready_file = installation.scratch / "ready"
    while not ready_file.exists():  # it may be written after the first response
        time.sleep(0.002)
    lines = ready_file.read_text().splitlines()
    token = next(line.partition("=")[2].strip("'\"") for line in lines if line.startswith("CREDITS_USER_TOKEN="))
    return Call(GET.path, {"Authorization": f"Bearer {token}"}), POST


def _localstripe_calls(url: str, _installation: Installation) -> tuple[Call, Call]:
    headers = {"Authorization": "Bearer sk_test_benchmark"}
    customer = requests.post(url + "/v1/customers", data={"balance": 100}, headers=headers, timeout=5).json()
    path = f"/v1/customers/{customer['id']}"
    form = {**headers, "Content-Type": "application/x-www-form-urlencoded"}
    return Call(path, headers), Call(path, form, "description=ada")


def _moto_calls(url: str, _installation: Installation) -> tuple[Call, Call]:
    credential = (
        "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/dynamodb/aws4_request, SignedHeaders=, Signature=0"
    )
    base = {"Authorization": credential, "Content-Type": "application/x-amz-json-1.0"}

    def call(operation: str, body: object) -> Call:
        return Call("/", {**base, "X-Amz-Target": f"DynamoDB_20120810.{operation}"}, json.dumps(body))

    key = {"user": {"S": "user-id"}}
    table = call(
        "CreateTable",
        {
            "TableName": "balances",
            "KeySchema": [{"AttributeName": "user", "KeyType": "HASH"}],
            "AttributeDefinitions": [{"AttributeName": "user", "AttributeType": "S"}],
            "BillingMode": "PAY_PER_REQUEST",
        },
    )
    add = call(
        "UpdateItem",
        {
            "TableName": "balances",
            "Key": key,
            "UpdateExpression": "ADD balance :delta",
            "ExpressionAttributeValues": {":delta": {"N": "1"}},
        },
    )
    for each in (table, add):
        requests.post(url + each.path, data=each.body, headers=dict(each.headers), timeout=30).raise_for_status()
    return call("GetItem", {"TableName": "balances", "Key": key}), add


# ---- Node and Java


def _script(installation: Installation, *parts: str) -> str:
    return str(installation.folder.joinpath("node_modules", *parts))


def _write(installation: Installation, name: str, content: object) -> str:
    path = installation.scratch / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return str(path)


def _mountebank_command(installation: Installation, port: int) -> list[str]:
    def stub(call: Call, status: int, body: str) -> object:
        predicate = {"equals": {"method": "POST" if call.body else "GET", "path": call.path}}
        response = {"statusCode": status, "headers": JSON, "body": body}
        return {"predicates": [predicate], "responses": [{"is": response}]}

    stubs = [stub(GET, 200, BALANCE), stub(POST, 201, CREATED)]
    imposters = {"imposters": [{"port": port, "protocol": "http", "stubs": stubs}]}
    file = _write(installation, "imposters.json", imposters)
    flags = ["--port", str(free_port()), "--host", "127.0.0.1", "--nologfile", "--configfile", file]
    return ["node", _script(installation, "mountebank", "bin", "mb"), "start", *flags]


def _wiremock_command(installation: Installation, port: int) -> list[str]:
    for name, call, status, body in (("get", GET, 200, BALANCE), ("post", POST, 201, CREATED)):
        mapping = {
            "request": {"method": "POST" if call.body else "GET", "urlPath": call.path},
            "response": {"status": status, "headers": JSON, "body": body},
        }
        _write(installation, f"mappings/{name}.json", mapping)
    jar = next((installation.folder / "node_modules" / "wiremock" / "build").glob("*.jar"))
    return ["java", "-jar", str(jar), "--port", str(port), "--root-dir", str(installation.scratch)]


def _prism_command(installation: Installation, port: int) -> list[str]:
    document = _write(installation, "openapi.json", openapi_document(DEFAULT_CONTRACT, "1"))
    script = _script(installation, "@stoplight", "prism-cli", "dist", "index.js")
    return ["node", script, "mock", document, "--port", str(port), "--verboseLevel", "silent"]


def _json_server_command(installation: Installation, port: int) -> list[str]:
    data = _write(installation, "db.json", {"balances": [{"id": "user-id", "balance": 100}], "transactions": []})
    script = _script(installation, "json-server", "lib", "cli", "bin.js")
    return ["node", script, "--quiet", "--host", "127.0.0.1", "--port", str(port), data]


_STUBBED = "the same paths, fixed answers"

SERVER_PEERS = (
    ServerPeer("fake-credits", "credentials, ledger, journal", _serve_command, calls=_calls_with_token),
    ServerPeer(
        "a fake written in an hour",
        "Starlette and PyJWT: a token, a dict of balances",
        _stub_command("naive"),
        calls=_calls_with_token,
    ),
    ServerPeer("the same with a token cache", "the same", _stub_command("naive-cached"), calls=_calls_with_token),
    ServerPeer("pytest-httpserver", _STUBBED, _stub_command("pytest-httpserver")),
    ServerPeer(
        "moto's server",
        "a DynamoDB item: GetItem, UpdateItem",
        lambda installation, port: [installation.python, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        "pip",
        "moto[server]",
        _moto_calls,
    ),
    ServerPeer(
        "localstripe",
        "a Stripe customer: retrieve, update",
        lambda installation, port: [installation.python, "-m", "localstripe", "--port", str(port), "--from-scratch"],
        "pip",
        "localstripe",
        _localstripe_calls,
    ),
    ServerPeer("mountebank", _STUBBED, _mountebank_command, "npm", "mountebank"),
    ServerPeer("WireMock", _STUBBED, _wiremock_command, "npm", "wiremock"),
    ServerPeer("Prism", "examples of an OpenAPI document", _prism_command, "npm", "@stoplight/prism-cli"),
    ServerPeer(
        "json-server",
        "resources in a JSON file",
        _json_server_command,
        "npm",
        "json-server@0.17",
        lambda _url, _installation: (Call("/balances/user-id"), Call("/transactions", JSON, TRANSACTION)),
    ),
)
