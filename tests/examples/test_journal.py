import threading

import pytest

from fake_credits import Call, FakeCredits, ServerClient


def buy(client: ServerClient, user: str) -> None:
    if client.get_balance("app-id", user).balance >= 10:
        client.create_transaction("app-id", user, delta=-10, reason="consume")


@pytest.mark.fake_credits(users={"ada": 15})
def test_purchase_reads_balance_before_charging(fake_credits: FakeCredits) -> None:
    buy(fake_credits.server_client, "ada")
    buy(fake_credits.server_client, "ada")
    journal = fake_credits.journal
    (charge,) = journal.assert_called("createTransaction", user="ada", delta=-10, times=1)
    assert charge.committed
    journal.assert_order("getBalance", Call("createTransaction", user="ada"), "getBalance")
    journal.assert_not_called(status=402)
    journal.assert_not_called("createTransaction", where=lambda call: (call.delta or 0) > 0)


@pytest.mark.fake_credits(users={"ada": 15})
def test_worker_charges_eventually(fake_credits: FakeCredits) -> None:
    worker = threading.Thread(target=buy, args=(fake_credits.server_client, "ada"))
    worker.start()
    fake_credits.journal.wait_for("createTransaction", user="ada", timeout_s=5)
    assert fake_credits.balance("ada") == 5
    worker.join()
