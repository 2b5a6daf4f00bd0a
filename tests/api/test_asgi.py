"""The ASGI application under Starlette's test client and plain uvicorn, mounted, and with hand-written scopes."""

import asyncio
import json
import runpy
import threading
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient
from starlette.types import ASGIApp
from starlette.websockets import WebSocketDisconnect

from fake_credits import FakeCredits
from fake_credits.api.app import create_app
from fake_credits.faults import (
    EFFECTS,
    Close,
    Drip,
    DuplicateWrite,
    Effect,
    Garbage,
    Hang,
    HoldAtGate,
    Latency,
    LateWrite,
    NotJson,
    Reset,
    Rule,
    Status,
    Truncate,
)
from fake_credits.faults.effects.base import FaultError
from fake_credits.sandboxes import SandboxRegistry
from fake_credits.transports.live import BindOptions, bind
from fake_credits.transports.shared_resources import SharedResources
from tests.api.conftest import assert_no_problem_but_unrouted

USER = "/v1/applications/app-id/users/user-id"
BALANCE = USER + "/balance"
TRANSACTIONS = USER + "/transactions"
SPEND = b'{"delta":-1,"reason":"consume"}'
APPS = sorted((Path(__file__).parents[1] / "examples" / "apps").glob("*.py"))
LIMIT_S = 10.0
NEEDS_CONNECTION = [Reset(), Close(), Hang(), Truncate(), Garbage(), HoldAtGate(), LateWrite(after_ms=5)]


@pytest.fixture
def credits() -> Iterator[FakeCredits]:
    with FakeCredits(balance=100) as credits:
        yield credits
        assert_no_problem_but_unrouted(credits)


@pytest.fixture
def app(credits: FakeCredits) -> ASGIApp:
    return credits.asgi_app()


class UvicornServer:
    """A plain uvicorn server for an application that the test sets."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.app: ASGIApp | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert self.app is not None
        await self.app(scope, receive, send)


@pytest.fixture(scope="module")
def uvicorn_server() -> Iterator[UvicornServer]:
    listener = bind(BindOptions())
    app = UvicornServer(f"http://127.0.0.1:{listener.getsockname()[1]}")
    config = uvicorn.Config(app, http="h11", loop="asyncio", log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield app
    finally:
        server.should_exit = True
        thread.join(LIMIT_S)
        listener.close()


@pytest.fixture(params=["test-client", "uvicorn"])
def client(request: pytest.FixtureRequest, credits: FakeCredits, app: ASGIApp) -> Iterator[httpx2.Client]:
    """Yield Starlette's test client for the application, or a client that reaches it through plain uvicorn."""
    headers = {"X-API-Key": credits.api_key}
    if request.param == "test-client":
        with TestClient(app, headers=headers) as client:  # the `with` block runs the lifespan
            yield client
        return
    server: UvicornServer = request.getfixturevalue("uvicorn_server")
    server.app = app
    with client_of(server.base_url, headers) as client:
        yield client


def client_of(base_url: str, headers: dict[str, str]) -> httpx2.Client:
    """Return a client that retries connecting while the server starts."""
    transport = httpx2.HTTPTransport(retries=3, verify=False)
    return httpx2.Client(base_url=base_url, headers=headers, timeout=LIMIT_S, transport=transport)


def call(app: ASGIApp, incoming: Iterable[dict[str, Any]] = (), **scope: Any) -> list[dict[str, Any]]:
    """Return the application's response messages for a hand-written scope."""
    messages = iter([*incoming, {"type": "http.request"}])
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    async def main() -> None:
        await app({"type": "http", "method": "GET", "path": BALANCE, "headers": [], **scope}, receive, send)

    asyncio.run(main())
    return sent


def key_of(credits: FakeCredits) -> list[tuple[bytes, bytes]]:
    return [(b"x-api-key", credits.api_key.encode())]


# ------------------------------------------------------------ requests


@pytest.mark.parametrize("path", APPS, ids=lambda path: path.name)
def test_an_application_from_the_docs_can_be_served(uvicorn_server: UvicornServer, path: Path) -> None:
    module = runpy.run_path(str(path))
    uvicorn_server.app = module["app"]
    headers = {"X-API-Key": "test-key"}
    with module["credits"], client_of(uvicorn_server.base_url, headers) as client:
        assert client.get("/v1/applications/app-id/users/ada/balance").json() == {"balance": 100}


def test_the_operations_work(client: httpx2.Client, credits: FakeCredits) -> None:
    headers = {"Content-Type": "application/json"}
    assert client.post(TRANSACTIONS, content=SPEND, headers=headers).status_code == HTTPStatus.CREATED
    assert client.get(BALANCE).json() == {"balance": 99}
    assert [(entry.status, entry.delivered) for entry in credits.journal.entries()] == [(201, True), (200, True)]


def test_a_users_token_is_checked(client: httpx2.Client, credits: FakeCredits) -> None:
    del client.headers["X-API-Key"]
    assert client.get(BALANCE).status_code == HTTPStatus.UNAUTHORIZED
    headers = {"Authorization": f"Bearer {credits.token()}"}
    assert client.get(BALANCE, headers=headers).json() == {"balance": 100}


