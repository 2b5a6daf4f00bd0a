"""Faults raise the same errors in process and live, in httpx2, httpx and the clients, both sync and async."""

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
from fake_credits.transports.in_process import (
    IN_PROCESS_BASE_URL,
    AsyncInProcessTransport,
    InProcessDriver,
    InProcessTransport,
)
from fake_credits.transports.shared_resources import SharedResources
from tests.behaviour.effect_cases import CALLS, EFFECT_CASES, fake_with_rule

TIMEOUT_S, SHORT_TIMEOUT_S = 5.0, 0.15
LOOPS = ("sync", "asyncio", pytest.param("trio", marks=pytest.mark.slow))
SLOW_DRIP = Rule(effect=Drip(2, 2000))

BROKEN_RULES: Mapping[str, Rule] = {
    "drip too slowly": SLOW_DRIP,
    **{name: case.rule for name, case in EFFECT_CASES.items() if case.outcome != "whole"},
}
"""The rules under which no complete response arrives."""

EXPECTED_ERRORS = {
    "drip": "ReadTimeout",
    "hang": "ReadTimeout",
    "late_write": "ReadTimeout",
    "reset": "ReadError",
    "close": "RemoteProtocolError",
    "closed": "RemoteProtocolError",
    "garbage": "RemoteProtocolError",
}


class RequestSetup(NamedTuple):
    """The HTTP library, driver, connection and body mode of a request."""

    library: str
    loop: str
    mode: ClientMode
    warm: bool
    stream: bool

    def options(self, fake: FakeCredits) -> dict[str, Any]:
        """Return the arguments of the HTTP client."""
        if self.mode == "live":
            return {"base_url": fake.base_url, "verify": False, "trust_env": False}
        return {"base_url": IN_PROCESS_BASE_URL, "transport": fake.transport(cast("Any", self.library))}


class RequestOutcome(NamedTuple):
    """The error of a request, and the status and number of body bytes received before it."""

    error: str
    status: int = 0
    body_bytes: int = 0


def _request_arguments(library: str, fake: FakeCredits, name: str) -> dict[str, Any]:
    """Return request arguments, with a short read timeout if the request is expected to time out."""
    request = CALLS["spend"]
    read_s = 0.02 if _expected_error(name) == "ReadTimeout" else TIMEOUT_S
    return {
        "method": request.method,
        "url": request.target,
        "headers": request.headers(fake),
        "content": request.body,
        "timeout": importlib.import_module(library).Timeout(TIMEOUT_S, read=read_s),
    }


def _timeout_s(name: str) -> float:
    return SHORT_TIMEOUT_S if _expected_error(name) == "ReadTimeout" else TIMEOUT_S


def _expected_error(name: str) -> str:
    parts = name.split()
    if parts[0] == "truncate":
        return EXPECTED_ERRORS.get(parts[-1], "ReadTimeout" if parts[-1] == "hang" else "RemoteProtocolError")
    return EXPECTED_ERRORS[parts[0]]


def _sync_outcome(setup: RequestSetup, fake: FakeCredits, request: dict[str, Any]) -> RequestOutcome:
    library = importlib.import_module(setup.library)
    status = body_bytes = 0
    with library.Client(**setup.options(fake)) as client:
        if setup.warm:
            client.get("/_fake/livez")
        try:
            if not setup.stream:
                return RequestOutcome("whole", client.request(**request).status_code)
            with client.stream(**request) as response:
                status = response.status_code
                for chunk in response.iter_bytes():
                    body_bytes += len(chunk)
        except library.TransportError as error:
            return RequestOutcome(type(error).__qualname__, status, body_bytes)
    return RequestOutcome("whole", status, body_bytes)


