from collections.abc import Iterator

import pytest
from pytest_fake_credits.factory import Factory

from fake_credits import FakeCredits


@pytest.fixture(scope="module")
def shop(fake_credits_factory: Factory) -> Iterator[FakeCredits]:
    with fake_credits_factory(users={"ada": 100}) as credits:
        yield credits


@pytest.fixture(scope="class")
def desk(fake_credits_factory: Factory) -> Iterator[FakeCredits]:
    with fake_credits_factory(users={"bob": 5}) as credits:
        yield credits


def test_all_tests_of_the_module_share_it(shop: FakeCredits) -> None:
    assert shop.balance("ada") == 100


class TestRefunds:
    @pytest.mark.parametrize("delta", [1, 2])
    def test_each_takes_it_back_to_its_start(self, desk: FakeCredits, delta: int) -> None:
        desk.reset()
        desk.server_client.create_transaction("app-id", "bob", delta=delta, reason="refund")
        assert desk.balance("bob") == 5 + delta
