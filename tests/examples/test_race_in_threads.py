from concurrent.futures import ThreadPoolExecutor

import pytest

from fake_credits import FakeCredits
from fake_credits.errors import InsufficientCredits


def spend_last_credit(credits: FakeCredits) -> str:
    try:
        credits.server_client.create_transaction("app-id", "ada", delta=-1, reason="consume")
    except InsufficientCredits:
        return "refused"
    return "paid"


@pytest.mark.fake_credits(users={"ada": 1})
def test_second_arrival_pays_first(fake_credits: FakeCredits) -> None:
    gate = fake_credits.hold("createTransaction", user="ada")
    with ThreadPoolExecutor() as pool:
        first = pool.submit(spend_last_credit, fake_credits)
        gate.wait_for(1)
        second = pool.submit(spend_last_credit, fake_credits)
        gate.wait_for(2)
        gate.release(order=[1, 0])
    assert (first.result(), second.result()) == ("refused", "paid")
