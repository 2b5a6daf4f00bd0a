"""Test `FakeCredits`: options, both modes, clients, clock, reset and close."""

import asyncio
import re
import threading
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx
import httpx2
import jwt
import pytest
import requests
import trio

from fake_credits.client.server import ServerClient
from fake_credits.client.user import UserClient
from fake_credits.contract.loading import load_contract
from fake_credits.errors import (
    ConnectionLost,
    InsufficientCredits,
    InvalidApiKey,
    InvalidCursor,
    InvalidToken,
    TokenExpired,
    UserNotFound,
)
from fake_credits.fake import ClientMode, FakeCredits
from fake_credits.faults import Reset
from fake_credits.journal import JournalEntry
from fake_credits.models import Balance, Reason, User
from fake_credits.sandbox_options import AuthProviderName
from fake_credits.transports.shared_resources import SharedResources

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
BALANCE = "/v1/applications/app-id/users/user-id/balance"

RunMain = Callable[[Callable[[], Awaitable[None]]], None]
LOOPS: dict[str, RunMain] = {"asyncio": lambda main: asyncio.run(_coroutine(main)), "trio": lambda main: trio.run(main)}
on_every_loop = pytest.mark.parametrize("run", LOOPS.values(), ids=LOOPS.keys())


async def _coroutine(main: Callable[[], Awaitable[None]]) -> None:
    await main()


@pytest.fixture(params=["in-process", "live"])
def mode(request: pytest.FixtureRequest) -> ClientMode:
    client_mode: ClientMode = request.param
    return client_mode


@pytest.fixture(scope="module")
def shared() -> Iterator[SharedResources]:
    """Yield keys and a live server that the tests in this module share."""
    resources = SharedResources()
    yield resources
    resources.close()


def test_server_and_user_clients_share_a_balance() -> None:
    with FakeCredits() as credits:
        credits.user("ada", balance=100)
        credits.server_client.create_transaction("app-id", "ada", delta=-10, reason="consume")
        assert credits.user_client("ada").get_balance("ada").balance == 90


def test_both_modes_return_same_statuses_and_journal(mode: ClientMode, shared: SharedResources) -> None:
    with FakeCredits(mode=mode, shared=shared, balance=10) as fake:
        with pytest.raises(InsufficientCredits):
            fake.server_client.create_transaction("app-id", "user-id", delta=-11, reason="consume")
        fake.server_client.create_transaction("app-id", "user-id", delta=-4, reason=Reason.CONSUME)
        page = fake.user_client().list_transactions("user-id")
        assert [transaction.delta for transaction in page.transactions] == [-4, 10]
        assert [(entry.status, entry.committed) for entry in fake.journal] == [
            (402, False),
            (201, True),
            (200, False),
        ]


@on_every_loop
def test_async_clients_work_in_both_modes_on_every_event_loop(
    mode: ClientMode, shared: SharedResources, run: RunMain
) -> None:
    with FakeCredits(mode=mode, shared=shared, balance=10) as fake:

        async def main() -> None:
            async with fake.async_server_client as server, fake.async_user_client() as user:
                await server.create_transaction("app-id", "user-id", delta=-4, reason="consume")
                assert await user.get_balance("user-id") == Balance(6)

        run(main)


def test_python_api_and_http_api_share_state(mode: ClientMode, shared: SharedResources) -> None:
    with FakeCredits(mode=mode, shared=shared) as fake:
        fake.server_client.create_user("app-id", "ada")
        assert fake.balance("ada") == 0
        fake.user("ada", balance=3)
        assert fake.server_client.get_balance("app-id", "ada") == Balance(3)


def test_user_creates_user_without_journal_entry() -> None:
    with FakeCredits(clock=NOON) as fake:
        assert fake.user("ada", balance=5, application_id="other") == User("other", "ada", NOON)
        assert fake.balance("ada", application_id="other") == 5
        assert len(fake.journal) == 0


def test_user_called_without_balance_keeps_existing_balance() -> None:
    with FakeCredits(users={"ada": 5}) as fake:
        fake.user("ada")
        assert fake.balance("ada") == 5


