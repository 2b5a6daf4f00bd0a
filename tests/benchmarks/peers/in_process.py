"""Calls inside the test's own process, and the time that one call adds to a test."""

import logging
import tempfile
import textwrap
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import boto3  # type: ignore[import-untyped]
import httpx
import moto
import requests
import responses
import respx
from pytest_httpserver import HTTPServer
from starlette.testclient import TestClient

from fake_credits.fake import FakeCredits
from tests.benchmarks.peers.servers import GET
from tests.benchmarks.plan import ROOT, Plan, best_us, bytecode_cache
from tests.benchmarks.servers import NaiveFake
from tests.benchmarks.suites import pytest_ms, write_suite

_BASE = "https://credits.internal"
_BODY = {"balance": 100}
_AWS = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}

Call = Callable[[], object]


@contextmanager
def _server_client() -> Generator[Call]:
    with FakeCredits(balance=100) as fake:
        yield lambda: fake.server_client.get_balance("app-id", "user-id")


@contextmanager
def _intercepted_requests() -> Generator[Call]:
    with FakeCredits(balance=100) as fake, fake.intercept(_BASE), requests.Session() as session:
        yield partial(_get, session, _BASE, {"X-API-Key": fake.api_key})


@contextmanager
def _httpx_transport() -> Generator[Call]:
    with FakeCredits(balance=100) as fake, httpx.Client(transport=fake.transport("httpx")) as client:
        yield partial(_get, client, _BASE, {"X-API-Key": fake.api_key})


@contextmanager
def _test_client() -> Generator[Call]:
    fake = NaiveFake(cached=True)
    with TestClient(fake.app) as client:
        yield partial(_get, client, "", {"Authorization": f"Bearer {fake.token}"})


@contextmanager
def _pytest_httpserver() -> Generator[Call]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it logs a line for each request
    with HTTPServer() as server, requests.Session() as session:
        server.expect_request(GET.path).respond_with_json(_BODY)
        yield partial(_get, session, server.url_for(""), {})


@contextmanager
def _responses() -> Generator[Call]:
    with responses.RequestsMock() as mock, requests.Session() as session:
        mock.get(_BASE + GET.path, json=_BODY)
        yield partial(_get, session, _BASE, {})


@contextmanager
def _respx() -> Generator[Call]:
    router = respx.Router()
    router.get(_BASE + GET.path).respond(json=_BODY)
    with httpx.Client(transport=httpx.MockTransport(router.handler)) as client:
        yield partial(_get, client, _BASE, {})


@contextmanager
def _moto() -> Generator[Call]:
    with moto.mock_aws():
        bucket = cast("Any", boto3.client("s3", **_AWS))  # pyright: ignore[reportUnknownMemberType]
        bucket.create_bucket(Bucket="balances")
        bucket.put_object(Bucket="balances", Key="user-id", Body=b"100")
        yield lambda: bucket.get_object(Bucket="balances", Key="user-id")["Body"].read()


def _get(client: Any, base: str, headers: Mapping[str, str]) -> int:
    balance: int = client.get(base + GET.path, headers=dict(headers)).json()["balance"]
    return balance


@dataclass(frozen=True)
class InProcessPeer:
    """A way to answer calls in process, with a test that makes one such call and the plugins that the test needs."""

    name: str
    client: str
    open_call: Callable[[], AbstractContextManager[Call]]
    test: str = ""
    plugins: tuple[str, ...] = ()


IN_PROCESS_PEERS = (
    InProcessPeer(
        "fake-credits",
        "`ServerClient`",
        _server_client,
        """
        def test_one(fake_credits, number):
            assert fake_credits.server_client.create_user("app-id", "ada").user_id == "ada"
        """,
        ("pytest_fake_credits",),
    ),
    InProcessPeer("fake-credits", "requests", _intercepted_requests),
    InProcessPeer("fake-credits", "httpx", _httpx_transport),
    InProcessPeer(
        "the same with a token cache",
        "`TestClient`",
        _test_client,
        """
        from starlette.testclient import TestClient
        from tests.benchmarks.peers.servers import GET
        from tests.benchmarks.servers import NaiveFake

        TOKENS = NaiveFake(cached=True)  # a key for each test would take most of its time

        def test_one(number):
            TOKENS._balances = {"user-id": 100}
            client = TestClient(TOKENS.app)
            headers = {"Authorization": f"Bearer {TOKENS.token}"}
            assert client.get(GET.path, headers=headers).json() == {"balance": 100}
        """,
    ),
    InProcessPeer(
        "pytest-httpserver",
        "requests",
        _pytest_httpserver,
        """
        import requests

        def test_one(httpserver, number):
            httpserver.expect_request("/balance").respond_with_json({"balance": 100})
            assert requests.get(httpserver.url_for("/balance")).json() == {"balance": 100}
        """,
        ("pytest_httpserver.pytest_plugin",),
    ),
    InProcessPeer(
        "responses",
        "requests",
        _responses,
        """
        import requests
        import responses

        @responses.activate
        def test_one(number):
            responses.get("https://credits.internal/balance", json={"balance": 100})
            assert requests.get("https://credits.internal/balance").json() == {"balance": 100}
        """,
    ),
    InProcessPeer(
        "respx",
        "httpx",
        _respx,
        """
        import httpx
        import respx

        CLIENT = httpx.Client()  # loading certificates would take most of the test's time

        @respx.mock
        def test_one(number):
            respx.get("https://credits.internal/balance").respond(json={"balance": 100})
            assert CLIENT.get("https://credits.internal/balance").json() == {"balance": 100}
        """,
    ),
    InProcessPeer(
        "moto",
        "boto3",
        _moto,
        """
        import boto3
        import moto

        CLIENT = boto3.client("s3", aws_access_key_id="t", aws_secret_access_key="t", region_name="us-east-1")

        @moto.mock_aws
        def test_one(number):
            CLIENT.create_bucket(Bucket="balances")
        """,
    ),
)


_SUITE = """\
import pytest

pytestmark = pytest.mark.parametrize("number", range({tests}))
{test}

def test_empty(number):
    pass
"""


def call_us(peer: InProcessPeer, plan: Plan) -> float:
    """Return the duration of a call in microseconds, the best of several rounds."""
    with peer.open_call() as call:
        # fewer calls per round, because some mocks record every call
        return best_us([call], replace(plan, calls=max(plan.calls // 10, 20)))[0]


def added_test_ms(peer: InProcessPeer, plan: Plan) -> float:
    """Return how many milliseconds longer a test with one call takes than an empty test in the same module."""
    plugins = [argument for plugin in peer.plugins for argument in ("-p", plugin)]
    with tempfile.TemporaryDirectory() as name, bytecode_cache() as environment:
        folder = Path(name) / "suite"
        write_suite(folder, _SUITE.format(tests=plan.tests, test=textwrap.dedent(peer.test)))
        with_root = {**environment, "PYTHONPATH": str(ROOT)}
        one_ms = empty_ms = float("inf")
        for _ in range(1 + plan.test_rounds):
            one_ms = min(one_ms, pytest_ms(with_root, folder, *plugins, "-k", "test_one"))
            empty_ms = min(empty_ms, pytest_ms(with_root, folder, *plugins, "-k", "test_empty"))
    return (one_ms - empty_ms) / plan.tests
