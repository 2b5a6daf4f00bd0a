"""Fixtures that run each behavior test under three contracts, over both drivers, with sync and async clients.

Every response is checked against the OpenAPI document of its contract.
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
from fake_credits.transports.in_process import (
    IN_PROCESS_BASE_URL,
    AsyncInProcessTransport,
    InProcessDriver,
    InProcessTransport,
)
from fake_credits.transports.shared_resources import SharedResources
from tests.api.conftest import assert_no_problem_but_unrouted
from tests.contract.openapi_checker import AsyncCheckedTransport, CheckedTransport, OpenApiChecker

APP = "app-id"
NOW = datetime(2026, 3, 1, 12, 30, 15, 678_000, UTC)

_FIXTURES = Path(__file__).parents[2] / "fixtures" / "contracts"
CONTRACTS = {
    "default": DEFAULT_CONTRACT,
    "stripe-manner": load_contract(_FIXTURES / "stripe-manner.toml"),
    "formance-manner": load_contract(_FIXTURES / "formance-manner.toml"),
}


class ClientSetup(NamedTuple):
    """The driver and the kind of client that a test uses."""

    driver: Literal["in-process", "live"]
    clients: Literal["sync", "async"]


CLIENT_SETUPS = [
    ClientSetup("in-process", "sync"),
    ClientSetup("live", "sync"),
    ClientSetup("in-process", "async"),
    ClientSetup("live", "async"),
]


class _BlockingClient:
    """A blocking wrapper around an async client, so that sync and async clients share the tests."""

    def __init__(self, client: object, runner: asyncio.Runner) -> None:
        self._client = client
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            return self._runner.run(_collect(result) if hasattr(result, "__anext__") else result)

        return call


async def _collect(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


class ApiEnvironment:
    """A fresh sandbox under one contract with a frozen clock, and factories for its clients."""

    def __init__(self, fake: FakeCredits, setup: ClientSetup, driver: InProcessDriver, checker: OpenApiChecker) -> None:
        self.fake = fake
        self.contract = fake.sandbox.contract
        self.documented = checker
        self._setup = setup
        self._runner = asyncio.Runner()
        in_process = setup.driver == "in-process"
        self._url = IN_PROCESS_BASE_URL if in_process else fake.base_url
        sync_transport = InProcessTransport(driver) if in_process else NetworkTransport(self._url)
        async_transport = AsyncInProcessTransport(driver) if in_process else AsyncNetworkTransport(self._url)
        self._sync, self._async = (
            CheckedTransport(sync_transport, checker),
            AsyncCheckedTransport(async_transport, checker),
        )

    def close(self) -> None:
        self._sync.close()
        if self._setup.clients == "async":
            self._runner.run(self._async.aclose())
        self._runner.close()

    @property
    def server(self) -> ServerClient:
        return self.server_with(self.fake.api_key)

    def server_with(self, key: str, contract: Contract | None = None) -> ServerClient:
        """Return a server client with the given key and, optionally, another contract."""
        contract = contract or self.contract
        if self._setup.clients == "sync":
            return ServerClient(self._url, key, contract=contract, transport=self._sync)
        client = AsyncServerClient(self._url, key, contract=contract, transport=self._async)
        return cast("ServerClient", _BlockingClient(client, self._runner))

    def server_with_user_token(self, token: str) -> ServerClient:
        """Return a server client that sends a user token instead of the API key."""
        return self.server_with(token, replace(self.contract, api_key=self.contract.user_token))

    def user(self, user_id: str = "ada", application_id: str = APP) -> UserClient:
        return self.user_with(self.fake.token(user_id), application_id)

    def user_with(self, token: str, application_id: str = APP) -> UserClient:
        if self._setup.clients == "sync":
            return UserClient(self._url, application_id, token, contract=self.contract, transport=self._sync)
        client = AsyncUserClient(self._url, application_id, token, contract=self.contract, transport=self._async)
        return cast("UserClient", _BlockingClient(client, self._runner))


@pytest.fixture(params=["in-process", "live"])
def mode(request: pytest.FixtureRequest) -> ClientMode:
    """Return the driver."""
    param: ClientMode = request.param
    return param


@pytest.fixture(scope="session")
def shared() -> Iterator[SharedResources]:
    """Yield the resources shared by all sandboxes of the session."""
    shared = SharedResources()
    yield shared
    shared.close()


@pytest.fixture(scope="session")
def documents() -> dict[str, OpenApiChecker]:
    """Return the OpenAPI checker of each contract."""
    return {name: OpenApiChecker(contract) for name, contract in CONTRACTS.items()}


def _environment_params() -> list[Any]:
    """Return every contract with every client setup; most async combinations are marked as slow."""
    params: list[Any] = []
    for name in CONTRACTS:
        for setup in CLIENT_SETUPS:
            is_fast = setup.clients == "sync" or (name, setup.driver) == ("default", "in-process")
            marks = () if is_fast else pytest.mark.slow
            params.append(pytest.param((name, setup), marks=marks, id="-".join((name, *setup))))
    return params


@pytest.fixture(params=_environment_params())
def env(
    request: pytest.FixtureRequest, shared: SharedResources, documents: dict[str, OpenApiChecker]
) -> Iterator[ApiEnvironment]:
    """Yield an environment; afterwards, check that the fake has no problems and that some response was checked."""
    param: tuple[str, ClientSetup] = request.param
    name, setup = param
    with FakeCredits(mode=setup.driver, shared=shared, contract=CONTRACTS[name], clock=NOW) as fake:
        checker = documents[name]
        before = checker.check_count
        env = ApiEnvironment(fake, setup, InProcessDriver(shared.app(CONTRACTS[name]), fake.sandbox), checker)
        yield env
        env.close()
        assert_no_problem_but_unrouted(fake)
        assert checker.check_count > before
