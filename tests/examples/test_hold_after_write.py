from concurrent.futures import ThreadPoolExecutor

import pytest

from fake_credits import FakeCredits


@pytest.mark.fake_credits(users={"ada": 100})
def test_balance_changes_before_the_writer_is_answered(fake_credits: FakeCredits) -> None:
    client = fake_credits.server_client
    gate = fake_credits.hold("createTransaction", phase="after")
    with ThreadPoolExecutor() as pool:
        write = pool.submit(client.create_transaction, "app-id", "ada", delta=-10, reason="consume")
        gate.wait_for(1)
        assert client.get_balance("app-id", "ada").balance == 90
        assert not write.done()
        gate.release()
    assert write.result().delta == -10
