from contextlib import suppress

import pytest

from fake_credits import FakeCredits
from fake_credits.errors import FakeCreditsError
from fake_credits.faults import Rule, catalogue


@pytest.mark.fake_credits(users={"ada": 100})
@pytest.mark.parametrize("rule", catalogue("createTransaction"))
def test_purchase_is_charged_at_most_twice(fake_credits: FakeCredits, rule: Rule) -> None:
    fake_credits.faults.add(rule)
    with suppress(FakeCreditsError):
        fake_credits.server_client.create_transaction("app-id", "ada", delta=-10, reason="consume")
    assert fake_credits.balance("ada") in (100, 90, 80)