def test_world_transactions_fall_in_year_before_sandbox_time(mode: ClientMode, shared: SharedResources) -> None:
    with FakeCredits(world="tiny", clock=NOON, mode=mode, shared=shared) as fake:
        users = list(fake.server_client.iter_users("app-id"))
        moments = [
            each.created_at for user in users for each in fake.server_client.iter_transactions("app-id", user.user_id)
        ]
        assert (len(users), len(moments)) == (5, 60)
        assert NOON - timedelta(days=365) <= min(moments) < max(moments) <= NOON


def test_reset_restores_initial_world(shared: SharedResources) -> None:
    with FakeCredits(world="tiny", users={"ada": 5}, shared=shared) as fake:
        user_id = next(fake.server_client.iter_users("app-id")).user_id
        balance = fake.balance(user_id)
        fake.server_client.create_transaction("app-id", user_id, delta=1, reason="grant")
        fake.reset()
        assert (fake.balance(user_id), fake.balance("ada")) == (balance, 5)


def test_users_option_overrides_balance_of_world_user(shared: SharedResources) -> None:
    with FakeCredits(world="edge", users={"one-credit": 7}, shared=shared) as fake:
        assert fake.balance("one-credit") == 7


def test_load_world_adds_users_until_reset(shared: SharedResources) -> None:
    with FakeCredits(balance=3, application_id="shop", seed=4, shared=shared) as fake:
        ids = fake.load_world("tiny")
        assert [user.user_id for user in fake.server_client.iter_users("shop")] == ["user-id", *ids]
        assert ids != FakeCredits(shared=shared).load_world("tiny"), "the sandbox's seed is the world's"
        with pytest.raises(ValueError, match="a user with this id already exists"):
            fake.load_world("tiny")
        fake.reset()
        assert [user.user_id for user in fake.server_client.iter_users("shop")] == ["user-id"]


def test_world_file_is_accepted_as_path_and_as_string(shared: SharedResources) -> None:
    file = Path(__file__).resolve().parents[1] / "fixtures" / "worlds" / "tiny.json"
    with FakeCredits(world=file, shared=shared) as by_path, FakeCredits(shared=shared) as by_text:
        ids = by_text.load_world(str(file))
        assert len(ids) == 5
        assert [by_path.balance(user_id) for user_id in ids] == [by_text.balance(user_id) for user_id in ids]


