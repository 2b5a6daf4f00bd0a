"""Test the façade that a test author holds: its example, both modes, its clients, its time and its end."""

import asyncio
import re
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import fields
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
from fake_credits.sandbox_options import FakeCreditsKwargs, SandboxOptions
from fake_credits.transports.shared_resources import SharedResources

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
BALANCE = "/v1/applications/app-id/users/user-id/balance"

Run = Callable[[Callable[[], Awaitable[None]]], None]
LOOPS: dict[str, Run] = {"asyncio": lambda main: asyncio.run(_coroutine(main)), "trio": lambda main: trio.run(main)}
loops = pytest.mark.parametrize("run", LOOPS.values(), ids=LOOPS.keys())


async def _coroutine(main: Callable[[], Awaitable[None]]) -> None:
    await main()


@pytest.fixture(params=["in-process", "live"])
def mode(request: pytest.FixtureRequest) -> ClientMode:
    chosen: ClientMode = request.param
    return chosen


@pytest.fixture(scope="module")
def shared() -> Iterator[SharedResources]:
    """Yield keys and a live server that the tests of this module share."""
    parts = SharedResources()
    yield parts
    parts.close()


def test_the_designs_example_works_as_it_stands() -> None:
    with FakeCredits() as credits:
        credits.user("ada", balance=100)
        credits.server_client.create_transaction("app-id", "ada", delta=-10, reason="consume")
        assert credits.user_client("ada").get_balance("ada").balance == 90


def test_both_modes_give_the_same_answers(mode: ClientMode, shared: SharedResources) -> None:
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


@loops
def test_the_async_clients_work_in_both_modes_and_any_loop(mode: ClientMode, shared: SharedResources, run: Run) -> None:
    with FakeCredits(mode=mode, shared=shared, balance=10) as fake:

        async def main() -> None:
            async with fake.async_server_client as server, fake.async_user_client() as user:
                await server.create_transaction("app-id", "user-id", delta=-4, reason="consume")
                assert await user.get_balance("user-id") == Balance(6)

        run(main)


def test_what_python_sees_and_what_the_wire_sees_is_one_state(mode: ClientMode, shared: SharedResources) -> None:
    with FakeCredits(mode=mode, shared=shared) as fake:
        fake.server_client.create_user("app-id", "ada")
        assert fake.balance("ada") == 0
        fake.user("ada", balance=3)
        assert fake.server_client.get_balance("app-id", "ada") == Balance(3)


def test_user_makes_a_user_and_returns_it_without_an_exchange() -> None:
    with FakeCredits(clock=NOON) as fake:
        assert fake.user("ada", balance=5, application_id="other") == User("other", "ada", NOON)
        assert fake.balance("ada", application_id="other") == 5
        assert len(fake.journal) == 0


def test_user_without_a_balance_leaves_the_balance_alone() -> None:
    with FakeCredits(users={"ada": 5}) as fake:
        fake.user("ada")
        assert fake.balance("ada") == 5


def test_a_world_has_histories_of_the_last_year_of_the_sandbox_s_clock(
    mode: ClientMode, shared: SharedResources
) -> None:
    with FakeCredits(world="tiny", clock=NOON, mode=mode, shared=shared) as fake:
        users = list(fake.server_client.iter_users("app-id"))
        moments = [
            each.created_at for user in users for each in fake.server_client.iter_transactions("app-id", user.user_id)
        ]
        assert (len(users), len(moments)) == (5, 60)
        assert NOON - timedelta(days=365) <= min(moments) < max(moments) <= NOON


def test_reset_returns_to_the_world_that_it_started_from(shared: SharedResources) -> None:
    with FakeCredits(world="tiny", users={"ada": 5}, shared=shared) as fake:
        user_id = next(fake.server_client.iter_users("app-id")).user_id
        balance = fake.balance(user_id)
        fake.server_client.create_transaction("app-id", user_id, delta=1, reason="grant")
        fake.reset()
        assert (fake.balance(user_id), fake.balance("ada")) == (balance, 5)


def test_the_users_of_a_world_may_be_brought_to_a_balance(shared: SharedResources) -> None:
    with FakeCredits(world="edge", users={"one-credit": 7}, shared=shared) as fake:
        assert fake.balance("one-credit") == 7


