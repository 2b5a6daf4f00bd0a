"""The plugin's fixtures in a downstream suite."""

import pytest

from tests.plugin.conftest import Suite

END_REPORT = """
import threading

SANDBOXES = []
BEFORE = set(threading.enumerate())


def pytest_unconfigure():
    serving = any(thread.name == "fake-credits-server" for thread in set(threading.enumerate()) - BEFORE)
    print(f"ENDED closed={SANDBOXES[0].sandbox.is_closed} serving={serving}")
"""

FIXTURES = """
import os
import urllib.request

import pytest

from fake_credits.errors import UserNotFound


@pytest.fixture(scope="module")
def shared(fake_credits_factory):
    with fake_credits_factory(balance=7, seed=3) as credits:
        yield credits


@pytest.fixture(scope="module")
def url(fake_credits_server):
    return fake_credits_server.base_url


class TestFresh:
    def test_first(self, fake_credits, fake_credits_server_client):
        fake_credits_server_client.create_user("app-id", "ada")
        assert [entry.operation for entry in fake_credits.journal] == ["createUser"]

    def test_second(self, fake_credits, fake_credits_server_client):
        with pytest.raises(UserNotFound):
            fake_credits_server_client.get_balance("app-id", "ada")
        assert len(fake_credits.journal) == 1


def test_user_client_has_a_user(fake_credits_user_client, fake_credits_server_client):
    fake_credits_server_client.create_transaction("app-id", "user-id", delta=5, reason="grant")
    assert fake_credits_user_client.get_balance("user-id").balance == 5


def test_shared_is_written(shared):
    shared.server_client.create_transaction("app-id", "user-id", delta=-3, reason="consume")


def test_shared_is_read(shared, fake_credits):
    assert (shared.balance(), shared.sandbox.seed, shared.user_id) == (4, 3, "user-id")
    assert shared.sandbox is not fake_credits.sandbox


def _balance(url, key):
    request = urllib.request.Request(f"{url}/v1/applications/app-id/users/user-id/balance", headers={"X-API-Key": key})
    return urllib.request.urlopen(request).read()


def test_server_started_late_serves_existing_sandboxes(request, shared, fake_credits):
    url = request.getfixturevalue("fake_credits_server").base_url
    fake_credits.user("user-id", balance=3)
    assert _balance(url, fake_credits.api_key) == b'{"balance":3}'
    assert _balance(url, shared.api_key) == b'{"balance":4}'


@pytest.mark.parametrize("balance", [1, 2])
def test_server_answers_for_every_sandbox_at_one_url(fake_credits_factory, fake_credits, url, balance):
    fake_credits.user("user-id", balance=balance)
    assert _balance(url, fake_credits.api_key) == b'{"balance":%d}' % balance
    assert fake_credits.base_url == url
    with fake_credits_factory(balance=9) as other:
        assert _balance(url, other.api_key) == b'{"balance":9}'
    assert repr(fake_credits.server_client).startswith("ServerClient('http://credits.fake-credits.test'")


def test_environment(fake_credits, fake_credits_env):
    key = os.environ["CREDITS_API_KEY"]
    assert key == fake_credits.api_key == fake_credits_env["CREDITS_API_KEY"]
    fake_credits.user(os.environ["CREDITS_USER_ID"], balance=3)
    assert os.environ["CREDITS_APPLICATION_ID"] == "app-id"
    assert _balance(os.environ["CREDITS_BASE_URL"], key) == b'{"balance":3}'
    assert os.environ["CREDITS_USER_TOKEN"].count(".") == 2
    assert b'"keys"' in urllib.request.urlopen(os.environ["CREDITS_JWKS_URL"]).read()
    assert os.environ["CREDITS_JWT_PUBLIC_KEY"].startswith("-----BEGIN PUBLIC KEY-----")
    hosts = "db.internal,cache.internal,localhost,127.0.0.1,::1"
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == hosts


def test_forgotten(fake_credits_factory):
    import conftest

    conftest.SANDBOXES.append(fake_credits_factory())


def test_environment_is_restored():
    assert "CREDITS_API_KEY" not in os.environ
    assert os.environ["NO_PROXY"] == "cache.internal, localhost"


@pytest.mark.fake_credits(live=True)
def test_live_sandbox_is_its_servers_default(fake_credits, url):
    with pytest.raises(urllib.request.HTTPError) as exc_info:
        _balance(url, "somebody-elses")
    exc_info.value.close()
    assert fake_credits.journal.entries()[-1].code == "invalid_api_key"
"""


