import pytest
from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.test import TestCase, override_settings
from django.urls import path

from fake_credits import FakeCredits, ServerClient


def balance(request: HttpRequest, user_id: str) -> JsonResponse:
    with ServerClient(settings.CREDITS_URL, settings.CREDITS_KEY) as client:
        return JsonResponse({"balance": client.get_balance("app-id", user_id).balance})


urlpatterns = [path("balance/<user_id>", balance)]


@pytest.mark.fake_credits(users={"ada": 100})
@override_settings(ROOT_URLCONF=__name__)
class TestBalanceView(TestCase):
    @pytest.fixture(autouse=True)
    def set_credits(self, fake_credits: FakeCredits) -> None:
        self.credits = fake_credits

    def test_view_returns_balance(self) -> None:
        assert self.client.get("/balance/ada").json() == {"balance": 100}