def test_a_world_is_loaded_into_a_running_sandbox_and_forgotten_by_a_reset(shared: SharedResources) -> None:
    with FakeCredits(balance=3, application_id="shop", seed=4, shared=shared) as fake:
        ids = fake.load_world("tiny")
        assert [user.user_id for user in fake.server_client.iter_users("shop")] == ["user-id", *ids]
        assert ids != FakeCredits(shared=shared).load_world("tiny"), "the sandbox's seed is the world's"
        with pytest.raises(ValueError, match="there is such a user already"):
            fake.load_world("tiny")
        fake.reset()
        assert [user.user_id for user in fake.server_client.iter_users("shop")] == ["user-id"]


def test_a_world_in_a_file_is_loaded_as_one_with_a_name(shared: SharedResources) -> None:
    file = Path(__file__).resolve().parents[1] / "fixtures" / "worlds" / "tiny.json"
    with FakeCredits(world=file, shared=shared) as by_path, FakeCredits(shared=shared) as by_text:
        ids = by_text.load_world(str(file))
        assert len(ids) == 5
        assert [by_path.balance(user_id) for user_id in ids] == [by_text.balance(user_id) for user_id in ids]


@pytest.mark.parametrize("name", ["dmo", "nowhere.json"])
def test_a_world_that_there_is_not_is_refused_and_changes_nothing(name: str, shared: SharedResources) -> None:
    with pytest.raises(ValueError, match=f"there is no world '{name}', and no file"):
        FakeCredits(world=name, shared=shared)
    with FakeCredits(shared=shared) as fake, pytest.raises(TypeError, match="a name, a file or a World, not int"):
        fake.load_world(7)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def test_the_balance_of_nobody_is_user_not_found() -> None:
    with FakeCredits() as fake, pytest.raises(UserNotFound):
        fake.balance()


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ({"mode": "on-line"}, ValueError("mode is 'on-line': choose 'in-process' or 'live'")),
        ({"balanec": 5}, TypeError("has no word 'balanec': did you mean 'balance'? (it has: mode, shared, contract, ")),
        ({"user": "ada"}, TypeError("has no word 'user': did you mean 'users'?")),
        ({"live": True}, TypeError("""has no word 'live': say mode="live\"""")),
        ({"intercept": "https://a"}, TypeError("has no word 'intercept': call credits.intercept(...)")),
        ({"allow": "unused_rules"}, TypeError("has no word 'allow': allow= is the marker's")),
        ({"auth_provider": "clark"}, ValueError("there is no JWT preset 'clark'")),
        (
            {"users": ["ada"]},
            TypeError('users must be a mapping of user ids to balances, such as {"ada": 100}, not list'),
        ),
        (
            {"users": {"user-id": 5}, "balance": 7},
            ValueError("balance=7 and users={'user-id': 5} contradict each other, also where one is inherited: give"),
        ),
        ({"clock": "noon"}, ValueError("clock is 'noon': choose 'real', 'frozen', an aware datetime or")),
        ({"clock": "2030-01-01"}, ValueError("is naive")),
        ({"clock": 7}, TypeError('clock must be an aware datetime, its ISO 8601 text, "frozen" or "real", not int')),
        ({"keep_headers": 7}, TypeError("keep_headers must be one or a list of names of headers, not int")),
        ({"seed": "x"}, TypeError("seed must be an int, not str")),
        ({"seed": 1.5}, TypeError("seed must be an int, not float")),
        ({"seed": True}, TypeError("seed must be an int, not bool")),
        ({"api_key": 5}, TypeError("api_key must be a str, not int")),
        ({"api_key": "a b"}, ValueError("api_key must be 1 to 256 visible ASCII characters: it travels in a header")),
        ({"contract": 5}, TypeError("contract must be a Contract, or the name of a contract file, not 5")),
        ({"contract": ""}, TypeError("contract must be a Contract, or the name of a contract file, not ''")),
        ({"contract": "no.toml"}, ValueError("contract: no.toml: can't be read")),
        ({"world": "no.toml"}, ValueError("there is no world 'no.toml', and no file")),
        ({"world": "README.md"}, ValueError("world: README.md: is no world, or a damaged one")),
        ({"trust": {"https://x": "no.pem"}}, ValueError("trust of 'https://x': no.pem: can't be read")),
        ({"trust": {"https://x": "README.md"}}, ValueError("trust of 'https://x': README.md: is neither PEM nor")),
        ({"faults": "no.toml"}, ValueError("faults: no.toml: can't be read")),
        ({"faults": ["no.toml"]}, ValueError("faults, entry 1: no.toml: can't be read")),
        ({"faults": "flakey"}, ValueError("faults: there is no preset 'flakey'")),
        ({"trust": {"https://x": 5}}, TypeError("trust must map issuers to files of their keys: 5 is of the type int")),
        ({"trust": {5: "keys"}}, TypeError("trust must map issuers to files of their keys: 5 is of the type int")),
        ({"clock": "0001-01-01T00:00:00Z"}, ValueError("clock can't be: ")),
    ],
    ids=str,
)
def test_a_word_or_a_value_that_cannot_be_is_refused(words: dict[str, Any], error: Exception) -> None:
    with pytest.raises(type(error), match=re.escape(str(error))):
        FakeCredits(**words)


