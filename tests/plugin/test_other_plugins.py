"""The plugin with other plugins: async runners, xdist, random order, reruns; and its import cost."""

import importlib.metadata
import sys

import pytest

from tests.plugin.conftest import Suite

ASYNC_SUITE = """
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


def test_server_still_runs(fake_credits_server):
    assert fake_credits_server.base_url.startswith("http://127.0.0.1:")
"""

XDIST_SUITE = """
import os
import pytest

def create_user(credits, url):
    assert credits.sandbox.seed == 11
    assert credits.base_url == url
    assert credits.server_client.list_users("app-id").users == ()
    credits.server_client.create_user("app-id", "ada")

@pytest.fixture(scope="session")
def url(fake_credits_server):
    return fake_credits_server.base_url

@pytest.mark.parametrize("number", range(8))
def test_numbered(fake_credits, url, number):
    create_user(fake_credits, url)

def test_fails(fake_credits, url):
    create_user(fake_credits, url)
    assert False

@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="without xdist, the usage error ends the run")
def test_typo():
    pass
"""

TYPO_HOOK = (
    '\ndef pytest_itemcollected(item):\n    if "typo" in item.name: item.add_marker(pytest.mark.fake_credits(sed=1))'
)


@pytest.mark.parametrize("mode", ["strict", pytest.param("auto", marks=pytest.mark.slow)])
def test_async_runners_leave_no_resources_open(suite: Suite, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """This covers sockets, event loops and threads, with pytest-asyncio and anyio, in process and live."""
    monkeypatch.setenv("PYTHONDEVMODE", "1")
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    runner = "@pytest.mark.asyncio" if mode == "strict" else ""
    result = suite(
        ASYNC_SUITE.replace("    RUNNER\n", f"    {runner}\n"),
        f"--asyncio-mode={mode}",
        ini="asyncio_default_fixture_loop_scope = function",
        plugins=("pytest_asyncio.plugin", "anyio.pytest_plugin"),
        alone=True,
    )
    result.assert_outcomes(passed=9)
    assert result.stderr.str() == ""


@pytest.mark.slow
def test_reports_and_errors_reach_the_terminal_under_xdist(suite: Suite) -> None:
    """Each worker has one server; report sections and usage errors reach the terminal."""
    result = suite(
        XDIST_SUITE,
        "-n2",
        conftest="import pytest" + TYPO_HOOK,
        plugins=("xdist", "randomly"),
        ini="fake_credits_seed = 11",
        alone=True,
    )
    result.assert_outcomes(passed=8, failed=1, errors=1)
    result.stdout.fnmatch_lines_random(
        [
            "*- fake-credits -*",
            "*createUser  ada   201*",
            "the fake_credits marker has no option 'sed'; did you mean 'seed'?*",
        ]
    )


def test_rerun_gets_a_new_sandbox(suite: Suite) -> None:
    """Neither the data nor the end-of-call failures of the first run affect the second."""
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


def test_unused_plugin_imports_no_heavy_modules(pytester: pytest.Pytester) -> None:
    """Installed and found by its entry point, but unused, the plugin does not import the fake."""
    pytester.makepyfile(test_one="def test_one(): pass")
    pytester.makeconftest("import sys\ndef pytest_sessionfinish(): print('LOADED', *sorted(sys.modules))")
    entry_points = importlib.metadata.entry_points(group="pytest11")
    disable_others = [
        arg for entry in entry_points if entry.name != "pytest_fake_credits" for arg in ("-p", f"no:{entry.name}")
    ]
    result = pytester.run(sys.executable, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider", *disable_others)
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
    own_modules = {name for name in loaded if name.startswith("pytest_fake_credits")}
    names = ("", ".config_options", ".explore_hooks", ".marked_items")
    assert own_modules == {f"pytest_fake_credits{name}" for name in names}