def test_unknown_world_is_rejected(shared: SharedResources) -> None:
    with pytest.raises(ValueError, match="unknown world 'dmo', which is neither a profile nor a file"):
        FakeCredits(world="dmo", shared=shared)
    with FakeCredits(shared=shared) as fake, pytest.raises(TypeError, match="a name, a file or a World, not int"):
        fake.load_world(7)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def test_balance_of_unknown_user_raises_user_not_found() -> None:
    with FakeCredits() as fake, pytest.raises(UserNotFound):
        fake.balance()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"mode": "on-line"}, ValueError("mode must be 'in-process' or 'live', not 'on-line'")),
        ({"issuer": []}, TypeError("issuer=[]: it must be an http or https URL")),
        ({"balanec": 5}, TypeError("FakeCredits has no option 'balanec'; did you mean 'balance'? (known: contract, ")),
        ({"user": "ada"}, TypeError("has no option 'user'; did you mean 'users'?")),
        ({"live": True}, TypeError("""has no option 'live'; use mode="live\"""")),
        ({"intercept": "https://a"}, TypeError("has no option 'intercept'; call credits.intercept(...)")),
        ({"allow": "unused_rules"}, TypeError("has no option 'allow'; use allow= in the marker")),
        ({"explore": True}, TypeError("has no option 'explore'; use explore= in the marker")),
        (
            {"auth_provider": "clark"},
            ValueError("has auth_provider='clark': it must be one of plain, clerk"),
        ),
        (
            {"users": ["ada"]},
            TypeError("FakeCredits has users=['ada']: it must be a mapping of user ids to integers, such as"),
        ),
        (
            {"users": {"user-id": 5}, "balance": 7},
            ValueError("balance=7 and users={'user-id': 5} contradict each other (one may be inherited)"),
        ),
        ({"clock": "noon"}, ValueError('has clock=\'noon\': it must be "real", "frozen", or an')),
        (
            {"clock": "2030-01-01"},
            ValueError("has an invalid clock: '2030-01-01' has no time zone: add one, as in 2030-01-01T00:00:00Z"),
        ),
        (
            {"clock": 7},
            TypeError('clock=7: it must be "real", "frozen", or an aware datetime or ISO 8601 string that is not'),
        ),
        ({"keep_headers": 7}, TypeError("keep_headers=7: it must be a header name, or a list of header names")),
        ({"seed": "x"}, TypeError("has seed='x': it must be an integer")),
        ({"seed": 1.5}, TypeError("has seed=1.5: it must be an integer")),
        ({"seed": True}, TypeError("has seed=True: it must be an integer")),
        ({"api_key": 5}, TypeError("has api_key='...': it must be 1 to 256 visible ASCII characters")),
        (
            {"api_key": "a b"},
            ValueError("has api_key='...': it must be 1 to 256 visible ASCII characters"),
        ),
        ({"contract": 5}, TypeError("contract=5: it must be a Contract, or the name of a contract file")),
        ({"contract": ""}, TypeError("contract='': it must be a Contract, or the name of a contract file")),
        ({"contract": "no.toml"}, ValueError("contract: no.toml: the file can't be read")),
        ({"world": "no.toml"}, ValueError("the world file 'no.toml' does not exist")),
        ({"world": "README.md"}, ValueError("world: README.md: not a world file, or damaged")),
        ({"trust": {"https://x": "no.pem"}}, ValueError("trusted issuer 'https://x': no.pem: the file can't be read")),
        (
            {"trust": {"https://x": "README.md"}},
            ValueError("trusted issuer 'https://x': README.md: the file is neither PEM nor"),
        ),
        ({"faults": "no.toml"}, ValueError("faults: no.toml: the file can't be read")),
        ({"faults": ["no.toml"]}, ValueError("faults, entry 1: no.toml: the file can't be read")),
        ({"faults": "flakey"}, ValueError("faults: unknown preset 'flakey'")),
        (
            {"trust": {"https://x": 5}},
            TypeError("trust={'https://x': 5}: it must be a mapping of foreign issuers to files with their keys"),
        ),
        (
            {"trust": {5: "keys"}},
            TypeError("trust={5: 'keys'}: it must be a mapping of foreign issuers to files with their keys"),
        ),
        ({"clock": "0001-01-01T00:00:00Z"}, ValueError("an aware datetime or ISO 8601 string that is not before 1970")),
    ],
    ids=str,
)
def test_invalid_option_is_rejected(options: dict[str, Any], error: Exception) -> None:
    with pytest.raises(type(error), match=re.escape(str(error))):
        FakeCredits(**options)


def test_options_accept_same_types_as_marker() -> None:
    """The clock can be ISO 8601 text, ``keep_headers`` a single name, and the contract a file name."""
    file = "fixtures/contracts/stripe-manner.toml"
    with FakeCredits(clock="2030-01-01T00:00:00Z", keep_headers="X-Tenant", contract=file) as fake:
        assert fake.sandbox.contract == load_contract(file)
        assert fake.clock.now() == datetime(2030, 1, 1, tzinfo=UTC)
        assert "x-tenant" in fake.sandbox.journal_headers.names


def test_clock_accepts_iso_string() -> None:
    with FakeCredits() as fake:
        fake.clock.freeze("2030-01-01T00:00:00Z")
        fake.clock.travel("2030-01-02T01:00+01:00")
        assert fake.clock.now() == datetime(2030, 1, 2, tzinfo=UTC)


def test_bad_token_is_rejected_by_api() -> None:
    with FakeCredits(balance=1) as fake, pytest.raises(TokenExpired):
        read_balance_with(fake, fake.token(bad="expired"))


def test_token_with_wall_clock_is_issued_at_wall_clock_time() -> None:
    with FakeCredits(clock=NOON + timedelta(days=36_500)) as fake:
        wall_claims, sandbox_claims = (claims(fake.token(clock=clock)) for clock in ("wall", "sandbox"))
        assert sandbox_claims["iat"] == int((NOON + timedelta(days=36_500)).timestamp())
        assert wall_claims["iat"] < sandbox_claims["iat"] - 86_400


def test_token_contains_requested_claims_and_lifetime() -> None:
    with FakeCredits() as fake:
        token = claims(fake.token("ada", claims={"role": "admin"}, expires_in_s=60))
        assert (token["sub"], token["role"], token["exp"] - token["iat"]) == ("ada", "admin", 60)