def test_the_facade_takes_what_the_marker_takes() -> None:
    """A moment as ISO text, one name for a list of headers, the name of a contract file."""
    file = "fixtures/contracts/stripe-manner.toml"
    with FakeCredits(clock="2030-01-01T00:00:00Z", keep_headers="X-Tenant", contract=file) as fake:
        assert fake.sandbox.contract == load_contract(file)
        assert fake.clock.now() == datetime(2030, 1, 1, tzinfo=UTC)
        assert "x-tenant" in fake.sandbox.journal_headers.names


def test_a_clock_goes_to_no_text() -> None:
    with FakeCredits() as fake:
        for verb in (fake.clock.travel, fake.clock.freeze):
            with pytest.raises(TypeError, match=r"a moment must be an aware datetime, such as .*, not str"):
                verb("2030-01-01T00:00:00Z")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def test_a_bad_token_is_refused_by_the_api_it_was_minted_for() -> None:
    with FakeCredits(balance=1) as fake, pytest.raises(TokenExpired):
        read_balance_with(fake, fake.token(bad="expired"))


def test_a_token_for_the_wall_clock_is_good_for_whoever_follows_the_wall_clock() -> None:
    with FakeCredits(clock=NOON + timedelta(days=36_500)) as fake:
        wall, own = (claims(fake.token(clock=clock)) for clock in ("wall", "sandbox"))
        assert own["iat"] == int((NOON + timedelta(days=36_500)).timestamp())
        assert wall["iat"] < own["iat"] - 86_400


def test_a_token_bears_the_claims_that_are_asked_for() -> None:
    with FakeCredits() as fake:
        token = claims(fake.token("ada", claims={"role": "admin"}, expires_in_s=60))
        assert (token["sub"], token["role"], token["exp"] - token["iat"]) == ("ada", "admin", 60)


def test_sleep_moves_the_sandboxes_clock_and_no_other() -> None:
    with FakeCredits(clock=NOON) as fake, FakeCredits(clock=NOON) as other:
        fake.sleep(1.5)
        assert fake.clock.now() == NOON + timedelta(seconds=1.5)
        assert other.clock.now() == NOON


@loops
def test_async_sleep_moves_the_clock_and_lets_another_task_run(run: Run) -> None:
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
def test_an_applications_own_httpx2_client_is_answered_under_its_own_url(base_url: str) -> None:
    with (
        FakeCredits(balance=7) as fake,
        httpx2.Client(base_url=base_url, transport=fake.transport("httpx2")) as application,
    ):
        response = application.get(BALANCE, headers={"X-API-Key": fake.api_key})
        assert (response.status_code, response.json()) == (200, {"balance": 7})


def test_an_applications_own_httpx_client_is_answered_under_its_own_url() -> None:
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


@loops
@pytest.mark.parametrize("library", ["httpx2", "httpx"])
def test_a_transport_is_sync_and_async_at_once(library: str, run: Run) -> None:
    client: Any = httpx2.AsyncClient if library == "httpx2" else httpx.AsyncClient
    with FakeCredits(balance=7) as fake:
        transport: Any = fake.transport(library)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]

        async def main() -> None:
            async with client(base_url="https://api.acme.com", transport=transport) as application:
                response = await application.get(BALANCE, headers={"X-API-Key": fake.api_key})
                assert response.json() == {"balance": 7}

        run(main)


def test_an_unknown_library_is_refused_with_the_ways_there_are() -> None:
    with FakeCredits() as fake, pytest.raises(ValueError, match="'httpx2' or 'httpx', or use base_url"):
        fake.transport("aiohttp")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


def test_any_library_reaches_the_base_url(shared: SharedResources) -> None:
    with FakeCredits(shared=shared, balance=7) as fake:
        response = requests.get(fake.base_url + BALANCE, headers={"X-API-Key": fake.api_key}, timeout=5)
        assert response.json() == {"balance": 7}
        assert fake.serve() == fake.base_url


