"""Another server beside ours in one process: pytest-django's, whose views call the API."""

import pytest

from tests.plugin.conftest import Suite, suite

__all__ = ["suite"]  # pytest finds the fixture by its name here

SETTINGS = """
import os

SECRET_KEY = "of a test"
ROOT_URLCONF = "test_suite"
ALLOWED_HOSTS = ["*"]
STATIC_URL = "/static/"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
CREDITS_URL, CREDITS_KEY = os.environ["CREDITS_BASE_URL"], os.environ["CREDITS_API_KEY"]
"""

VIEWS = """
import pytest
import requests
from django.conf import settings
from django.http import JsonResponse
from django.urls import path

from fake_credits import ServerClient

def over_http(request, user_id):
    with ServerClient(settings.CREDITS_URL, settings.CREDITS_KEY) as client:
        return JsonResponse({"left": client.get_balance("app-id", user_id).balance})

def in_process(request, user_id):
    return JsonResponse({"left": settings.CREDITS.server_client.get_balance("app-id", user_id).balance})

urlpatterns = [path("http/<user_id>", over_http), path("process/<user_id>", in_process)]

@pytest.mark.parametrize("way", ["http", "process"])
@pytest.mark.parametrize("balance", [1, 2])
def test_left(live_server, fake_credits, settings, way, balance):
    settings.CREDITS = fake_credits
    fake_credits.user("ada", balance=balance)
    assert requests.get(f"{live_server.url}/{way}/ada", timeout=5).json() == {"left": balance}
"""


@pytest.mark.slow
def test_pytest_djangos_live_server(suite: Suite, pytester: pytest.Pytester) -> None:
    """Its views call the API over HTTP or in process, from their own threads."""
    pytester.makepyfile(shop_settings=SETTINGS)
    ini = "fake_credits_early_env = true\nDJANGO_SETTINGS_MODULE = shop_settings\npythonpath = ."
    suite(VIEWS, ini=ini, plugins=("pytest_django.plugin",), alone=True).assert_outcomes(passed=4)