def test_a_chunked_body_is_read_to_its_end(client: httpx2.Client) -> None:
    headers = {"Content-Type": "application/json"}
    response = client.post(TRANSACTIONS, content=iter([SPEND[:7], SPEND[7:]]), headers=headers)
    assert (response.status_code, response.json()["delta"]) == (HTTPStatus.CREATED, -1)


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_over_the_limit_is_refused(client: httpx2.Client, credits: FakeCredits, *, is_chunked: bool) -> None:
    chunk = b" " * 40_000
    content = iter([chunk, chunk]) if is_chunked else chunk * 2
    response = client.post(TRANSACTIONS, content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 413
    assert credits.balance() == 100


def test_head_has_the_headers_of_get_and_no_body(client: httpx2.Client) -> None:
    response = client.head(BALANCE)
    assert (response.status_code, response.headers["content-length"], response.content) == (200, "15", b"")


def test_a_response_has_at_most_one_date(client: httpx2.Client) -> None:
    """ASGI servers add a Date header themselves."""
    assert len(client.get(BALANCE).headers.get_list("date")) <= 1


@pytest.mark.parametrize("user_id", ["a/b", "Jürgen", "100%", "a b", "a?b"])
def test_a_percent_encoded_id_is_decoded(client: httpx2.Client, credits: FakeCredits, user_id: str) -> None:
    credits.user(user_id, balance=7)
    assert client.get(f"/v1/applications/app-id/users/{quote(user_id, safe='')}/balance").json() == {"balance": 7}


def test_a_preflight_is_answered_and_not_journaled(client: httpx2.Client, credits: FakeCredits) -> None:
    headers = {"Origin": "https://shop.test", "Access-Control-Request-Method": "GET"}
    response = client.options(BALANCE, headers=headers)
    assert (response.status_code, response.headers["access-control-allow-methods"] != "") == (204, True)
    assert len(credits.journal) == 0


def test_the_fakes_own_paths_work(client: httpx2.Client, credits: FakeCredits) -> None:
    assert client.get("/_fake/livez").json() == {"status": "ok"}
    assert client.get("/.well-known/jwks.json").json() == credits.sandbox.jwks()
    discovery = client.get("/.well-known/openid-configuration").json()
    assert client.get(discovery["jwks_uri"]).json() == credits.sandbox.jwks()
    assert client.get("/_fake/nothing").status_code == HTTPStatus.NOT_FOUND


# ------------------------------------------------------------ faults


def test_a_latency_fault_delays_the_response(client: httpx2.Client, credits: FakeCredits) -> None:
    credits.faults.add(Latency(5))
    assert client.get(BALANCE).json() == {"balance": 100}
    assert credits.journal.entries()[0].duration_us >= 5000


def test_a_dripped_body_arrives_complete(client: httpx2.Client, credits: FakeCredits) -> None:
    credits.faults.add(Drip(chunks=3, over_ms=3))
    with client.stream("GET", BALANCE) as response:
        chunks = list(response.iter_raw())
    assert b"".join(chunks) == b'{"balance":100}'


@pytest.mark.parametrize("effect", [Status(503), NotJson(), DuplicateWrite()], ids=lambda effect: effect.effect_name)
def test_an_effect_that_needs_no_connection_works(client: httpx2.Client, credits: FakeCredits, effect: Effect) -> None:
    active = credits.faults.add(effect)
    client.post(TRANSACTIONS, content=SPEND, headers={"Content-Type": "application/json"})
    assert active.fired == 1


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize("effect", NEEDS_CONNECTION, ids=lambda effect: effect.effect_name)
def test_an_effect_that_asgi_cant_produce_is_refused(credits: FakeCredits, effect: Effect) -> None:
    with pytest.raises(FaultError, match=f"{effect.effect_name}.*ASGI.*the live server"):
        credits.faults.add(effect)
    assert list(credits.faults) == []
    assert credits.sandbox.gates == {}


@pytest.mark.usefixtures("app")
def test_a_script_preset_or_scenario_with_such_an_effect_is_refused(credits: FakeCredits) -> None:
    with pytest.raises(FaultError, match="script has 'hang', which ASGI can't produce"):
        credits.faults.add(script=[503, "ok", "hang"])
    for rules in (
        "flaky",
        {"rules": [{"effect": "status", "status": 503}, {"effect": "reset"}]},
        [Rule(effect=Close())],
    ):
        with pytest.raises(FaultError, match="which ASGI can't produce"):
            credits.faults.load(rules)
    assert list(credits.faults) == []
    credits.faults.load("outage")


def test_every_effect_that_needs_the_connection_is_tested() -> None:
    tested = {effect.effect_name for effect in NEEDS_CONNECTION}
    assert {name for name, effect in EFFECTS.items() if effect.needs_connection} == tested


def test_asgi_app_fails_if_an_existing_rule_needs_the_connection() -> None:
    with FakeCredits(faults=Reset()) as credits, pytest.raises(FaultError, match="'reset', which ASGI can't produce"):
        credits.asgi_app()


def test_a_sandbox_whose_rule_needs_the_connection_cannot_be_attached(shared: SharedResources) -> None:
    with FakeCredits(shared=shared) as credits, FakeCredits(shared=shared, faults=Hang()) as other:
        registry = SandboxRegistry(credits.sandbox)
        create_app(credits.sandbox.contract, registry)
        with pytest.raises(FaultError, match="'hang'"):
            registry.attach(other.sandbox)
        assert list(registry) == [credits.sandbox]


def test_a_disconnect_during_a_delay_is_journaled(credits: FakeCredits, app: ASGIApp) -> None:
    credits.faults.add(Latency(1))
    call(app, [{"type": "http.request"}, {"type": "http.disconnect"}], headers=key_of(credits))
    assert [(entry.status, entry.delivered) for entry in credits.journal.entries()] == [(200, False)]


def test_a_client_that_disconnects_mid_body_changes_nothing(credits: FakeCredits, app: ASGIApp) -> None:
    headers = [*key_of(credits), (b"content-type", b"application/json"), (b"content-length", b"31")]
    incoming: list[dict[str, Any]] = [
        {"type": "http.request", "body": SPEND, "more_body": True},
        {"type": "http.disconnect"},
    ]
    call(app, incoming, method="POST", path=TRANSACTIONS, headers=headers)
    assert [(entry.committed, entry.delivered) for entry in credits.journal.entries()] == [(False, False)]


# ------------------------------------------------------------ scopes


@pytest.mark.parametrize("prefix", ["/credits", "/cr%C3%A9dits"])
def test_the_mount_path_is_stripped(credits: FakeCredits, app: ASGIApp, prefix: str) -> None:
    path = prefix.replace("%C3%A9", "é")
    with TestClient(Starlette(routes=[Mount(path, app)])) as client:
        client.headers["X-API-Key"] = credits.api_key
        assert client.get(prefix + BALANCE).json() == {"balance": 100}
        assert credits.journal.entries()[0].target == BALANCE
        assert client.get(f"{prefix}/_fake/livez").json() == {"status": "ok"}
        discovery = client.get(f"{prefix}/.well-known/openid-configuration").json()
        assert discovery["jwks_uri"] == f"http://testserver{prefix}/.well-known/jwks.json"
        assert client.get(discovery["jwks_uri"]).json() == credits.sandbox.jwks()


@pytest.mark.parametrize("root_path", ["/credits", "/credits/", "/cr", ""])
def test_a_root_path_is_stripped_only_at_a_segment_boundary(credits: FakeCredits, app: ASGIApp, root_path: str) -> None:
    status = call(app, path="/credits" + BALANCE, root_path=root_path, headers=key_of(credits))[0]["status"]
    assert status == (200 if root_path.startswith("/credits") else 404)


def test_the_decoded_path_is_used_if_raw_path_is_missing(credits: FakeCredits, app: ASGIApp) -> None:
    """All ids work except those with a slash, because a decoded %2F is indistinguishable from a separator."""
    for user_id, status in (("Jürgen", 200), ("100%", 200), ("a b", 200), ("a?b", 200), ("a/b", 404)):
        credits.user(user_id, balance=7)
        path = f"/v1/applications/app-id/users/{user_id}/balance"
        assert call(app, path=path, headers=key_of(credits))[0]["status"] == status
        assert call(app, path=path, headers=key_of(credits), raw_path=None)[0]["status"] == status


def test_a_path_that_is_not_utf_8_is_malformed(credits: FakeCredits, app: ASGIApp) -> None:
    path = "/v1/applications/app-id/users/\udcff/balance"
    assert call(app, path=path, headers=key_of(credits))[0]["status"] == 400


def test_header_names_are_case_insensitive(credits: FakeCredits, app: ASGIApp) -> None:
    headers = [(b"X-Api-Key", credits.api_key.encode() + b" ")]
    assert call(app, headers=headers)[0]["status"] == 200


def test_an_http_2_body_needs_no_content_length(credits: FakeCredits, app: ASGIApp) -> None:
    headers = [*key_of(credits), (b"content-type", b"application/json")]
    incoming = [{"type": "http.request", "body": SPEND}]
    sent = call(app, incoming, http_version="2", method="POST", path=TRANSACTIONS, headers=headers)
    assert (sent[0]["status"], json.loads(sent[1]["body"])["delta"]) == (201, -1)


def test_lifespan_events_are_acknowledged(app: ASGIApp) -> None:
    sent = call(app, [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}], type="lifespan")
    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_a_websocket_is_refused(app: ASGIApp) -> None:
    with pytest.raises(WebSocketDisconnect), TestClient(app).websocket_connect(BALANCE):
        pass


def test_an_unknown_scope_type_is_an_error(app: ASGIApp) -> None:
    with pytest.raises(NotImplementedError, match="'smtp'"):
        call(app, type="smtp")