@pytest.mark.parametrize("auth_provider", ["plain", "clerk"])
def test_a_user_client_survives_a_month_and_a_rotation_of_keys(
    auth_provider: str, mode: ClientMode, shared: SharedResources
) -> None:
    with FakeCredits(mode=mode, shared=shared, balance=7, auth_provider=auth_provider) as fake:
        user = fake.user_client()
        assert user.get_balance("user-id") == Balance(7)
        fake.clock.advance(days=30)
        assert user.get_balance("user-id") == Balance(7)
        fake.sandbox.keys.rotate(fake.sandbox.minter.provider.algorithm)
        assert user.get_balance("user-id") == Balance(7)


def test_a_user_client_survives_a_reset_that_takes_the_clock_back() -> None:
    with FakeCredits(balance=7) as fake:
        user = fake.user_client()
        fake.clock.advance(days=30)
        user.get_balance("user-id")
        fake.reset()
        assert user.get_balance("user-id") == Balance(7)


def test_a_cursor_from_before_a_reset_is_none_of_the_new_history() -> None:
    with FakeCredits(balance=1) as fake:
        for _ in range(50):
            fake.server_client.create_transaction("app-id", "user-id", delta=1, reason="grant")
        cursor = fake.server_client.list_transactions("app-id", "user-id").next_cursor
        fake.reset()
        with pytest.raises(InvalidCursor):
            fake.server_client.list_transactions("app-id", "user-id", cursor)
        assert fake.problems() == []


def test_reset_empties_the_journal_and_keeps_the_clients(mode: ClientMode, shared: SharedResources) -> None:
    with FakeCredits(mode=mode, shared=shared, balance=7) as fake:
        client = fake.server_client
        client.create_transaction("app-id", "user-id", delta=-4, reason="consume")
        fake.reset()
        assert len(fake.journal) == 0
        assert client.get_balance("app-id", "user-id") == Balance(7)


def test_a_closed_fake_refuses_further_calls_and_says_why() -> None:
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


CHANGES: tuple[Callable[[FakeCredits], object], ...] = (
    lambda fake: fake.user("ada"),
    lambda fake: fake.load_world("tiny"),
    lambda fake: fake.reset(),
    lambda fake: fake.faults.add(Reset()),
    lambda fake: fake.hold(),
    lambda fake: fake.sleep(1),
    lambda fake: fake.clock.advance(seconds=1),
    lambda fake: fake.clock.freeze(),
)


@pytest.mark.parametrize("verb", CHANGES)
def test_nothing_can_be_done_to_a_closed_fake(verb: Callable[[FakeCredits], object]) -> None:
    """It would have no effect, and nobody would know."""
    with FakeCredits(balance=7) as fake:
        pass
    with pytest.raises(RuntimeError, match="is closed: its test is over"):
        verb(fake)
    assert fake.balance() == 7


def test_closing_twice_does_nothing_more(mode: ClientMode) -> None:
    fake = FakeCredits(mode=mode, balance=7)
    fake.server_client.get_balance("app-id", "user-id")
    assert fake.close() == []
    assert fake.close() == []


def test_a_closed_live_fake_of_its_own_leaves_no_server_behind() -> None:
    fake = FakeCredits(mode="live", balance=7)
    base_url, key = fake.base_url, fake.api_key
    fake.close()
    with ServerClient(base_url, key) as client, pytest.raises(ConnectionLost):
        client.get_balance("app-id", "user-id")


def test_a_closed_fake_on_a_shared_server_is_refused_there_too(shared: SharedResources) -> None:
    fake = FakeCredits(mode="live", shared=shared, balance=7)
    base_url, key = fake.base_url, fake.api_key
    fake.close()
    with ServerClient(base_url, key) as client, pytest.raises(InvalidApiKey):
        client.get_balance("app-id", "user-id")


def test_closing_after_the_shared_server_starts_no_other() -> None:
    parts = SharedResources()
    fake = FakeCredits(mode="live", shared=parts, balance=7)
    fake.server_client.get_balance("app-id", "user-id")
    parts.close()
    fake.close()
    assert repr(parts).endswith("0 live servers>")