def test_fixtures_behave_as_documented(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    """This covers new sandboxes, clients, wider scopes, a shared server URL, and restored variables."""
    monkeypatch.setenv("no_proxy", "db.internal")
    monkeypatch.setenv("NO_PROXY", "cache.internal, localhost")
    result = suite(FIXTURES, conftest=END_REPORT)
    result.assert_outcomes(passed=12)
    result.stdout.fnmatch_lines(["ENDED closed=True serving=False"])


def test_suite_can_set_ids_api_key_and_variables(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test's sandbox gets the configured API key; the configured variables replace the default ones."""
    monkeypatch.setenv("no_proxy", "*")
    result = suite(
        """
        import os
        import pytest

        @pytest.mark.parametrize("round", [1, 2])
        def test_constant(fake_credits, fake_credits_factory, fake_credits_env, monkeypatch, round):
            assert fake_credits.server_client.list_users("acme").users == ()
            fake_credits.user("u1")
            assert (fake_credits.application_id, fake_credits.user_id) == ("acme", "u1")
            assert os.environ["API"] == f"{fake_credits.base_url}/v1?key=made-up-key"
            assert "CREDITS_API_KEY" not in os.environ
            assert os.environ["NO_PROXY"] == "*"
            with fake_credits_factory() as other:
                assert other.base_url == fake_credits.base_url
                assert (other.application_id, other.api_key == "made-up-key") == ("acme", False)
        """,
        ini="""
fake_credits_application_id = acme
fake_credits_user_id = u1
fake_credits_api_key = made-up-key
fake_credits_env =
    API = {base_url}/v1?key={api_key}
""",
    )
    result.assert_outcomes(passed=2)


def test_every_fixture_is_prefixed_and_documented(suite: Suite) -> None:
    """The prefix prevents fixtures of two plugins from silently shadowing each other."""
    result = suite("", "--fixtures")
    fixture_lines = result.outlines[
        result.outlines.index(next(line for line in result.outlines if "from pytest_fake_" in line)) :
    ]
    names = [line.split()[0] for line in fixture_lines if " -- " in line]
    assert sorted(names) == [
        "fake_credits",
        "fake_credits_async_server_client",
        "fake_credits_async_user_client",
        "fake_credits_env",
        "fake_credits_factory",
        "fake_credits_server",
        "fake_credits_server_client",
        "fake_credits_settings",
        "fake_credits_user_client",
    ]
    assert "no docstring" not in result.stdout.str()


def test_unfinished_exchanges_at_teardown_cause_a_warning(suite: Suite) -> None:
    """The teardown waits one second, then warns; if warnings are errors, it fails."""
    result = suite(
        """
        def test_leak(fake_credits):
            fake_credits.serve()
            fake_credits.journal.begin_exchange()[0]
        """,
        "-W",
        "default",
    )
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*test_leak: fake-credits: 1 exchange* still in progress one second after closing"])


INVALID_OPTIONS = """
import gc

import pytest

from fake_credits import FakeCredits


def open_sandboxes():
    gc.collect()  # objects whose creation failed
    return [fake for fake in gc.get_objects() if isinstance(fake, FakeCredits) and not fake.sandbox.is_closed]


OPEN_BEFORE = open_sandboxes()  # of other tests in this process


@pytest.mark.parametrize("options, error, message", [
    ({"live": "yes"}, TypeError, "fake_credits_factory has live='yes': it must be True or False"),
    ({"intercept": 5}, TypeError, "has intercept=5: it must be a base URL such as"),
    ({"balanc": 5}, TypeError, "has no option 'balanc'; did you mean 'balance'"),
    ({"allow": "unused_rules"}, TypeError, "fake_credits_factory has no option 'allow'; use allow= in the marker"),
    ({"explore": True}, TypeError, "has no option 'explore'; loop over fake_credits_factory.explore"),
    ({"balance": 7, "users": {"user-id": 5}}, ValueError, "balance=7 and users={'user-id': 5} contradict each other"),
    ({"intercept": "credits.internal"}, ValueError, "it must start with http:// or https://"),
])
def test_invalid_option(fake_credits_factory, options, error, message):
    with pytest.raises(error, match=message):
        fake_credits_factory(**options)


def test_no_sandbox_is_left_open():
    assert [fake for fake in open_sandboxes() if fake not in OPEN_BEFORE] == []
"""


def test_invalid_factory_option_raises_and_leaves_no_sandbox(suite: Suite) -> None:
    suite(INVALID_OPTIONS, "-p", "no:randomly").assert_outcomes(passed=8)
