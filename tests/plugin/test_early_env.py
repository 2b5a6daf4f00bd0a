"""The early environment: variables that an application can read at import."""

import os

import pytest
from pytest_fake_credits.config_options import ENV_FIELDS
from pytest_fake_credits.early_env import EARLY_VALUES

from tests.plugin.conftest import Suite

EARLY_ENV = "fake_credits_early_env = true"

DJANGO_SETTINGS = """
import os

SECRET_KEY = "of a test"
USE_TZ = True
CREDITS = {name: os.environ[f"CREDITS_{name}"] for name in ("BASE_URL", "API_KEY", "USER_TOKEN")}
"""

APPLICATION = """
import requests
from django.conf import settings

CREDITS = settings.CREDITS


def balance(key=CREDITS["API_KEY"]):
    path = "/v1/applications/app-id/users/user-id/balance"
    return requests.get(CREDITS["BASE_URL"] + path, headers={"X-API-Key": key}, timeout=5)


def own_balance(token=CREDITS["USER_TOKEN"]):
    path = "/v1/applications/app-id/users/user-id/balance"
    return requests.get(CREDITS["BASE_URL"] + path, headers={"Authorization": f"Bearer {token}"}, timeout=5)
"""

DJANGO_SUITE = """
import pytest
from django.conf import settings

import application

pytestmark = pytest.mark.usefixtures("fake_credits")


@pytest.mark.parametrize("number", range(4))
def test_each_test_has_a_new_sandbox(fake_credits, number):
    assert application.balance().status_code == application.own_balance().status_code == 404
    fake_credits.user("user-id", balance=number)
    assert application.balance().json() == application.own_balance().json() == {"balance": number}
    assert [entry.client for entry in fake_credits.journal.entries()] == ["server", "user"] * 2
    assert fake_credits.base_url == settings.CREDITS["BASE_URL"]


@pytest.mark.fake_credits(balance=5)
def test_token_of_the_env_fixture_is_accepted(fake_credits, fake_credits_env):
    assert fake_credits_env["CREDITS_BASE_URL"] == settings.CREDITS["BASE_URL"]
    assert fake_credits_env["CREDITS_API_KEY"] == settings.CREDITS["API_KEY"]
    assert application.own_balance(fake_credits_env["CREDITS_USER_TOKEN"]).json() == {"balance": 5}


def test_server_uses_the_early_signing_keys(fake_credits, fake_credits_env):
    import os, jwt
    public = os.environ["CREDITS_JWT_PUBLIC_KEY"]
    assert jwt.decode(settings.CREDITS["USER_TOKEN"], public, ["ES256"])["sub"] == "user-id"
"""


@pytest.mark.slow
def test_django_settings_at_import_work_with_two_workers(suite: Suite, pytester: pytest.Pytester) -> None:
    """Each worker has a separate port; its key and token are accepted by each test's new sandbox."""
    pytester.makepyfile(shop_settings=DJANGO_SETTINGS, application=APPLICATION)
    ini = f"{EARLY_ENV}\nDJANGO_SETTINGS_MODULE = shop_settings\npythonpath = ."
    conftest = "import application"  # as early as a suite can import it
    result = suite(
        DJANGO_SUITE, "-n2", conftest=conftest, ini=ini, plugins=("xdist", "pytest_django.plugin"), alone=True
    )
    result.assert_outcomes(passed=6)


def test_early_values_match_the_env_fields() -> None:
    """Every placeholder of ``fake_credits_env`` is available early."""
    assert list(EARLY_VALUES) == list(ENV_FIELDS)


REPORT_MODULES = """
import os, sys

def pytest_sessionfinish():
    names = {name.partition(".")[0] for name in sys.modules}
    print("HEAVY", *sorted(names & {"starlette", "uvicorn", "httpx2", "msgspec", "jwt", "cryptography", "asyncio"}))
    print("URL", os.environ["URL"])
"""


@pytest.mark.parametrize(("line", "heavy"), [("KEY={api_key}", ""), ("TOKEN={user_token}", " cryptography jwt")])
def test_only_modules_that_the_variables_need_are_loaded(suite: Suite, line: str, heavy: str) -> None:
    """The port needs only the standard library; a token needs cryptography, but no server."""
    ini = f"{EARLY_ENV}\nfake_credits_env =\n    URL={{base_url}}\n    {line}"
    result = suite("def test_nothing(): pass", conftest=REPORT_MODULES, ini=ini, alone=True)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines_random([f"*HEAVY{heavy}", "URL http://127.0.0.1:*"])


@pytest.mark.parametrize(
    ("ini", "message"),
    [
        ("fake_credits_early_env = perhaps", "ini option fake_credits_early_env must be true or false: *'perhaps'"),
        (
            f"{EARLY_ENV}\nfake_credits_auth_provider = clark",
            "unknown auth provider 'clark'; use one of plain, clerk, *",
        ),
        (
            f"{EARLY_ENV}\nfake_credits_env = A={{url}}",
            "ini option fake_credits_env: 'A={url}' does not have the form *",
        ),
    ],
)
def test_invalid_option_is_a_usage_error(suite: Suite, ini: str, message: str) -> None:
    """The error names the option and is raised before anything is loaded."""
    result = suite("def test_nothing(): pass", ini=ini)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: fake-credits: {message}"])


