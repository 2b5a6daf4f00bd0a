from collections.abc import Iterator

import pytest
from pytest_fake_credits.factory import Factory

from fake_credits import FakeCredits


@pytest.fixture(scope="module")
def module_credits(fake_credits_factory: Factory) -> Iterator[FakeCredits]:
    with fake_credits_factory(users={"ada": 100}) as credits:
        yield credits


@pytest.fixture(scope="class")
def class_credits(fake_credits_factory: Factory) -> Iterator[FakeCredits]:
    with fake_credits_factory(users={"bob": 5}) as credits:
        yield credits


def test_sandbox_is_shared_by_module(module_credits: FakeCredits) -> None:
    assert module_credits.balance("ada") == 100


class TestRefunds:
    @pytest.mark.parametrize("delta", [1, 2])
    def test_reset_restores_initial_balance(self, class_credits: FakeCredits, delta: int) -> None:
        class_credits.reset()
        class_credits.server_client.create_transaction("app-id", "bob", delta=delta, reason="refund")
        assert class_credits.balance("bob") == 5 + delta
