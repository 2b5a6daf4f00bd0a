"""Own where the behavioural tests run: three contracts, both drivers, sync and async clients; one text for all.

Every answer that a client gets here is checked against the OpenAPI document of its contract.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import pytest

from fake_credits.client.http import AsyncNetworkTransport, NetworkTransport
from fake_credits.client.server import AsyncServerClient, ServerClient
from fake_credits.client.user import AsyncUserClient, UserClient
from fake_credits.contract import DEFAULT_CONTRACT, Contract
from fake_credits.contract.loading import load_contract
from fake_credits.fake import ClientMode, FakeCredits
from fake_credits.transports.client_transports import AsyncInProcessTransport, InProcessTransport
from fake_credits.transports.in_process import IN_PROCESS_BASE_URL, InProcessDriver
from fake_credits.transports.shared_resources import SharedResources
from tests.contract.openapi_checker import AsyncCheckedTransport, CheckedTransport, OpenApiChecker

APP = "app-id"
NOW = datetime(2026, 3, 1, 12, 30, 15, 678_000, UTC)

_FIXTURES = Path(__file__).parents[2] / "fixtures" / "contracts"
CONTRACTS = {
    "default": DEFAULT_CONTRACT,
    "stripe-manner": load_contract(_FIXTURES / "stripe-manner.toml"),
    "formance-manner": load_contract(_FIXTURES / "formance-manner.toml"),
}


class Way(NamedTuple):
    """Say how the clients reach the API."""

    driver: Literal["in-process", "live"]
    clients: Literal["sync", "async"]


WAYS = [
    Way("in-process", "sync"),
    Way("live", "sync"),
    Way("in-process", "async"),
    Way("live", "async"),
]


class _Blocking:
    """Be an async client whose calls block, so that one text serves both."""

    def __init__(self, client: object, runner: asyncio.Runner) -> None:
        self._client = client
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*args: Any, **words: Any) -> Any:
            result = method(*args, **words)
            return self._runner.run(_all(result) if hasattr(result, "__anext__") else result)

        return call


async def _all(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


class World:
    """Be a fresh sandbox under one contract, at a clock that stands still, with clients that take one way to it."""

    def __init__(self, fake: FakeCredits, way: Way, driver: InProcessDriver, checker: OpenApiChecker) -> None:
        self.fake = fake
        self.contract = fake.sandbox.contract
        self.documented = checker
        self._way = way
        self._runner = asyncio.Runner()
        in_process = way.driver == "in-process"
        self._url = IN_PROCESS_BASE_URL if in_process else fake.base_url
        sync = InProcessTransport(driver) if in_process else NetworkTransport(self._url)
        twin = AsyncInProcessTransport(driver) if in_process else AsyncNetworkTransport(self._url)
        self._sync, self._async = CheckedTransport(sync, checker), AsyncCheckedTransport(twin, checker)

    def close(self) -> None:
        self._sync.close()
        if self._way.clients == "async":
            self._runner.run(self._async.aclose())
        self._runner.close()

    @property
    def server(self) -> ServerClient:
        return self.server_with(self.fake.api_key)

    def server_with(self, key: str, contract: Contract | None = None) -> ServerClient:
        """Return a client with another key, or one that believes in another contract."""
        contract = contract or self.contract
        if self._way.clients == "sync":
            return ServerClient(self._url, key, contract=contract, transport=self._sync)
        client = AsyncServerClient(self._url, key, contract=contract, transport=self._async)
        return cast("ServerClient", _Blocking(client, self._runner))

    def writer_with(self, token: str) -> ServerClient:
        """Return a client that can write and bears a user's token."""
        return self.server_with(token, replace(self.contract, api_key=self.contract.user_token))

    def user(self, user_id: str = "ada", application_id: str = APP) -> UserClient:
        return self.user_with(self.fake.token(user_id), application_id)

    def user_with(self, token: str, application_id: str = APP) -> UserClient:
        if self._way.clients == "sync":
            return UserClient(self._url, application_id, token, contract=self.contract, transport=self._sync)
        client = AsyncUserClient(self._url, application_id, token, contract=self.contract, transport=self._async)
        return cast("UserClient", _Blocking(client, self._runner))


@pytest.fixture(params=["in-process", "live"])
def mode(request: pytest.FixtureRequest) -> ClientMode:
    """Return each driver."""
    chosen: ClientMode = request.param
    return chosen


@pytest.fixture(scope="session")
def shared() -> Iterator[SharedResources]:
    """Yield what every sandbox of the session shares."""
    shared = SharedResources()
    yield shared
    shared.close()


@pytest.fixture(scope="session")
def documents() -> dict[str, OpenApiChecker]:
    """Return a checker for each contract."""
    return {name: OpenApiChecker(contract) for name, contract in CONTRACTS.items()}


def _worlds() -> list[Any]:
    """Return every contract by every way; async clients under a foreign contract are for the slow share."""
    worlds: list[Any] = []
    for name in CONTRACTS:
        for way in WAYS:
            quick = way.clients == "sync" or (name, way.driver) == ("default", "in-process")
            marks = () if quick else pytest.mark.slow
            worlds.append(pytest.param((name, way), marks=marks, id="-".join((name, *way))))
    return worlds


@pytest.fixture(params=_worlds())
def world(
    request: pytest.FixtureRequest, shared: SharedResources, documents: dict[str, OpenApiChecker]
) -> Iterator[World]:
    """Yield a world; at the end the fake must be sound, and something must have been checked."""
    chosen: tuple[str, Way] = request.param
    name, way = chosen
    with FakeCredits(mode=way.driver, shared=shared, contract=CONTRACTS[name], clock=NOW) as fake:
        checker = documents[name]
        before = checker.check_count
        world = World(fake, way, InProcessDriver(shared.app(CONTRACTS[name]), fake.sandbox), checker)
        yield world
        world.close()
        assert fake.problems() == []
        assert checker.check_count > before
