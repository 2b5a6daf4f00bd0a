from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st
from pytest_fake_credits.factory import Factory

from fake_credits.errors import InsufficientCredits


@given(amounts=st.lists(st.integers(1, 60), max_size=5))
def test_balance_never_becomes_negative(fake_credits_factory: Factory, amounts: list[int]) -> None:
    with fake_credits_factory(users={"ada": 100}) as credits:
        for amount in amounts:
            with suppress(InsufficientCredits):
                credits.server_client.create_transaction("app-id", "ada", delta=-amount, reason="consume")
        assert credits.balance("ada") >= 0
