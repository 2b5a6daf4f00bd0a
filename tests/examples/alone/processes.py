import multiprocessing

import pytest

from fake_credits import FakeCredits, ServerClient


def spend(base_url: str, api_key: str) -> None:
    with ServerClient(base_url, api_key) as client:
        client.create_transaction("app-id", "ada", delta=-10, reason="consume")


@pytest.mark.fake_credits(users={"ada": 100})
def test_child_process_consumes_credits(fake_credits: FakeCredits) -> None:
    arguments = fake_credits.base_url, fake_credits.api_key
    child = multiprocessing.get_context("spawn").Process(target=spend, args=arguments)
    child.start()
    child.join(timeout=10)
    assert child.exitcode == 0
    assert fake_credits.balance("ada") == 90
