from concurrent.futures import ThreadPoolExecutor

import pytest

from fake_credits import FakeCredits


@pytest.mark.fake_credits(users={"ada": 1})
def test_only_one_of_two_calls_gets_the_last_credit(fake_credits: FakeCredits) -> None:
    gate, spend = fake_credits.hold("createTransaction"), fake_credits.server_client.create_transaction
    with ThreadPoolExecutor() as pool:
        calls = [pool.submit(spend, "app-id", "ada", delta=-1, reason="consume") for _ in range(2)]
        gate.wait_for(2)
        gate.release(order=[1, 0])
    assert [bool(call.exception()) for call in calls].count(True) == 1
