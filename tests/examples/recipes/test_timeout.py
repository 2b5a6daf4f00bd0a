import pytest

from fake_credits import FakeCredits
from fake_credits.errors import Timeout
from fake_credits.faults import Latency


@pytest.mark.fake_credits(users={"ada": 100}, clock="frozen", faults=Latency(40_000))
def test_call_times_out_after_30_virtual_seconds(fake_credits: FakeCredits) -> None:
    started_at = fake_credits.clock.now()
    with pytest.raises(Timeout):
        fake_credits.server_client.get_balance("app-id", "ada")
    assert (fake_credits.clock.now() - started_at).total_seconds() == 30
