"""Test that a bad day raises in process what it raises on a socket: httpx2, httpx, our own clients, sync and async."""

import importlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, cast

import anyio
import pytest

from fake_credits.client.http import AsyncNetworkTransport, NetworkTransport
from fake_credits.client.server import AsyncServerClient, ServerClient
from fake_credits.client.user import AsyncUserClient, UserClient
from fake_credits.contract import DEFAULT_CONTRACT
from fake_credits.fake import ClientMode, FakeCredits
from fake_credits.faults.effects import Drip, Effect, SchemaDrift, Truncate
from fake_credits.faults.rule import Rule
from fake_credits.http_message import AsyncTransport, Transport
from fake_credits.transports.client_transports import AsyncInProcessTransport, InProcessTransport
from fake_credits.transports.in_process import IN_PROCESS_BASE_URL, InProcessDriver
from fake_credits.transports.shared_resources import SharedResources
from tests.behaviour.effect_cases import CALLS, DAYS, a_day

PATIENCE_S, LITTLE_PATIENCE_S = 5.0, 0.15
LOOPS = ("sync", "asyncio", "trio")
SLOW_DRIP = Rule(effect=Drip(2, 2000))

BROKEN: Mapping[str, Rule] = {
    "drip too slowly": SLOW_DRIP,
    **{name: day.rule for name, day in DAYS.items() if day.end != "whole"},
}
"""Every rule under which no whole answer comes."""

EXPECTED = {
    "drip": "ReadTimeout",
    "hang": "ReadTimeout",
    "late_write": "ReadTimeout",
    "reset": "ReadError",
    "close": "RemoteProtocolError",
    "closed": "RemoteProtocolError",
    "garbage": "RemoteProtocolError",
}


class Way(NamedTuple):
    """Say how a library's client reaches the API, and how it asks."""

    library: str
    loop: str
    mode: ClientMode
    warm: bool
    stream: bool

    def options(self, fake: FakeCredits) -> dict[str, Any]:
        """Return the arguments of a client."""
        if self.mode == "live":
            return {"base_url": fake.base_url, "verify": False, "trust_env": False}
        return {"base_url": IN_PROCESS_BASE_URL, "transport": fake.transport(cast("Any", self.library))}


class Outcome(NamedTuple):
    """Be what a call came to: what it raised, and how much it had before that."""

    raised: str
    status: int = 0
    body_bytes: int = 0


def _asked(library: str, fake: FakeCredits, name: str) -> dict[str, Any]:
    """Return a request that waits a little for a byte where none will come, and long for anything else."""
    asked = CALLS["spend"]
    read_s = 0.02 if _expected(name) == "ReadTimeout" else PATIENCE_S
    return {
        "method": asked.method,
        "url": asked.target,
        "headers": asked.headers(fake),
        "content": asked.body,
        "timeout": importlib.import_module(library).Timeout(PATIENCE_S, read=read_s),
    }


def _patience_s(name: str) -> float:
    return LITTLE_PATIENCE_S if _expected(name) == "ReadTimeout" else PATIENCE_S


def _expected(name: str) -> str:
    words = name.split()
    if words[0] == "truncate":
        return EXPECTED.get(words[-1], "ReadTimeout" if words[-1] == "hang" else "RemoteProtocolError")
    return EXPECTED[words[0]]


def _sync_outcome(way: Way, fake: FakeCredits, asked: dict[str, Any]) -> Outcome:
    library = importlib.import_module(way.library)
    seen = size = 0
    with library.Client(**way.options(fake)) as client:
        if way.warm:
            client.get("/_fake/livez")
        try:
            if not way.stream:
                return Outcome("whole", client.request(**asked).status_code)
            with client.stream(**asked) as response:
                seen = response.status_code
                for chunk in response.iter_bytes():
                    size += len(chunk)
        except library.TransportError as error:
            return Outcome(type(error).__qualname__, seen, size)
    return Outcome("whole", seen, size)


async def _async_outcome(way: Way, fake: FakeCredits, asked: dict[str, Any]) -> Outcome:
    library = importlib.import_module(way.library)
    seen = size = 0
    async with library.AsyncClient(**way.options(fake)) as client:
        if way.warm:
            await client.get("/_fake/livez")
        try:
            if not way.stream:
                return Outcome("whole", (await client.request(**asked)).status_code)
            async with client.stream(**asked) as response:
                seen = response.status_code
                async for chunk in response.aiter_bytes():
                    size += len(chunk)
        except library.TransportError as error:
            return Outcome(type(error).__qualname__, seen, size)
    return Outcome("whole", seen, size)


def _outcome(way: Way, fake: FakeCredits, asked: dict[str, Any]) -> Outcome:
    if way.loop == "sync":
        return _sync_outcome(way, fake, asked)
    return anyio.run(partial(_async_outcome, way, fake, asked), backend=way.loop)


