import asyncio

import pytest
from shop import Shop

from fake_credits import FakeCredits
from fake_credits.faults import lost_response


@pytest.mark.fake_credits(users={"ada": 100}, clock="2026-01-01T12:00:00Z")
def test_lost_response_is_not_charged_again(fake_credits: FakeCredits) -> None:
    fake_credits.faults.add(lost_response(), nth=1)
    asyncio.run(Shop(fake_credits.async_server_client).buy("ada"))
    assert fake_credits.balance("ada") == 60
