"""Test pytest-django's live server, running in the same process, with views that call the API."""

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

def balance_over_http(request, user_id):
    with ServerClient(settings.CREDITS_URL, settings.CREDITS_KEY) as client:
        return JsonResponse({"balance": client.get_balance("app-id", user_id).balance})

def balance_in_process(request, user_id):
    return JsonResponse({"balance": settings.CREDITS.server_client.get_balance("app-id", user_id).balance})

urlpatterns = [path("http/<user_id>", balance_over_http), path("process/<user_id>", balance_in_process)]

@pytest.mark.parametrize("route", ["http", "process"])
@pytest.mark.parametrize("balance", [1, 2])
def test_view_returns_balance(live_server, fake_credits, settings, route, balance):
    settings.CREDITS = fake_credits
    fake_credits.user("ada", balance=balance)
    assert requests.get(f"{live_server.url}/{route}/ada", timeout=5).json() == {"balance": balance}
"""


@pytest.mark.slow
def test_pytest_djangos_live_server(suite: Suite, pytester: pytest.Pytester) -> None:
    """Django views call the API over HTTP and in process, from their own threads."""
    pytester.makepyfile(shop_settings=SETTINGS)
    ini = "fake_credits_early_env = true\nDJANGO_SETTINGS_MODULE = shop_settings\npythonpath = ."
    suite(VIEWS, ini=ini, plugins=("pytest_django.plugin",), alone=True).assert_outcomes(passed=4)
