import pytest

from fake_credits import FakeCredits
from fake_credits.errors import Unavailable


@pytest.mark.fake_credits(users={"ada": 100}, faults=[{"script": [503, "ok"], "operation": "getBalance"}, "slow"])
def test_first_read_fails_and_second_succeeds(fake_credits: FakeCredits) -> None:
    with pytest.raises(Unavailable):
        fake_credits.server_client.get_balance("app-id", "ada")
    assert fake_credits.server_client.get_balance("app-id", "ada").balance == 100
