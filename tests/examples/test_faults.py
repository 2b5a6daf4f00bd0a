import pytest

from fake_credits import FakeCredits
from fake_credits.errors import ConnectionLost, Unavailable
from fake_credits.faults import Close, lost_response


@pytest.mark.fake_credits(users={"ada": 100})
def test_lost_response_leaves_write_committed(fake_credits: FakeCredits) -> None:
    rule = fake_credits.faults.add(lost_response(), "createTransaction", user="ada", nth=1)
    with pytest.raises(ConnectionLost):
        fake_credits.server_client.create_transaction("app-id", "ada", delta=-10, reason="consume")
    assert (fake_credits.balance("ada"), rule.fired) == (90, 1)


@pytest.mark.fake_credits(users={"ada": 100}, latency="lognormal(20, 200)", faults=[{"script": [503, "ok"]}, "flaky"])
def test_script_fires_before_random_faults(fake_credits: FakeCredits) -> None:
    with pytest.raises(Unavailable):
        fake_credits.server_client.get_balance("app-id", "ada")
    assert fake_credits.server_client.get_balance("app-id", "ada").balance == 100


@pytest.mark.fake_credits(users={"ada": 100})
def test_fault_ends_with_block(fake_credits: FakeCredits) -> None:
    with fake_credits.faults(Close(), "reads"), pytest.raises(ConnectionLost):
        fake_credits.server_client.get_balance("app-id", "ada")
    assert fake_credits.server_client.get_balance("app-id", "ada").balance == 100