def test_plugin_loaded_by_conftest_is_a_usage_error(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin can't set the environment before the conftest that loads it runs."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeini(f"[pytest]\n{EARLY_ENV}")
    pytester.makeconftest("pytest_plugins = ['pytest_fake_credits']")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: fake-credits: *ini option fake_credits_early_env requires the plugin to be loaded before conftests"]
    )


@pytest.mark.parametrize("ini", [EARLY_ENV, "fake_credits_seed = 1"], ids=["early", "session"])
def test_token_names_the_server_as_issuer(suite: Suite, ini: str) -> None:
    source = """
    import os, jwt, pytest, requests

    @pytest.fixture(scope="session")
    def token(fake_credits_factory):
        return os.environ.get("CREDITS_USER_TOKEN") or fake_credits_factory.token()

    def test_token(token, fake_credits):
        assert jwt.decode(token, options={"verify_signature": False})["iss"] == fake_credits.base_url
        fake_credits.user("user-id", balance=1)
        path = "/v1/applications/app-id/users/user-id/balance"
        response = requests.get(fake_credits.base_url + path, headers={"Authorization": f"Bearer {token}"}, timeout=5)
        assert response.json() == {"balance": 1}
    """
    suite(source, ini=f"{ini}\nfake_credits_issuer = server").assert_outcomes(passed=1)


def test_auth_provider_option_applies_to_the_early_token(suite: Suite) -> None:
    """The token is valid for a day, however short the provider's token lifetime is."""
    source = """
    import os, jwt, requests

    def test_token(fake_credits):
        token = os.environ["CREDITS_USER_TOKEN"]
        claims = jwt.decode(token, os.environ["CREDITS_JWT_PUBLIC_KEY"], ["RS256"])
        assert claims["iss"] == "https://fake-credits.clerk.accounts.dev"
        assert claims["exp"] - claims["iat"] == 86400
        fake_credits.user("user-id", balance=1)
        path = "/v1/applications/app-id/users/user-id/balance"
        response = requests.get(fake_credits.base_url + path, headers={"Authorization": f"Bearer {token}"}, timeout=5)
        assert response.json() == {"balance": 1}
    """
    suite(source, ini=f"{EARLY_ENV}\nfake_credits_auth_provider = clerk").assert_outcomes(passed=1)


ORDERED_SUITE = """
import os

import pytest
import requests

URL, KEY = os.environ["CREDITS_BASE_URL"], os.environ["CREDITS_API_KEY"]


def call(path="/v1/applications/app-id/users/ada/balance"):
    return requests.get(URL + path, headers={"X-API-Key": KEY}, timeout=5)


def test_no_server_before_the_first_sandbox():
    with pytest.raises(requests.ConnectionError, match="refused"):
        call()


@pytest.mark.fake_credits(users={"ada": 3}, contract="CONTRACT")
def test_other_contract_has_another_server(fake_credits):
    assert fake_credits.base_url != URL
    assert call().status_code == 401


@pytest.mark.fake_credits(users={"ada": 3})
def test_sandbox_serves_the_url_of_the_environment(fake_credits):
    assert call().json() == {"balance": 3}
    assert os.environ["NO_PROXY"].endswith("::1")


def test_key_is_unknown_without_a_sandbox():
    assert call().headers["X-Fake-Credits-Cause"] == "auth:unknown_key"


def test_two_sandboxes_cannot_share_the_key(fake_credits_factory):
    with fake_credits_factory(api_key=KEY, users={"ada": 4}):
        assert call().json() == {"balance": 4}
        with pytest.raises(ValueError, match="the API key is in use by sandbox .*, which is already attached"):
            fake_credits_factory(api_key=KEY)
    assert [watched.fake for watched in fake_credits_factory.open_sandboxes()] == []
"""


def test_server_starts_with_the_first_sandbox_and_reuses_the_key(
    suite: Suite, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment is restored at the end of the session."""
    for name in ENV_FIELDS.values():
        monkeypatch.setenv(name, "as it was")
    contract = pytester.path / "small.toml"
    contract.write_text("version = 1\npage_size = 1\n", encoding="utf-8")
    before = {**os.environ, "PYTEST_CURRENT_TEST": ""}
    suite(ORDERED_SUITE.replace("CONTRACT", str(contract)), ini=EARLY_ENV).assert_outcomes(passed=5)
    assert {**os.environ, "PYTEST_CURRENT_TEST": ""} == before


def test_session_token_is_accepted_by_every_tests_sandbox(suite: Suite) -> None:
    """This works in process and live, for any user, and without the early environment."""
    source = """
    import httpx2, pytest, requests

    URL = "/v1/applications/app-id/users/ada/balance"

    @pytest.fixture(scope="session")
    def headers(fake_credits_factory):
        return {"Authorization": "Bearer " + fake_credits_factory.token("ada")}

    @pytest.mark.parametrize("balance", [1, 2])
    def test_token(fake_credits, headers, balance):
        fake_credits.user("ada", balance=balance)
        with httpx2.Client(base_url="https://credits.internal", transport=fake_credits.transport("httpx2")) as client:
            assert client.get(URL, headers=headers).json() == {"balance": balance}
        assert requests.get(fake_credits.base_url + URL, headers=headers, timeout=5).json() == {"balance": balance}
    """
    suite(source).assert_outcomes(passed=2)