async def _async_outcome(setup: RequestSetup, fake: FakeCredits, request: dict[str, Any]) -> RequestOutcome:
    library = importlib.import_module(setup.library)
    status = body_bytes = 0
    async with library.AsyncClient(**setup.options(fake)) as client:
        if setup.warm:
            await client.get("/_fake/livez")
        try:
            if not setup.stream:
                return RequestOutcome("whole", (await client.request(**request)).status_code)
            async with client.stream(**request) as response:
                status = response.status_code
                async for chunk in response.aiter_bytes():
                    body_bytes += len(chunk)
        except library.TransportError as error:
            return RequestOutcome(type(error).__qualname__, status, body_bytes)
    return RequestOutcome("whole", status, body_bytes)


def _outcome(setup: RequestSetup, fake: FakeCredits, request: dict[str, Any]) -> RequestOutcome:
    if setup.loop == "sync":
        return _sync_outcome(setup, fake, request)
    return anyio.run(partial(_async_outcome, setup, fake, request), backend=setup.loop)


def _setups(library: str, loop: str, *, stream: bool) -> Iterable[RequestSetup]:
    yield RequestSetup(library, loop, "in-process", warm=False, stream=stream)
    for warm in (False, True):
        yield RequestSetup(library, loop, "live", warm=warm, stream=stream)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("library", ["httpx2", pytest.param("httpx", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", BROKEN_RULES)
def test_http_library_raises_same_error_in_process_and_live(
    shared: SharedResources, name: str, library: str, loop: str
) -> None:
    """This holds for new and reused connections, with complete and streamed bodies."""
    for stream in (False, True):
        outcomes: set[RequestOutcome] = set()
        for setup in _setups(library, loop, stream=stream):
            with fake_with_rule(shared, setup.mode, BROKEN_RULES[name]) as fake:
                outcome = _outcome(setup, fake, _request_arguments(library, fake, name))
                # How much a client with a short timeout receives depends on timing.
                outcomes.add(RequestOutcome("ReadTimeout") if outcome.error == "ReadTimeout" else outcome)
        assert {outcome.error for outcome in outcomes} == {_expected_error(name)}
        assert len(outcomes) == 1


# ------------------------------------------------------------ clients

CallResult = tuple[str, str]


def _error_result(error: BaseException) -> CallResult:
    cause = error.__cause__
    return type(error).__name__, "" if cause is None else f"{type(cause).__module__}.{type(cause).__qualname__}"


def _comparable(result: object) -> str:
    return repr(result).partition("next_cursor")[0]  # cursors differ between sandboxes


def _sync_result(call: Callable[[], object]) -> CallResult:
    try:
        return _comparable(call()), ""
    except Exception as error:  # noqa: BLE001 - every error is compared
        return _error_result(error)


async def _async_result(call: Callable[[], Awaitable[object]]) -> CallResult:
    try:
        return _comparable(await call()), ""
    except Exception as error:  # noqa: BLE001 - every error is compared
        return _error_result(error)


def _client_calls(server: Any, user: Any) -> dict[str, Callable[[], Any]]:
    return {
        "balance": lambda: server.get_balance("app-id", "user-id"),
        "own balance": lambda: user.get_balance("user-id"),
        "spend": lambda: server.create_transaction("app-id", "user-id", delta=-1, reason="consume"),
        "overspend": lambda: server.create_transaction("app-id", "user-id", delta=-101, reason="consume"),
        "history": lambda: server.list_transactions("app-id", "user-id"),
        "new user": lambda: server.create_user("app-id", "bob"),
    }


def _call_sync_client(
    fake: FakeCredits, shared: SharedResources, mode: ClientMode, timeout_s: float, call: str
) -> CallResult:
    driver = InProcessDriver(shared.app(fake.sandbox.contract), fake.sandbox)
    url = IN_PROCESS_BASE_URL if mode == "in-process" else fake.base_url
    transport: Transport = InProcessTransport(driver) if mode == "in-process" else NetworkTransport(url)
    server = ServerClient(url, fake.api_key, transport=transport, timeout_s=timeout_s)
    user = UserClient(url, "app-id", fake.token(), transport=transport, timeout_s=timeout_s)
    try:
        return _sync_result(_client_calls(server, user)[call])
    finally:
        transport.close()


async def _call_async_client(
    fake: FakeCredits, shared: SharedResources, mode: ClientMode, timeout_s: float, call: str
) -> CallResult:
    driver = InProcessDriver(shared.app(fake.sandbox.contract), fake.sandbox)
    url = IN_PROCESS_BASE_URL if mode == "in-process" else fake.base_url
    transport: AsyncTransport = AsyncInProcessTransport(driver) if mode == "in-process" else AsyncNetworkTransport(url)
    server = AsyncServerClient(url, fake.api_key, transport=transport, timeout_s=timeout_s)
    user = AsyncUserClient(url, "app-id", fake.token(), transport=transport, timeout_s=timeout_s)
    try:
        return await _async_result(_client_calls(server, user)[call])
    finally:
        await transport.aclose()


def _client_result(
    shared: SharedResources, rule: Rule, mode: ClientMode, loop: str, timeout_s: float, call: str
) -> CallResult:
    with fake_with_rule(shared, mode, rule) as fake:
        if loop == "sync":
            return _call_sync_client(fake, shared, mode, timeout_s, call)
        call_client = partial(_call_async_client, fake, shared, mode, timeout_s, call)
        return anyio.run(call_client, backend=loop)


def _is_independent(name: str) -> bool:
    """Return whether a case needs only one client call."""
    return name.split()[0] not in ("hold_at_gate", "rate_limit", "stale_read")


@pytest.mark.usefixtures("only_reads_time_out")
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("name", [name for name in EFFECT_CASES if _is_independent(name)])
def test_clients_behave_the_same_in_process_and_live(shared: SharedResources, name: str, loop: str) -> None:
    """The errors have the same type, and so do their causes."""
    case = EFFECT_CASES[name]
    timeout_s = SHORT_TIMEOUT_S if case.outcome == "timeout" else TIMEOUT_S
    in_process, live = (
        _client_result(shared, case.rule, mode, loop, timeout_s, case.call) for mode in ("in-process", "live")
    )
    assert in_process == live
    if case.outcome != "whole":
        error_type = "Timeout" if case.outcome == "timeout" else "ConnectionLost"
        assert live == (error_type, f"httpx2.{_expected_error(name)}")


@pytest.mark.usefixtures("only_reads_time_out")
@pytest.mark.parametrize("name", ["reset before", "close before", "hang before", "garbage", "truncate at 0"])
@pytest.mark.parametrize("loop", LOOPS)
def test_user_client_and_server_client_raise_the_same_error(shared: SharedResources, name: str, loop: str) -> None:
    results = [
        _client_result(shared, EFFECT_CASES[name].rule, mode, loop, _timeout_s(name), call)
        for mode in ("in-process", "live")
        for call in ("balance", "own balance")
    ]
    assert len(set(results)) == 1
    assert results[0][1] == f"httpx2.{_expected_error(name)}"


@pytest.mark.parametrize("rules", [[Truncate(5)], [Truncate(5, then="reset")], [Drip(3, 3)], [SchemaDrift()]], ids=str)
@pytest.mark.parametrize("loop", LOOPS)
def test_response_without_body_is_complete_wherever_it_is_cut(
    shared: SharedResources, rules: list[Effect], loop: str
) -> None:
    """The head is complete, so no client can detect the cut."""
    contract = replace(DEFAULT_CONTRACT, created_transaction="empty")
    for mode in ("in-process", "live"):
        options: dict[str, Any] = {"mode": mode, "contract": contract, "balance": 100, "faults": rules}
        with FakeCredits(shared=shared, **options) as fake:
            for stream in (False, True):
                setup = RequestSetup("httpx2", loop, options["mode"], warm=False, stream=stream)
                assert _outcome(setup, fake, _request_arguments("httpx2", fake, "close before")) == RequestOutcome(
                    "whole", 204
                )
