"""Checks after a passing test: internal errors, unused rules and unreleased gates fail it."""

from tests.plugin.conftest import Suite

ANYIO_BACKEND = "import pytest\n@pytest.fixture\ndef anyio_backend(): return 'asyncio'"

BUG_SUITE = """
import contextlib

import pytest

import fake_credits.api.handlers
from fake_credits.errors import FakeCreditsError, UserNotFound


def _bug(request):
    raise ZeroDivisionError("a planted bug")


@pytest.fixture
def bug(monkeypatch):
    planted = dict.fromkeys(fake_credits.api.handlers.OPERATION_HANDLERS, _bug)
    monkeypatch.setattr(fake_credits.api.handlers, "OPERATION_HANDLERS", planted)


def call(client):
    with contextlib.suppress(FakeCreditsError):
        client.get_balance("app-id", "user-id")


def corrupt(credits):
    credits.sandbox.ledger.get_account("app-id", "user-id").balance = 4


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


def test_expected_errors_pass(fake_credits_server_client):
    with pytest.raises(UserNotFound):
        fake_credits_server_client.get_balance("app-id", "nobody")


@pytest.fixture(scope="module")
def shared(fake_credits_factory):
    with fake_credits_factory(balance=3) as credits:
        yield credits


def test_shared_breaks(shared, bug):
    call(shared.server_client)
    corrupt(shared)


def test_shared_is_reported_once(shared):
    shared.server_client.list_users("app-id")
"""


def test_internal_error_fails_the_passing_test_once(suite: Suite) -> None:
    """The call phase fails, not the teardown; a failed test keeps its failure."""
    result = suite(BUG_SUITE, "-rfEp", plugins=("anyio.pytest_plugin",), conftest=ANYIO_BACKEND)
    result.assert_outcomes(failed=5, passed=3)
    for test in ("allowed_bug", "expected_errors_pass", "shared_is_reported_once"):
        result.stdout.fnmatch_lines([f"PASSED test_suite.py::test_{test}"])
    text = result.stdout.str()
    assert text.count("\nThe test passed but proves nothing, so fake-credits fails it") == 4
    assert "FAILED test_suite.py::test_ledger - Failed: the ledger is incon" in text, "the summary tells the reason"
    assert "in _bug" in text
    assert "assert 'own' == 'failure'" in text
    result.stdout.fnmatch_lines(
        [
            "a planted bug",
            "The above exception was the direct cause of the following exception:",
            "a bug in fake-credits caused a 500 response: ZeroDivisionError('a planted bug')",
            "ZeroDivisionError: a planted bug",
            "the ledger is inconsistent: <Account 'user-id' of 'app-id': 4 in 1 transactions>: the deltas sum to 3",
        ]
    )


FAULT_SUITE = """
import threading

import pytest

from fake_credits.errors import FakeCreditsError
from fake_credits.faults import Hang, Reset, Rule


@pytest.mark.fake_credits(faults=[Rule(effect=Reset(), nth=2, name="second")], balance=1)
def test_unused(fake_credits):
    fake_credits.server_client.get_balance("app-id", "user-id")


def test_unused_in_a_block(fake_credits):
    with fake_credits.faults(Reset(), nth=7):
        pass


@pytest.mark.fake_credits(faults=[{"script": [503, "ok"]}], balance=1)
def test_left_over(fake_credits):
    with pytest.raises(FakeCreditsError):
        fake_credits.server_client.get_balance("app-id", "user-id")


@pytest.mark.fake_credits(faults=[Rule(effect=Reset(), nth=2, optional=True)], balance=1)
def test_optional(fake_credits):
    fake_credits.server_client.get_balance("app-id", "user-id")


@pytest.mark.fake_credits(faults=[Rule(effect=Reset(), nth=2)], allow="unused_rules")
def test_allowed_unused(fake_credits):
    pass


@pytest.mark.fake_credits(balance=1)
def test_hangs_and_swallows_it(fake_credits):
    fake_credits.hold("getBalance", name="door")
    with pytest.raises(AssertionError):
        fake_credits.server_client.get_balance("app-id", "user-id")


@pytest.mark.fake_credits(balance=1)
def test_gate_at_its_limit(fake_credits):
    gate = fake_credits.hold("getBalance", name="door")
    gate.limit_s = 0.01
    other = threading.Event()  # a thread that could release the gate but does not
    thread = threading.Thread(target=other.wait)
    thread.start()
    with pytest.raises(FakeCreditsError):
        fake_credits.server_client.get_balance("app-id", "user-id")
    other.set()
    thread.join()


@pytest.fixture(scope="module")
def long_lived(fake_credits_factory):
    with fake_credits_factory(balance=1) as credits:
        credits.faults.add(Reset(), nth=2)
        yield credits


@pytest.mark.parametrize("number", [1, 2])
def test_z_a_rule_of_longer_life_may_fire_later(long_lived, number, fake_credits):
    pass


def test_report(fake_credits):
    fake_credits.faults.add(Reset(), "getBalance")
    fake_credits.faults.load("flaky")
    assert "own" == "failure"
"""


def test_unused_rules_and_unreleased_gates_fail_a_passing_test(suite: Suite) -> None:
    result = suite(FAULT_SUITE)
    text = result.stdout.str()
    for test in ("unused", "unused_in_a_block", "left_over", "hangs_and_swallows_it", "gate_at_its_limit", "report"):
        assert f"FAILED test_suite.py::test_{test}" in text, text
    result.assert_outcomes(failed=6, passed=4)
    assert "the scripted rule 'second' never fired (1 call matched it)" in text
    assert "has entries left: ok" in text
    assert "getBalance of user-id would hang forever: gate 'door' holds it" in text
    assert "gate 'door' held getBalance of user-id for 0.01 s without being released" in text
    assert "rules (fired of matched calls): reset#1 0 of 0" in text
