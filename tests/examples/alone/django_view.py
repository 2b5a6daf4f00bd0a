import pytest
from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.test import TestCase, override_settings
from django.urls import path

from fake_credits import FakeCredits, ServerClient


def left(request: HttpRequest, user_id: str) -> JsonResponse:
    with ServerClient(settings.CREDITS_URL, settings.CREDITS_KEY) as client:
        return JsonResponse({"left": client.get_balance("app-id", user_id).balance})


urlpatterns = [path("left/<user_id>", left)]


@pytest.mark.fake_credits(users={"ada": 100})
@override_settings(ROOT_URLCONF=__name__)
class TestLeft(TestCase):
    @pytest.fixture(autouse=True)
    def give_credits(self, fake_credits: FakeCredits) -> None:
        self.credits = fake_credits

    def test_what_is_left(self) -> None:
        assert self.client.get("/left/ada").json() == {"left": 100}
