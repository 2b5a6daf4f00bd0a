import unittest

import pytest

from fake_credits import FakeCredits


class TestCheckout(unittest.TestCase):
    credits: FakeCredits

    @pytest.fixture(autouse=True)
    def set_credits(self, fake_credits: FakeCredits) -> None:
        self.credits = fake_credits

    @pytest.mark.fake_credits(users={"ada": 100})
    def test_marker_applies(self) -> None:
        assert self.credits.balance("ada") == 100