def test_sleep_advances_only_its_own_clock() -> None:
    with FakeCredits(clock=NOON) as fake, FakeCredits(clock=NOON) as other:
        fake.sleep(1.5)
        assert fake.clock.now() == NOON + timedelta(seconds=1.5)
        assert other.clock.now() == NOON


@on_every_loop
def test_async_sleep_advances_clock_and_yields_to_other_tasks(run: RunMain) -> None:
    with FakeCredits(clock=NOON) as fake:
        turns: list[str] = []

        async def retry(name: str) -> None:
            for _ in range(2):
                turns.append(name)
                await fake.async_sleep(30)

        async def main() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(retry, "a")
                tasks.start_soon(retry, "b")

        run(main)
        assert fake.clock.now() == NOON + timedelta(minutes=2)
        assert set(turns[:2]) == {"a", "b"}


@pytest.mark.parametrize("base_url", ["https://api.acme.com", "http://localhost:8080"])
def test_httpx2_transport_answers_under_any_base_url(base_url: str) -> None:
    with (
        FakeCredits(balance=7) as fake,
        httpx2.Client(base_url=base_url, transport=fake.transport("httpx2")) as application,
    ):
        response = application.get(BALANCE, headers={"X-API-Key": fake.api_key})
        assert (response.status_code, response.json()) == (200, {"balance": 7})


def test_httpx_transport_answers_under_any_base_url() -> None:
    with (
        FakeCredits(balance=7) as fake,
        httpx.Client(base_url="https://api.acme.com", transport=fake.transport("httpx")) as application,
    ):
        created = application.post(
            BALANCE.replace("balance", "transactions"),
            json={"delta": -2, "reason": "consume"},
            headers={"X-API-Key": fake.api_key},
        )
        assert (created.status_code, fake.balance()) == (201, 5)


@on_every_loop
@pytest.mark.parametrize("library", ["httpx2", "httpx"])
def test_transport_works_with_async_client(library: str, run: RunMain) -> None:
    client: Any = httpx2.AsyncClient if library == "httpx2" else httpx.AsyncClient
    with FakeCredits(balance=7) as fake:
        transport: Any = fake.transport(library)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]

        async def main() -> None:
            async with client(base_url="https://api.acme.com", transport=transport) as application:
                response = await application.get(BALANCE, headers={"X-API-Key": fake.api_key})
                assert response.json() == {"balance": 7}

        run(main)


def test_transport_for_unknown_library_is_rejected() -> None:
    with FakeCredits() as fake, pytest.raises(ValueError, match="must be 'httpx2' or 'httpx', not"):
        fake.transport("aiohttp")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


def test_requests_library_reaches_base_url(shared: SharedResources) -> None:
    with FakeCredits(shared=shared, balance=7) as fake:
        response = requests.get(fake.base_url + BALANCE, headers={"X-API-Key": fake.api_key}, timeout=5)
        assert response.json() == {"balance": 7}
        assert fake.serve() == fake.base_url


@pytest.mark.parametrize("auth_provider", ["plain", "clerk"])
def test_user_client_renews_token_after_expiry(
    auth_provider: AuthProviderName, mode: ClientMode, shared: SharedResources
) -> None:
    with FakeCredits(mode=mode, shared=shared, balance=7, auth_provider=auth_provider) as fake:
        user = fake.user_client()
        assert user.get_balance("user-id") == Balance(7)
        fake.clock.advance(days=30)
        assert user.get_balance("user-id") == Balance(7)


def test_user_client_works_after_reset_moves_clock_back() -> None:
    with FakeCredits(balance=7) as fake:
        user = fake.user_client()
        fake.clock.advance(days=30)
        user.get_balance("user-id")
        fake.reset()
        assert user.get_balance("user-id") == Balance(7)


def test_cursor_from_before_reset_is_invalid() -> None:
    with FakeCredits(balance=1) as fake:
        for _ in range(50):
            fake.server_client.create_transaction("app-id", "user-id", delta=1, reason="grant")
        cursor = fake.server_client.list_transactions("app-id", "user-id").next_cursor
        fake.reset()
        with pytest.raises(InvalidCursor):
            fake.server_client.list_transactions("app-id", "user-id", cursor)
        assert fake.problems() == []


