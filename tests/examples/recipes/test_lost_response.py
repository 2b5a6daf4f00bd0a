import pytest

from fake_credits import FakeCredits
from fake_credits.errors import ConnectionLost
from fake_credits.faults import lost_response


@pytest.mark.fake_credits(users={"ada": 100}, faults=lost_response())
def test_lost_response_leaves_the_write_committed(fake_credits: FakeCredits) -> None:
    with pytest.raises(ConnectionLost):
        fake_credits.server_client.create_transaction("app-id", "ada", delta=-10, reason="consume")
    assert fake_credits.balance("ada") == 90
