import pytest

from fake_credits import FakeCredits
from fake_credits.errors import ConnectionLost
from fake_credits.faults import Close, Reset


@pytest.mark.fake_credits(users={"ada": 100})
def test_added_rule_counts_its_calls(fake_credits: FakeCredits) -> None:
    rule = fake_credits.faults.add(Reset(), "getBalance", user="ada", nth=2)
    fake_credits.server_client.get_balance("app-id", "ada")
    with pytest.raises(ConnectionLost):
        fake_credits.server_client.get_balance("app-id", "ada")
    assert (rule.matched, rule.fired) == (2, 1)


@pytest.mark.fake_credits(users={"ada": 100})
def test_fault_ends_with_block(fake_credits: FakeCredits) -> None:
    with fake_credits.faults(Close(), "reads"), pytest.raises(ConnectionLost):
        fake_credits.server_client.get_balance("app-id", "ada")
    assert fake_credits.server_client.get_balance("app-id", "ada").balance == 100