def test_reset_clears_journal_and_keeps_clients_usable(mode: ClientMode, shared: SharedResources) -> None:
    with FakeCredits(mode=mode, shared=shared, balance=7) as fake:
        client = fake.server_client
        client.create_transaction("app-id", "user-id", delta=-4, reason="consume")
        fake.reset()
        assert len(fake.journal) == 0
        assert client.get_balance("app-id", "user-id") == Balance(7)


def test_closed_fake_rejects_credentials_with_reason_closed_sandbox() -> None:
    fake = FakeCredits(balance=7)
    server, user = fake.server_client, fake.user_client()
    user.get_balance("user-id")
    assert fake.close() == []
    with pytest.raises(InvalidApiKey) as by_key:
        server.get_balance("app-id", "user-id")
    with pytest.raises(InvalidToken) as by_token:
        user.get_balance("user-id")
    assert (by_key.value.status, by_key.value.code) == (401, "invalid_api_key")
    assert [entry.cause for entry in fake.journal.entries()[-2:]] == ["auth:closed_sandbox"] * 2
    assert [by_key.value.auth_reason, by_token.value.auth_reason] == ["closed_sandbox"] * 2


MUTATING_CALLS: tuple[Callable[[FakeCredits], object], ...] = (
    lambda fake: fake.user("ada"),
    lambda fake: fake.load_world("tiny"),
    lambda fake: fake.reset(),
    lambda fake: fake.faults.add(Reset()),
    lambda fake: fake.hold(),
    lambda fake: fake.sleep(1),
    lambda fake: fake.clock.advance(seconds=1),
    lambda fake: fake.clock.freeze(),
)


@pytest.mark.parametrize("call", MUTATING_CALLS)
def test_mutating_call_on_closed_fake_raises(call: Callable[[FakeCredits], object]) -> None:
    with FakeCredits(balance=7) as fake:
        pass
    with pytest.raises(RuntimeError, match=r"is closed \(its test is over\)"):
        call(fake)
    assert fake.balance() == 7


def test_close_is_idempotent(mode: ClientMode) -> None:
    fake = FakeCredits(mode=mode, balance=7)
    fake.server_client.get_balance("app-id", "user-id")
    assert fake.close() == []
    assert fake.close() == []


def test_close_stops_own_live_server() -> None:
    fake = FakeCredits(mode="live", balance=7)
    base_url, key = fake.base_url, fake.api_key
    fake.close()
    with ServerClient(base_url, key) as client, pytest.raises(ConnectionLost):
        client.get_balance("app-id", "user-id")


def test_shared_server_rejects_key_of_closed_fake(shared: SharedResources) -> None:
    fake = FakeCredits(mode="live", shared=shared, balance=7)
    base_url, key = fake.base_url, fake.api_key
    fake.close()
    with ServerClient(base_url, key) as client, pytest.raises(InvalidApiKey):
        client.get_balance("app-id", "user-id")


def test_close_after_shared_server_closed_starts_no_server() -> None:
    resources = SharedResources()
    fake = FakeCredits(mode="live", shared=resources, balance=7)
    fake.server_client.get_balance("app-id", "user-id")
    resources.close()
    fake.close()
    assert repr(resources).endswith("live servers=0>")


