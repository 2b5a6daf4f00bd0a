import pytest

from fake_credits import FakeCredits
from fake_credits.errors import Timeout
from fake_credits.faults import Latency


@pytest.mark.fake_credits(users={"ada": 100})
def test_write_lands_after_its_client_has_timed_out(fake_credits: FakeCredits) -> None:
    fake_credits.faults.add(Latency(40_000), "createTransaction", nth=1)
    with pytest.raises(Timeout):
        fake_credits.server_client.create_transaction("app-id", "ada", delta=-10, reason="consume")
    assert fake_credits.balance("ada") == 100  # the write is still on its way
    fake_credits.settle()
    assert fake_credits.balance("ada") == 90
