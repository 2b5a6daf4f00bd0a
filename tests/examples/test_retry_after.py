import pytest
import tenacity

from fake_credits import FakeCredits, ServerClient
from fake_credits.errors import Unavailable
from fake_credits.faults import Status


def read_balance(client: ServerClient, retrying: tenacity.Retrying) -> int:
    return retrying(client.get_balance, "app-id", "ada").balance


@pytest.mark.fake_credits(users={"ada": 100}, clock="frozen")
def test_retries_take_a_minute_of_virtual_time(fake_credits: FakeCredits) -> None:
    fake_credits.faults.add(Status(503), "getBalance", first=2)
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(Unavailable),
        wait=tenacity.wait_fixed(30),
        stop=tenacity.stop_after_attempt(3),
        sleep=fake_credits.sleep,  # time.sleep in production
    )
    started_at = fake_credits.clock.now()
    assert read_balance(fake_credits.server_client, retrying) == 100
    assert (fake_credits.clock.now() - started_at).total_seconds() == 60
