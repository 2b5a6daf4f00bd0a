"""The plugin beside others: async runners, several processes, any order, second tries; and what it costs."""

import importlib.metadata
import sys

import pytest

from tests.plugin.conftest import Suite

ASYNC = """
import asyncio

import pytest


async def spend(client):
    await client.create_transaction("app-id", "user-id", delta=-1, reason="consume")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.mark.fake_credits(balance=10)
class TestInProcess:
    RUNNER
    async def test_gather(self, fake_credits, fake_credits_async_server_client, fake_credits_async_user_client):
        await asyncio.gather(*(spend(fake_credits_async_server_client) for _ in range(3)))
        assert (await fake_credits_async_user_client.get_balance("user-id")).balance == 7

    @pytest.mark.anyio
    async def test_anyio(self, anyio_backend, fake_credits_async_server_client, fake_credits_async_user_client):
        await spend(fake_credits_async_server_client)
        assert (await fake_credits_async_user_client.get_balance("user-id")).balance == 9

    def test_sync(self, fake_credits_server_client, fake_credits_user_client):
        assert fake_credits_user_client.get_balance("user-id").balance == 10


@pytest.mark.fake_credits(live=True)
class TestLive(TestInProcess):
    pass


def test_all_was_clean(fake_credits_server):
    assert fake_credits_server.base_url.startswith("http://127.0.0.1:")
"""

MANY = """
import os
import pytest

def bought(credits, url):
    assert credits.sandbox.seed == 11
    assert credits.base_url == url
    assert credits.server_client.list_users("app-id").users == ()
    credits.server_client.create_user("app-id", "ada")

@pytest.fixture(scope="session")
def url(fake_credits_server):
    return fake_credits_server.base_url

@pytest.mark.parametrize("number", range(8))
def test_alone(fake_credits, url, number):
    bought(fake_credits, url)

def test_fails(fake_credits, url):
    bought(fake_credits, url)
    assert False

@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="a collection of one process is refused at once")
def test_typo():
    pass
"""

TYPO = '\ndef pytest_itemcollected(item):\n    if "typo" in item.name: item.add_marker(pytest.mark.fake_credits(sed=1))'


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_async_runners_and_developer_mode(suite: Suite, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """pytest-asyncio, anyio on asyncio and trio, in process and live: no socket, loop or thread stays open."""
    monkeypatch.setenv("PYTHONDEVMODE", "1")
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    runner = "@pytest.mark.asyncio" if mode == "strict" else ""
    result = suite(
        ASYNC.replace("    RUNNER\n", f"    {runner}\n"),
        f"--asyncio-mode={mode}",
        ini="asyncio_default_fixture_loop_scope = function",
        plugins=("pytest_asyncio.plugin", "anyio.pytest_plugin"),
        alone=True,
    )
    result.assert_outcomes(passed=9)
    assert result.stderr.str() == ""


@pytest.mark.slow
def test_two_workers_in_any_order(suite: Suite) -> None:
    """Each worker has one server, each test its sandbox; section and refusals reach the one who reads."""
    result = suite(
        MANY,
        "-n2",
        conftest="import pytest" + TYPO,
        plugins=("xdist", "randomly"),
        ini="fake_credits_seed = 11",
        alone=True,
    )
    result.assert_outcomes(passed=8, failed=1, errors=1)
    result.stdout.fnmatch_lines_random(
        [
            "*- fake-credits -*",
            "*createUser  ada   201*",
            "the marker fake_credits has no word 'sed', did you mean 'seed'?*",
        ]
    )


def test_a_second_try_meets_a_fresh_sandbox(suite: Suite) -> None:
    """What a flaky test bought the first time is not there the second time, and neither is its end-of-call failure."""
    result = suite(
        """
        tries = []

        def test_flaky(fake_credits):
            tries.append(fake_credits)
            assert fake_credits.server_client.list_users("app-id").users == ()
            fake_credits.user("ada", balance=1)
            if len(tries) == 1:
                fake_credits.sandbox.ledger.get_account("app-id", "ada").balance = 5
        """,
        "--reruns=1",
        plugins=("pytest_rerunfailures",),
        alone=True,
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*1 passed, 1 rerun*"])


def test_unused_it_loads_nothing(pytester: pytest.Pytester) -> None:
    """Installed, found by its entry point and unused, it loads neither the fake nor what the fake stands on."""
    pytester.makepyfile(test_one="def test_one(): pass")
    pytester.makeconftest("import sys\ndef pytest_sessionfinish(): print('LOADED', *sorted(sys.modules))")
    entries = importlib.metadata.entry_points(group="pytest11")
    others = [word for entry in entries if entry.name != "pytest_fake_credits" for word in ("-p", f"no:{entry.name}")]
    result = pytester.run(sys.executable, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider", *others)
    assert result.ret == 0
    line = next(line for line in result.outlines if line.startswith("LOADED"))
    loaded = set(line.split())
    assert not loaded & {
        "starlette",
        "uvicorn",
        "httpx2",
        "auth_provider",
        "asyncio",
        "faker",
        "fake_credits",
        "msgspec",
        "anyio",
    }
    ours = {name for name in loaded if name.startswith("pytest_fake_credits")}
    assert ours == {f"pytest_fake_credits{name}" for name in ("", ".marker", ".config_options")}
