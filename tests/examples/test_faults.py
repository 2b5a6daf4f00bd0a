import pytest

from fake_credits import FakeCredits
from fake_credits.errors import ConnectionLost
from fake_credits.faults import Close, lost_response


@pytest.mark.fake_credits(users={"ada": 100})
def test_second_write_loses_its_response(fake_credits: FakeCredits) -> None:
    rule = fake_credits.faults.add(lost_response(), "createTransaction", nth=2)
    fake_credits.server_client.create_transaction("app-id", "ada", delta=-10, reason="consume")
    with pytest.raises(ConnectionLost):
        fake_credits.server_client.create_transaction("app-id", "ada", delta=-10, reason="consume")
    assert fake_credits.balance("ada") == 80
    assert (rule.matched, rule.fired) == (2, 1)


@pytest.mark.fake_credits(users={"ada": 100})
def test_fault_ends_with_block(fake_credits: FakeCredits) -> None:
    with fake_credits.faults(Close(), "reads"), pytest.raises(ConnectionLost):
        fake_credits.server_client.get_balance("app-id", "ada")
    assert fake_credits.server_client.get_balance("app-id", "ada").balance == 100
