"""Fixtures for contract tests: the raw HTTP client of the API tests, under any contract."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from fake_credits.clock import from_ms
from fake_credits.contract import DEFAULT_CONTRACT, Contract
from fake_credits.fake import ClientMode, FakeCredits
from fake_credits.transports.shared_resources import SharedResources
from tests.api.conftest import Api, assert_no_problem_but_unrouted

NOW_MS = 1_772_368_215_678
"""The time at which the clocks of these sandboxes are frozen: 2026-03-01T12:30:15.678Z."""


ApiFactory = Callable[..., Api]


@pytest.fixture(scope="session")
def shared() -> Iterator[SharedResources]:
    """Yield the resources shared by all sandboxes of the session."""
    shared = SharedResources()
    yield shared
    shared.close()


@pytest.fixture(params=["in-process", "live"])
def mode(request: pytest.FixtureRequest) -> ClientMode:
    """Return the mode of the client: in-process or live."""
    mode: ClientMode = request.param
    return mode


@pytest.fixture
def make_api(mode: ClientMode, shared: SharedResources) -> Iterator[ApiFactory]:
    """Yield a function that creates a client for the default contract with some settings changed."""
    with ExitStack() as stack:
        fakes: list[FakeCredits] = []

        def create(users: dict[str, int] | None = None, **settings: Any) -> Api:
            contract: Contract = replace(DEFAULT_CONTRACT, **settings)
            sandbox = FakeCredits(mode=mode, shared=shared, contract=contract, clock=from_ms(NOW_MS))
            fake = stack.enter_context(sandbox)
            for user, balance in (users or {}).items():
                fake.user(user, balance=balance)
            fakes.append(fake)
            if mode == "live":
                fake.serve()
            return Api(fake, mode, shared)

        yield create
        for fake in fakes:
            assert_no_problem_but_unrouted(fake)
