import pytest

from fake_credits import FakeCredits
from fake_credits.errors import ConnectionLost, Unavailable
from fake_credits.faults import Close, lost_response


@pytest.mark.fake_credits(users={"ada": 100})
def test_a_write_stands_and_its_answer_is_lost(fake_credits: FakeCredits) -> None:
    rule = fake_credits.faults.add(lost_response(), "createTransaction", user="ada", nth=1)
    with pytest.raises(ConnectionLost):
        fake_credits.server_client.create_transaction("app-id", "ada", delta=-10, reason="consume")
    assert (fake_credits.balance("ada"), rule.fired) == (90, 1)


@pytest.mark.fake_credits(users={"ada": 100}, latency="lognormal(20, 200)", faults=[{"script": [503, "ok"]}, "flaky"])
def test_a_script_comes_before_chance(fake_credits: FakeCredits) -> None:
    with pytest.raises(Unavailable):
        fake_credits.server_client.get_balance("app-id", "ada")
    assert fake_credits.server_client.get_balance("app-id", "ada").balance == 100


@pytest.mark.fake_credits(users={"ada": 100})
def test_a_bad_moment_is_over_at_the_end_of_a_block(fake_credits: FakeCredits) -> None:
    with fake_credits.faults(Close(), "reads"), pytest.raises(ConnectionLost):
        fake_credits.server_client.get_balance("app-id", "ada")
    assert fake_credits.server_client.get_balance("app-id", "ada").balance == 100
