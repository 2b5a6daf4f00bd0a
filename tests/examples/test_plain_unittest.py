import unittest

from fake_credits import FakeCredits


class TestCheckout(unittest.TestCase):
    def setUp(self) -> None:
        self.credits = FakeCredits(users={"ada": 100})
        self.addCleanup(self.credits.close)

    def test_each_test_has_its_own_sandbox(self) -> None:
        self.credits.server_client.create_transaction("app-id", "ada", delta=-10, reason="consume")
        assert self.credits.balance("ada") == 90
        assert self.credits.problems() == []
