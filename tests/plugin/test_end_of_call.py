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
    assert text.count("\nThe test passed, but fake-credits failed it.") == 4
    assert "proves nothing" not in text
    assert "FAILED test_suite.py::test_ledger - Failed: the ledger is incon" in text, "the summary tells the reason"
    assert "in _bug" in text
    assert "assert 'own' == 'failure'" in text
    result.stdout.fnmatch_lines(
        [
            "a planted bug",
            "The above exception was the direct cause of the following exception:",
            "a bug in fake-credits caused a 500 response: ZeroDivisionError('a planted bug')",
            "ZeroDivisionError: a planted bug",
            "the ledger is inconsistent: <Account 'user-id' in 'app-id': balance=4, transactions=1>: "
            "the balance is 4, but the deltas sum to 3",
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


def test_broken_invariant(fake_credits):
    fake_credits.eventually(lambda: fake_credits.users() != ())


def test_several_problems(fake_credits):
    fake_credits.eventually(lambda: False)
    fake_credits.faults.add(Reset(), "getBalance")


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


PROVES_NOTHING = "\nThe test passed but proves nothing, so fake-credits failed it.\n"


def section_of(text: str, test: str) -> str:
    """Return the part of pytest's output that belongs to a failed test."""
    return text[text.index(f"_ {test} _") :].split("\n___")[0]


def test_unused_rules_and_unreleased_gates_fail_a_passing_test(suite: Suite) -> None:
    result = suite(FAULT_SUITE)
    text = result.stdout.str()
    for test in ("unused", "unused_in_a_block", "left_over", "hangs_and_swallows_it", "gate_at_its_limit", "report"):
        assert f"FAILED test_suite.py::test_{test}" in text, text
    result.assert_outcomes(failed=8, passed=4)
    assert "the scripted rule 'second' never fired (1 call matched it)" in text
    assert "has entries left: ok" in text
    assert "getBalance for user-id would hang forever: it is held at gate 'door'" in text
    assert "getBalance for user-id was still held at gate 'door' after 0.01 s" in text
    assert "rules (matched calls on which they fired): reset#1 0 of 0" in text
    for test in ("unused", "unused_in_a_block", "left_over"):
        assert PROVES_NOTHING in section_of(text, f"test_{test}")
    for test in ("hangs_and_swallows_it", "gate_at_its_limit", "broken_invariant", "several_problems"):
        assert PROVES_NOTHING not in section_of(text, f"test_{test}")
        assert "\nThe test passed, but fake-credits failed it." in section_of(text, f"test_{test}")
    assert "invariant at test_suite.py:31 returned False at the end" in section_of(text, "test_broken_invariant")
    problems = section_of(text, "test_several_problems")
    assert problems.index("failed it. Other problems:") < problems.index("the rule 'reset#1' never fired")


PROVES_NOTHING_SUITE = """
import contextlib

import httpx2
import pytest

from fake_credits.errors import FakeCreditsError
from fake_credits.faults import HoldAtGate, RateLimit, Reset, Rule, Status

RULE = Rule(Reset(), operation="getUser", name="never-met")


@pytest.mark.fake_credits(balance=1)
def test_gate_without_a_call(fake_credits):
    gate = fake_credits.hold("createTransaction", name="door")
    fake_credits.server_client.get_balance("app-id", "user-id")
    gate.release()


def test_gate_that_is_closed_to_the_end(fake_credits):
    fake_credits.hold("createTransaction", name="shut")


@pytest.mark.fake_credits(faults=[RULE])
def test_rule_of_its_own_marker(fake_credits):
    pass


def test_rule_for_sure(fake_credits):
    fake_credits.faults.add(Reset(), probability=1, name="for-sure")


def test_rule_before_a_reset(fake_credits):
    fake_credits.faults.add(RULE, user="before-reset")
    assert len(fake_credits.reset()) == 1


def test_removed_rule(fake_credits):
    fake_credits.faults.add(Reset(), "get_user", name="removed").remove()


def test_cleared_rules(fake_credits):
    fake_credits.faults.add(Reset(), "get_user", name="cleared")
    fake_credits.faults.clear()


@pytest.fixture(scope="module")
def shared(fake_credits_factory):
    with fake_credits_factory(faults=[RULE], balance=1) as credits:
        yield credits


def test_block_in_a_shared_sandbox(shared):
    with shared.faults(Reset(), "getUser", user="in-a-block"):
        shared.reset()


def test_shared_sandbox_later(shared):
    shared.reset()


def call(credits, path):
    with httpx2.Client(transport=credits.transport("httpx2"), base_url="https://credits.internal") as client:
        assert client.get(path, headers={"X-API-Key": credits.api_key}).status_code in (200, 404, 405)


def test_base_url_with_a_prefix(fake_credits):
    call(fake_credits, "/api/v1/applications/app-id/users/nobody/balance")


@pytest.mark.fake_credits(allow="unrouted")
def test_allowed_unrouted(fake_credits):
    call(fake_credits, "/api/v1/applications/app-id/users")


def test_paths_that_say_nothing(fake_credits):
    for path in ("/favicon.ico", "/_fake/nope", "/_fake/livez", "/v1/applications/app-id/users/nobody/transactions"):
        call(fake_credits, path)


@pytest.mark.fake_credits(faults=["outage", "flaky"], latency=1)
def test_presets(fake_credits):
    fake_credits.faults.load("slow")
    fake_credits.faults.load({"rules": [{"effect": "reset", "nth": 3}]})


@pytest.mark.fake_credits(faults=[RULE])
class TestOuterScope:
    def test_class_marker(self, fake_credits):
        pass

    @pytest.mark.fake_credits(faults=[Reset()])
    def test_marker_within(self, fake_credits):
        pass


@pytest.mark.fake_credits(balance=1)
def test_used(fake_credits):
    fake_credits.faults.add(RateLimit(limit=5, window_s=1))
    fake_credits.faults.add(Reset(), probability=0)
    fake_credits.hold("createTransaction", name="door", optional=True)
    with contextlib.suppress(FakeCreditsError), fake_credits.faults(Status(503), probability=1):
        fake_credits.server_client.get_balance("app-id", "user-id")
"""


def test_unmatched_gates_rules_and_paths_fail_a_passing_test(suite: Suite) -> None:
    """Anything that is random, optional or declared for more than one test may stay unused."""
    result = suite(PROVES_NOTHING_SUITE, "-rf")
    expected = {
        "test_gate_without_a_call": "the gate 'door' held no calls (no calls matched it): it expects createTransaction",
        "test_gate_that_is_closed_to_the_end": "the gate 'shut' held no calls",
        "test_rule_of_its_own_marker": "the rule 'never-met' never fired (no calls matched it): it expects getUser",
        "test_rule_for_sure": "the rule 'for-sure' never fired",
        "test_rule_before_a_reset": "the rule 'never-met' never fired (no calls matched it): it expects getUser with",
        "test_removed_rule": "the rule 'removed' never fired (no calls matched it): it expects getUser",
        "test_cleared_rules": "the rule 'cleared' never fired",
        "test_block_in_a_shared_sandbox": "the rule 'reset#1' never fired",
        "test_base_url_with_a_prefix": "a request matched no operation: GET /api/v1/applications/app-id/"
        "users/nobody/balance does not exist; it ends with the path of getBalance, so your base URL has the extra "
        "prefix /api. "
        'If this is intended, pass allow="unrouted" to the fake_credits marker.',
        "TestOuterScope.test_marker_within": "the rule 'reset#1' never fired",
    }
    text = result.stdout.str()
    for test, message in expected.items():
        assert f"\n{message}" in section_of(text, test), test
        assert PROVES_NOTHING in section_of(text, test), test
    result.assert_outcomes(failed=len(expected), passed=6)


OVERRIDING_SUITE = """
import pytest


class TestOverridden:
    @pytest.fixture
    def fake_credits(self, fake_credits_factory):
        with fake_credits_factory() as credits:
            yield credits

    @pytest.mark.fake_credits(balance=100, allow="unused_rules")
    def test_marked(self, fake_credits):
        pass

    @pytest.mark.fake_credits(allow="unused_rules")
    def test_allowance(self, fake_credits):
        pass

    def test_unmarked(self, fake_credits):
        pass


class TestExtended:
    @pytest.fixture
    def fake_credits(self, fake_credits):
        fake_credits.user("ada", balance=1)
        return fake_credits

    @pytest.mark.fake_credits(balance=100)
    def test_marked(self, fake_credits):
        assert fake_credits.balance() == 100
"""


def test_marker_with_an_overridden_fixture_fails(suite: Suite) -> None:
    """An override that extends the original still applies the marker's options."""
    result = suite(OVERRIDING_SUITE)
    result.assert_outcomes(failed=1, passed=3)
    result.stdout.fnmatch_lines(
        ["the marker's balance= can't take effect, because the fake_credits fixture is overridden.*"]
    )