def test_close_reports_exchanges_still_in_flight(shared: SharedResources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fake_credits.sandboxes._SANDBOX_DRAIN_TIMEOUT_S", 0.005)
    fake = FakeCredits(mode="live", shared=shared)
    fake.serve()
    fake.journal.begin_exchange()[0]
    assert fake.close() == ["1 exchange still in progress one second after closing"]


def test_close_waits_for_exchange_in_flight(shared: SharedResources) -> None:
    fake = FakeCredits(mode="live", shared=shared)
    fake.serve()
    last = JournalEntry(ordinal=fake.journal.begin_exchange()[0], request_id="r", at_ms=0, method="GET", target="/")
    timer = threading.Timer(0.005, fake.journal.write, [last])
    timer.start()
    assert fake.close() == []
    timer.join()


def test_problems_report_bugs_and_inconsistent_ledger() -> None:
    with FakeCredits(balance=7) as fake:
        assert fake.problems() == []
        fake.sandbox.bugs.append(ZeroDivisionError("oops"))
        fake.sandbox.ledger.get_account("app-id", "user-id").balance = 8
        bug, ledger = fake.problems()
        assert "ZeroDivisionError('oops')" in bug
        assert "the deltas sum to 7" in ledger


def test_reprs_contain_no_key_or_token(mode: ClientMode, shared: SharedResources) -> None:
    with FakeCredits(mode=mode, shared=shared, api_key="fck_hush_hush_hush", balance=1) as fake:
        user = fake.user_client()
        user.get_balance("user-id")
        token = fake.token()
        reprs = " ".join(
            map(
                repr,
                (
                    fake,
                    fake.sandbox,
                    fake.sandbox.options,
                    fake.server_client,
                    fake.async_server_client,
                    user,
                    fake.async_user_client(),
                    fake.transport("httpx2"),
                    fake.transport("httpx"),
                    fake.journal.entries(),
                    shared,
                ),
            )
        )
        assert "hush_hush" not in reprs
        assert token.split(".")[0] not in reprs  # every token signed with these keys begins with this header


def claims(token: str) -> dict[str, Any]:
    decoded: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return decoded


def read_balance_with(fake: FakeCredits, token: str) -> None:
    """Read the balance through a user client with the given token."""
    with UserClient(fake.base_url, "app-id", token) as client:
        client.get_balance("user-id")


def test_bind_rejects_untrusted_issuer(shared: SharedResources) -> None:
    with FakeCredits(shared=shared) as fake, pytest.raises(ValueError, match="'https://x/' is not trusted: pass its"):
        fake.bind("https://x/", "ada")


def test_token_rejects_unknown_clock(shared: SharedResources) -> None:
    with FakeCredits(shared=shared) as fake, pytest.raises(ValueError, match="must be 'sandbox' or 'wall', not 'wal'"):
        fake.token("ada", clock="wal")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def test_closed_fake_starts_no_server(shared: SharedResources) -> None:
    fake = FakeCredits(shared=shared)
    fake.close()
    with pytest.raises(RuntimeError, match=r"is closed \(its test is over\)"):
        assert fake.base_url


@pytest.mark.parametrize(
    ("user_id", "error"),
    [
        ("", ValueError("the user id must not be empty, '.' or '..': ''")),
        (5, TypeError("the user id must be a str, not int")),
    ],
    ids=repr,
)
def test_invalid_id_is_rejected_not_set_to_default(shared: SharedResources, user_id: Any, error: Exception) -> None:
    with FakeCredits(shared=shared, balance=1) as fake:
        for method in (fake.balance, fake.token, fake.user_client, fake.async_user_client):
            with pytest.raises(type(error), match=re.escape(str(error))):
                method(user_id)
        for call in (fake.balance, fake.user):
            with pytest.raises(ValueError, match="the application id must not be empty"):
                call("user-id", application_id="")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"bad": ""}, ValueError("unknown kind of bad token ''")),
        ({"bad": 5}, TypeError("bad must be a kind of bad token, such as 'expired', not 5")),
        ({"bad": ["expired"]}, TypeError("bad must be a kind of bad token, such as 'expired', not [")),
        ({"expires_in_s": "5"}, TypeError("expires_in_s must be an int or None, not str")),
        ({"expires_in_s": True}, TypeError("expires_in_s must be an int or None, not bool")),
        ({"expires_in_s": float("nan")}, TypeError("expires_in_s must be an int or None, not float")),
        ({"expires_in_s": 10**30}, ValueError("expires_in_s must be from -316224000 to 316224000, not 1000")),
        ({"claims": 5}, TypeError("claims must be a mapping of names to JSON values, not int")),
        ({"claims": {1: 2}}, TypeError("claim name 1 must be a str, not int")),
        (
            {"claims": {"at": datetime(2030, 1, 1)}},
            ValueError("the claim 'at' can't be encoded as JSON: Object of type datetime"),
        ),
        ({"claims": {"share": float("nan")}}, ValueError("the claim 'share' can't be encoded as JSON: ")),
    ],
    ids=repr,
)
def test_invalid_token_option_is_rejected(shared: SharedResources, options: dict[str, Any], error: Exception) -> None:
    with FakeCredits(shared=shared) as fake, pytest.raises(type(error), match=re.escape(str(error))):
        fake.token("ada", **options)