def test_close_tells_what_was_still_under_way_after_a_second(
    shared: SharedResources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fake_credits.sandboxes._SANDBOX_DRAIN_TIMEOUT_S", 0.005)
    fake = FakeCredits(mode="live", shared=shared)
    fake.serve()
    fake.journal.next_ordinal()
    assert fake.close() == ["1 exchanges were still under way a second after the end"]


def test_close_waits_for_an_exchange_that_ends_in_time(shared: SharedResources) -> None:
    fake = FakeCredits(mode="live", shared=shared)
    fake.serve()
    last = JournalEntry(ordinal=fake.journal.next_ordinal(), request_id="r", at_ms=0, method="GET", target="/")
    late = threading.Timer(0.005, fake.journal.write, [last])
    late.start()
    assert fake.close() == []
    late.join()


def test_problems_report_a_ledger_that_contradicts_itself_and_a_bug_that_answered_500() -> None:
    with FakeCredits(balance=7) as fake:
        assert fake.problems() == []
        fake.sandbox.bugs.append(ZeroDivisionError("oops"))
        fake.sandbox.ledger.get_account("app-id", "user-id").balance = 8
        bug, ledger = fake.problems()
        assert "ZeroDivisionError('oops')" in bug
        assert "the deltas sum to 7" in ledger


def test_reprs_never_leak_a_key_or_a_token(mode: ClientMode, shared: SharedResources) -> None:
    with FakeCredits(mode=mode, shared=shared, api_key="fck_hush_hush_hush", balance=1) as fake:
        user = fake.user_client()
        user.get_balance("user-id")
        token = fake.token()
        shown = " ".join(
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
        assert "hush_hush" not in shown
        assert token.split(".")[0] not in shown  # the header: every token of these keys begins with it


def test_settings_have_the_words_that_the_facade_takes() -> None:
    assert set(FakeCreditsKwargs.__annotations__) == {field.name for field in fields(SandboxOptions)}


def claims(token: str) -> dict[str, Any]:
    decoded: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return decoded


def read_balance_with(fake: FakeCredits, token: str) -> None:
    """Read the balance with a token, through the user's client."""
    with UserClient(fake.base_url, "app-id", token) as client:
        client.get_balance("user-id")


def test_an_issuer_that_is_not_trusted_can_not_be_bound(shared: SharedResources) -> None:
    with FakeCredits(shared=shared) as fake, pytest.raises(ValueError, match="'https://x/' is not trusted here"):
        fake.bind("https://x/", "ada")


def test_a_token_s_clock_is_one_of_two(shared: SharedResources) -> None:
    with FakeCredits(shared=shared) as fake, pytest.raises(ValueError, match="clock is 'wal'"):
        fake.token("ada", clock="wal")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def test_a_closed_fake_starts_no_server(shared: SharedResources) -> None:
    fake = FakeCredits(shared=shared)
    fake.close()
    with pytest.raises(RuntimeError, match="is closed: its test is over"):
        assert fake.base_url


@pytest.mark.parametrize(
    ("user_id", "error"),
    [
        ("", ValueError("the user id must not be empty, '.' or '..': ''")),
        (5, TypeError("the user id must be a str, not int")),
    ],
    ids=repr,
)
def test_an_empty_id_does_not_mean_the_default_one(shared: SharedResources, user_id: Any, error: Exception) -> None:
    with FakeCredits(shared=shared, balance=1) as fake:
        for verb in (fake.balance, fake.token, fake.user_client, fake.async_user_client):
            with pytest.raises(type(error), match=re.escape(str(error))):
                verb(user_id)
        for call in (fake.balance, fake.user):
            with pytest.raises(ValueError, match="the application id must not be empty"):
                call("user-id", application_id="")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ({"bad": ""}, ValueError("no bad token ''")),
        ({"bad": 5}, TypeError("bad must be a str, the name of a kind of bad token, not int")),
        ({"bad": ["expired"]}, TypeError("bad must be a str, the name of a kind of bad token, not list")),
        ({"expires_in_s": "5"}, TypeError("expires_in_s must be an int or None, not str")),
        ({"expires_in_s": True}, TypeError("expires_in_s must be an int or None, not bool")),
        ({"expires_in_s": float("nan")}, TypeError("expires_in_s must be an int or None, not float")),
        ({"expires_in_s": 10**30}, ValueError("expires_in_s must be from -316224000 to 316224000, not 1000")),
        ({"claims": 5}, TypeError("claims must be a mapping of names to values of JSON, not int")),
        ({"claims": {1: 2}}, TypeError("claims has the name 1, which must be a str, not int")),
        ({"claims": {"at": datetime(2030, 1, 1)}}, ValueError("the claim 'at' is no JSON: Object of type datetime")),
        ({"claims": {"share": float("nan")}}, ValueError("the claim 'share' is no JSON: ")),
    ],
    ids=repr,
)
def test_a_token_that_can_t_be_is_refused_by_name(
    shared: SharedResources, words: dict[str, Any], error: Exception
) -> None:
    with FakeCredits(shared=shared) as fake, pytest.raises(type(error), match=re.escape(str(error))):
        fake.token("ada", **words)