def _ways(library: str, loop: str, *, stream: bool) -> Iterable[Way]:
    yield Way(library, loop, "in-process", warm=False, stream=stream)
    for warm in (False, True):
        yield Way(library, loop, "live", warm=warm, stream=stream)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("library", ["httpx2", pytest.param("httpx", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", BROKEN)
def test_a_library_raises_in_process_what_it_raises_on_a_socket(
    shared: SharedResources, name: str, library: str, loop: str
) -> None:
    """Cold and warm, with a body read whole and with one that streams."""
    for stream in (False, True):
        outcomes: set[Outcome] = set()
        for way in _ways(library, loop, stream=stream):
            with a_day(shared, way.mode, BROKEN[name]) as fake:
                outcome = _outcome(way, fake, _asked(library, fake, name))
                # How far a client with so little patience gets depends on how busy the machine is.
                outcomes.add(Outcome("ReadTimeout") if outcome.raised == "ReadTimeout" else outcome)
        assert {outcome.raised for outcome in outcomes} == {_expected(name)}
        assert len(outcomes) == 1


# ------------------------------------------------------------ our own clients

Told = tuple[str, str]


def _told(error: BaseException) -> Told:
    cause = error.__cause__
    return type(error).__name__, "" if cause is None else f"{type(cause).__module__}.{type(cause).__qualname__}"


def _shown(result: object) -> str:
    return repr(result).partition("next_cursor")[0]  # each sandbox seals its own


def _sync_told(call: Callable[[], object]) -> Told:
    try:
        return _shown(call()), ""
    except Exception as error:  # noqa: BLE001 - whatever it is, it must be the same
        return _told(error)


async def _async_told(call: Callable[[], Awaitable[object]]) -> Told:
    try:
        return _shown(await call()), ""
    except Exception as error:  # noqa: BLE001 - whatever it is, it must be the same
        return _told(error)


def _calls(server: Any, user: Any) -> dict[str, Callable[[], Any]]:
    return {
        "balance": lambda: server.get_balance("app-id", "user-id"),
        "own balance": lambda: user.get_balance("user-id"),
        "spend": lambda: server.create_transaction("app-id", "user-id", delta=-1, reason="consume"),
        "overspend": lambda: server.create_transaction("app-id", "user-id", delta=-101, reason="consume"),
        "history": lambda: server.list_transactions("app-id", "user-id"),
        "new user": lambda: server.create_user("app-id", "bob"),
    }


def _sync_clients(fake: FakeCredits, shared: SharedResources, mode: ClientMode, patience_s: float, call: str) -> Told:
    driver = InProcessDriver(shared.app(fake.sandbox.contract), fake.sandbox)
    url = IN_PROCESS_BASE_URL if mode == "in-process" else fake.base_url
    transport: Transport = InProcessTransport(driver) if mode == "in-process" else NetworkTransport(url)
    server = ServerClient(url, fake.api_key, transport=transport, timeout_s=patience_s)
    user = UserClient(url, "app-id", fake.token(), transport=transport, timeout_s=patience_s)
    try:
        return _sync_told(_calls(server, user)[call])
    finally:
        transport.close()


async def _async_clients(
    fake: FakeCredits, shared: SharedResources, mode: ClientMode, patience_s: float, call: str
) -> Told:
    driver = InProcessDriver(shared.app(fake.sandbox.contract), fake.sandbox)
    url = IN_PROCESS_BASE_URL if mode == "in-process" else fake.base_url
    transport: AsyncTransport = AsyncInProcessTransport(driver) if mode == "in-process" else AsyncNetworkTransport(url)
    server = AsyncServerClient(url, fake.api_key, transport=transport, timeout_s=patience_s)
    user = AsyncUserClient(url, "app-id", fake.token(), transport=transport, timeout_s=patience_s)
    try:
        return await _async_told(_calls(server, user)[call])
    finally:
        await transport.aclose()


def _own(shared: SharedResources, rule: Rule, mode: ClientMode, loop: str, patience_s: float, call: str) -> Told:
    with a_day(shared, mode, rule) as fake:
        if loop == "sync":
            return _sync_clients(fake, shared, mode, patience_s, call)
        made = partial(_async_clients, fake, shared, mode, patience_s, call)
        return anyio.run(made, backend=loop)


def _is_still(name: str) -> bool:
    """Tell whether a day needs nobody but its client."""
    return name.split()[0] not in ("hold_at_gate", "rate_limit", "stale_read")


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("name", [name for name in DAYS if _is_still(name)])
def test_our_clients_raise_or_return_in_process_what_they_do_on_a_socket(
    shared: SharedResources, name: str, loop: str
) -> None:
    """The same type, with a cause of the same type."""
    day = DAYS[name]
    patience_s = LITTLE_PATIENCE_S if day.end == "timeout" else PATIENCE_S
    in_process, live = (_own(shared, day.rule, mode, loop, patience_s, day.call) for mode in ("in-process", "live"))
    assert in_process == live
    if day.end != "whole":
        kind = "Timeout" if day.end == "timeout" else "ConnectionLost"
        assert live == (kind, f"httpx2.{_expected(name)}")


@pytest.mark.parametrize("name", ["reset before", "close before", "hang before", "garbage", "truncate all of it"])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_users_client_raises_what_a_servers_does(shared: SharedResources, name: str, loop: str) -> None:
    told = [
        _own(shared, DAYS[name].rule, mode, loop, _patience_s(name), call)
        for mode in ("in-process", "live")
        for call in ("balance", "own balance")
    ]
    assert len(set(told)) == 1
    assert told[0][1] == f"httpx2.{_expected(name)}"


@pytest.mark.parametrize("rules", [[Truncate(5)], [Truncate(5, then="reset")], [Drip(3, 3)], [SchemaDrift()]], ids=str)
@pytest.mark.parametrize("loop", LOOPS)
def test_an_answer_without_a_body_is_whole_wherever_it_is_cut(
    shared: SharedResources, rules: list[Effect], loop: str
) -> None:
    """Its head is all that there is to read, so no client can tell."""
    contract = replace(DEFAULT_CONTRACT, created_transaction="empty")
    for mode in ("in-process", "live"):
        words: dict[str, Any] = {"mode": mode, "contract": contract, "balance": 100, "faults": rules}
        with FakeCredits(shared=shared, **words) as fake:
            for stream in (False, True):
                way = Way("httpx2", loop, words["mode"], warm=False, stream=stream)
                assert _outcome(way, fake, _asked("httpx2", fake, "close before")) == Outcome("whole", 204)
