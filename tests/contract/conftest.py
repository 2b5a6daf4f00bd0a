"""Own a harness for any contract: bytes over both drivers, each answer checked against the contract's document."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from fake_credits.client.transport import Answer
from fake_credits.clock import from_ms
from fake_credits.contract import DEFAULT, Contract
from fake_credits.drivers.in_process import Outgoing
from fake_credits.drivers.shared import Shared
from fake_credits.fake import FakeCredits, Mode
from tests.api.conftest import Api, Got
from tests.contract.documented import Documented

NOW_MS = 1_772_368_215_678
"""The moment at which the clock of these sandboxes stands still: 2026-03-01T12:30:15.678Z."""


class CheckedApi(Api):
    """Ask one sandbox over one driver; an answer that the contract's document does not describe is a failure."""

    def __init__(self, fake: FakeCredits, mode: Mode, shared: Shared) -> None:
        super().__init__(fake, mode, shared)
        self._documented = Documented(self.contract)

    def send(self, request: Outgoing) -> Got:
        got = super().send(request)
        if request.method != "OPTIONS":
            headers = tuple((name.encode(), value.encode("latin-1")) for name, value in got.headers)
            self._documented.check(request.method, request.target.decode(), Answer(got.status, headers, got.body))
        return got


Under = Callable[..., CheckedApi]


@pytest.fixture(scope="session")
def shared() -> Iterator[Shared]:
    """Yield what every sandbox of the session shares."""
    shared = Shared()
    yield shared
    shared.close()


@pytest.fixture(params=["in-process", "live"])
def mode(request: pytest.FixtureRequest) -> Mode:
    """Return how the test reaches the API."""
    mode: Mode = request.param
    return mode


@pytest.fixture
def under(mode: Mode, shared: Shared) -> Iterator[Under]:
    """Yield a function that makes an API under the default contract but for some settings."""
    with ExitStack() as stack:
        fakes: list[FakeCredits] = []

        def make(users: dict[str, int] | None = None, **settings: Any) -> CheckedApi:
            contract: Contract = replace(DEFAULT, **settings)
            made = FakeCredits(mode=mode, shared=shared, contract=contract, clock=from_ms(NOW_MS))
            fake = stack.enter_context(made)
            for user, balance in (users or {}).items():
                fake.user(user, balance=balance)
            fakes.append(fake)
            if mode == "live":
                fake.serve()
            return CheckedApi(fake, mode, shared)

        yield make
        for fake in fakes:
            assert fake.problems() == []
