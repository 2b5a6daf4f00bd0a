"""What fails a test that passed: the fake's own mistakes, once, and nothing else."""

from tests.plugin.conftest import Suite

BACKEND = "import pytest\n@pytest.fixture\ndef anyio_backend(): return 'asyncio'"

BROKEN = """
import contextlib

import pytest

import fake_credits.web.exchange
from fake_credits.errors import FakeCreditsError, UserNotFound


def _bug(request):
    raise ZeroDivisionError("a planted bug")


@pytest.fixture
def bug(monkeypatch):
    planted = dict.fromkeys(fake_credits.web.exchange.OPERATIONS, _bug)
    monkeypatch.setattr(fake_credits.web.exchange, "OPERATIONS", planted)


def call(client):
    with contextlib.suppress(FakeCreditsError):
        client.get_balance("app-id", "user-id")


def corrupt(credits):
    credits.sandbox.ledger.account("app-id", "user-id").balance = 4


def test_bug(bug, fake_credits_server_client):
    call(fake_credits_server_client)


@pytest.mark.fake_credits(allow="internal_errors")
def test_allowed_bug(bug, fake_credits_server_client):
    call(fake_credits_server_client)


def test_failing_bug(bug, fake_credits_server_client):
    call(fake_credits_server_client)
    assert "own" == "failure"


@pytest.mark.fake_credits(balance=3)
def test_ledger(fake_credits):
    corrupt(fake_credits)


@pytest.mark.anyio
async def test_async_ledger(fake_credits, fake_credits_async_server_client):
    await fake_credits_async_server_client.create_user("app-id", "user-id")
    corrupt(fake_credits)


def test_refusals_are_fine(fake_credits_server_client):
    with pytest.raises(UserNotFound):
        fake_credits_server_client.get_balance("app-id", "nobody")


@pytest.fixture(scope="module")
def shared(fake_credits_factory):
    with fake_credits_factory(balance=3) as credits:
        yield credits


def test_shared_breaks(shared, bug):
    call(shared.server_client)
    corrupt(shared)


def test_shared_is_told_once(shared):
    shared.server_client.list_users("app-id")
"""


def test_a_mistake_of_the_fake_fails_the_test_once(suite: Suite) -> None:
    """The call fails, not the teardown; a test that failed by itself keeps its own failure."""
    result = suite(BROKEN, "-rfEp", plugins=("anyio.pytest_plugin",), conftest=BACKEND)
    result.assert_outcomes(failed=5, passed=3)
    for test in ("allowed_bug", "refusals_are_fine", "shared_is_told_once"):
        result.stdout.fnmatch_lines([f"PASSED test_suite.py::test_{test}"])
    text = result.stdout.str()
    assert text.count("fake-credits itself went wrong in a test that passed, so that proves nothing:\n") == 4
    assert "in _bug" in text
    assert "assert 'own' == 'failure'" in text
    result.stdout.fnmatch_lines(
        [
            "a planted bug",
            "The above exception was the direct cause of the following exception:",
            "a bug of fake-credits answered 500:",
            "ZeroDivisionError: a planted bug",
            "the ledger is inconsistent: <Account 'user-id' of 'app-id': 4 in 1 transactions>: the deltas sum to 3",
        ]
    )
