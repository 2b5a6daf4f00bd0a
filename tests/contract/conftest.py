"""Own a harness for any contract: bytes over both drivers, as the API's own tests have it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from fake_credits.clock import from_ms
from fake_credits.contract import DEFAULT_CONTRACT, Contract
from fake_credits.fake import ClientMode, FakeCredits
from fake_credits.transports.shared_resources import SharedResources
from tests.api.conftest import Api

NOW_MS = 1_772_368_215_678
"""The moment at which the clock of these sandboxes stands still: 2026-03-01T12:30:15.678Z."""


Under = Callable[..., Api]


@pytest.fixture(scope="session")
def shared() -> Iterator[SharedResources]:
    """Yield what every sandbox of the session shares."""
    shared = SharedResources()
    yield shared
    shared.close()


@pytest.fixture(params=["in-process", "live"])
def mode(request: pytest.FixtureRequest) -> ClientMode:
    """Return how the test reaches the API."""
    mode: ClientMode = request.param
    return mode


@pytest.fixture
def under(mode: ClientMode, shared: SharedResources) -> Iterator[Under]:
    """Yield a function that makes an API under the default contract but for some settings."""
    with ExitStack() as stack:
        fakes: list[FakeCredits] = []

        def make(users: dict[str, int] | None = None, **settings: Any) -> Api:
            contract: Contract = replace(DEFAULT_CONTRACT, **settings)
            made = FakeCredits(mode=mode, shared=shared, contract=contract, clock=from_ms(NOW_MS))
            fake = stack.enter_context(made)
            for user, balance in (users or {}).items():
                fake.user(user, balance=balance)
            fakes.append(fake)
            if mode == "live":
                fake.serve()
            return Api(fake, mode, shared)

        yield make
        for fake in fakes:
            assert fake.problems() == []
