"""The report section of a failing test, and the explanation of Balance comparisons."""

import re
from pathlib import Path

import pytest
from pytest_fake_credits.report import explain_balance

import fake_credits
from fake_credits.models import Balance
from tests.plugin.conftest import Suite

FAILING_TEST = """
import pytest
from fake_credits.errors import InsufficientCredits

@pytest.mark.fake_credits(users={"ada": 100}, clock="2026-01-01T12:00:00Z", seed=7)
def test_purchase(fake_credits, fake_credits_server_client):
    fake_credits_server_client.create_transaction("app-id", "ada", delta=-90, reason="consume")
    fake_credits.user_client("ada").get_balance("ada")
    with pytest.raises(InsufficientCredits):
        fake_credits_server_client.create_transaction("app-id", "ada", delta=-90, reason="consume")
    assert False
"""

EXPECTED_SECTION = """\
sandbox s1, seed 7, clock frozen; 3 exchanges in this test, starting at 2026-01-01T12:00:00.000Z:
#  operation                      user  status  cause                          committed  delivered  time
1  createTransaction -90 consume  ada   201                                    yes        yes        +0 s
2  getBalance                     ada   200                                               yes        +0 s
3  createTransaction -90 consume  ada   402     insufficient_credits (domain)  no         yes        +0 s
error in #3: user 'ada' has a balance of 10, which can't be reduced by 90
balances: ada 10"""

UNTRUSTED_TEXT = """
import urllib.error
import urllib.request
import pytest
from fake_credits.errors import InsufficientCredits

def test_hostile(fake_credits, fake_credits_factory):
    url = fake_credits.base_url
    secrets = f"/x?key={fake_credits.api_key}&token={fake_credits.token()}"
    as_user = f"/v1/applications/app-id/users/{fake_credits.api_key}/balance"
    for target in (secrets, as_user, "/v1/applications/a%1B%5B2J%E2%80%AE/users"):
        request = urllib.request.Request(url + target, headers={"X-API-Key": fake_credits.api_key})
        with pytest.raises(urllib.error.HTTPError) as exc_info:
            urllib.request.urlopen(request)
        exc_info.value.close()
    fake_credits.user("a\\u202eb", balance=3)
    with pytest.raises(InsufficientCredits):
        fake_credits.server_client.create_transaction("app-id", "a\\u202eb", delta=-4, reason="consume")
    assert False, "SECRET=" + fake_credits.api_key

@pytest.fixture(scope="module")
def shared(fake_credits_factory):
    with fake_credits_factory() as credits:
        yield credits

def test_shared_one(shared):
    shared.server_client.create_user("app-id", "one")

def test_shared_two(shared, fake_credits, fake_credits_factory):
    for number in range(25):
        shared.server_client.create_user("app-id", f"two-{number}")
    with fake_credits_factory() as other:
        other.server_client.create_user("app-id", "three")
    assert False

def test_no_exchange(shared, fake_credits):
    assert False

def test_unrelated():
    assert False
"""


def find_section(result: pytest.RunResult, test: str) -> str:
    text = result.stdout.str()
    test_text = text[text.index(f"_ {test} _") :]
    return test_text[test_text.index(" fake-credits -") :].split("\n", 1)[1].split("\n___")[0].split("\n===")[0]


def test_failing_test_report_shows_its_exchanges(suite: Suite) -> None:
    """The section has a table, the seed, the last error and the balances."""
    result = suite(FAILING_TEST)
    result.assert_outcomes(failed=1)
    assert find_section(result, "test_purchase") == EXPECTED_SECTION


def test_report_section_masks_secrets_and_covers_one_test(suite: Suite) -> None:
    """It has no secrets or control characters; for a shared sandbox, it shows only this test's exchanges."""
    result = suite(UNTRUSTED_TEXT)
    untrusted_section = find_section(result, "test_hostile")
    assert "GET /x?key=***&token=***" in untrusted_section
    assert "a\\u202eb 3" in untrusted_section
    assert "fake_credits_key_" not in untrusted_section
    assert "eyJ" not in untrusted_section
    assert "\x1b" not in untrusted_section
    assert "\u202e" not in untrusted_section
    shared_section = find_section(result, "test_shared_two")
    assert "25 exchanges in this test (20 shown)" in shared_section
    assert "two-24 0, 10 more users" in shared_section
    assert "one" not in shared_section.split("balances")[0]
    assert shared_section.count("no request reached it.") == 1
    assert "three" in shared_section
    assert "no request reached it. Use one of the fixture's clients" in find_section(result, "test_no_exchange")
    assert "test_unrelated" not in find_section(result, "test_no_exchange")
    text = result.stdout.str()
    assert " fake-credits -" not in text[text.index("_ test_unrelated _") :]


@pytest.mark.parametrize(("option", "failing", "passing"), [("failed", 1, 0), ("all", 1, 1), ("none", 0, 0)])
def test_log_option_selects_reports_with_a_section(suite: Suite, option: str, failing: int, passing: int) -> None:
    """An xfailed test has no section, and the option works without the terminal plugin."""
    passes = FAILING_TEST.replace("test_purchase", "test_pass").replace("assert False", "assert True")
    expected = FAILING_TEST.replace("test_purchase", "test_expected").replace("@", "@pytest.mark.xfail\n@")
    source = FAILING_TEST + passes + (expected if option == "failed" else "")
    result = suite(source, f"--fake-credits-log={option}", "-rA", "--xfail-tb", "--junitxml=out.xml")
    result.assert_outcomes(passed=1, failed=1, xfailed=option == "failed")
    assert result.stdout.str().count(" fake-credits -") == failing + passing
    assert suite(FAILING_TEST, f"--fake-credits-log={option}", "-p", "no:terminal").ret == pytest.ExitCode.TESTS_FAILED


def test_balance_comparison_failure_is_explained(suite: Suite) -> None:
    """A Balance is not a number; the explanation shows the difference between two balances."""
    result = suite(
        """
        def test_number(fake_credits_user_client):
            assert fake_credits_user_client.get_balance("user-id") == 90

        def test_other(fake_credits_user_client):
            from fake_credits.models import Balance
            assert fake_credits_user_client.get_balance("user-id") == Balance(5)

        def test_not_equal(fake_credits_user_client):
            balance = fake_credits_user_client.get_balance("user-id")
            assert balance != balance
        """
    )
    result.stdout.fnmatch_lines(
        [
            "E*assert Balance(balance=0) == 90",
            "E*a Balance is equal only to another Balance; compare its .balance",
            "E*0 is 90 less than 90",
            "E*assert Balance(balance=0) == Balance(balance=5)",
            "E*0 is 5 less than 5",
            "E*assert Balance(balance=0) != Balance(balance=0)",
        ]
    )
    assert explain_balance(1, 2) is None
    assert explain_balance("90", Balance(90)) == [
        "'90' == Balance(balance=90)",
        "a Balance is equal only to another Balance; compare its .balance",
    ]


FAULT_TESTS = """
import threading

import pytest

from fake_credits.errors import FakeCreditsError
from fake_credits.faults import DuplicateWrite, Latency, Reset, Rule, Status


@pytest.mark.fake_credits(users={"ada": 100}, clock="2026-01-01T12:00:00Z")
def test_faults(fake_credits, fake_credits_server_client):
    def grant(delta):
        with pytest.raises(FakeCreditsError):
            fake_credits_server_client.create_transaction("app-id", "ada", delta=delta, reason="grant")

    with fake_credits.faults(DuplicateWrite()):
        fake_credits_server_client.create_transaction("app-id", "ada", delta=5, reason="grant")
    with fake_credits.faults(Latency(1)):
        grant(-5)
    with fake_credits.faults(Status(status=503)):
        grant(7)
    assert False


@pytest.fixture
def held(fake_credits):
    gate = fake_credits.hold("listUsers", name="door")
    thread = threading.Thread(target=lambda: fake_credits.server_client.list_users("app-id"))
    thread.start()
    gate.wait_for(1)
    yield
    gate.release()
    thread.join()


def test_held(held):
    assert False


@pytest.mark.fake_credits(intercept="https://credits.internal/api")
def test_intercepted(fake_credits):
    assert False


@pytest.mark.fake_credits(intercept="http://127.0.0.1:9/api")
def test_missed(fake_credits):
    import httpx2

    for path in ("/v1/applications/app-id/users/ada/balance?k=SECRET", "/health", "/" + fake_credits.api_key):
        with pytest.raises(httpx2.ConnectError):
            httpx2.get("http://127.0.0.1:9" + path, trust_env=False)
    assert False


@pytest.mark.fake_credits(intercept="https://credits.internal/api")
def test_not_called(fake_credits):
    fake_credits.journal.assert_called("getUser")


@pytest.mark.fake_credits(intercept="https://credits.internal/api")
def test_other_path_called(fake_credits):
    import httpx2

    with pytest.raises(httpx2.ConnectError):
        httpx2.get("https://credits.internal/v1/applications/app-id/users", trust_env=False)
    fake_credits.journal.assert_called("listUsers")


@pytest.fixture(scope="module")
def shared(fake_credits_factory):
    with fake_credits_factory(intercept="http://127.0.0.1:9/api") as credits:
        yield credits


@pytest.mark.parametrize("name", ["one", "two", ""])
def test_shared(shared, name):
    import httpx2

    if name:
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"http://127.0.0.1:9/{name}", trust_env=False)
    assert False


def test_no_transaction(fake_credits):
    import httpx2

    with httpx2.Client(transport=fake_credits.transport("httpx2"), base_url="https://a") as client:
        client.post("/v1/applications/app-id/users/ada/transactions", headers={"X-API-Key": "no"}, content="{}")
    assert False
"""


def test_report_section_names_faults_gates_and_interception(suite: Suite) -> None:
    """This includes faults that do not affect the response, unfinished exchanges, and rejected bodies."""
    result = suite(FAULT_TESTS)
    result.assert_outcomes(failed=10)
    faults_section = find_section(result, "test_faults")
    rows = [row.split("  ") for row in faults_section.splitlines() if row[:1].isdigit()]
    causes = [next(cell for cell in row if "fault:" in cell).strip() for row in rows]
    assert causes == [
        "fault:duplicate_write#1",
        "validation_error (validation+fault:latency#1)",
        "unavailable (fault:status#1)",
    ]
    held_section = find_section(result, "test_held")
    assert ": no request has completed yet (1 in flight)\nrules" in held_section
    assert "pending: gate 'door' holds listUsers for app-id" in held_section
    intercepted_section = find_section(result, "test_intercepted")
    assert "This process sent no requests to the intercepted base URLs: https://credits.internal/api" in (
        intercepted_section
    )
    assert find_section(result, "test_missed").split(": ", 1)[1].splitlines() == [
        "no request reached it. The requests listed below are outside the intercepted base URLs: "
        "http://127.0.0.1:9/api",
        "fake-credits refused GET http://127.0.0.1:9/v1/applications/app-id/users/ada/balance: it ends with the path "
        "of getBalance, but the intercepted base URL is http://127.0.0.1:9/api, not http://127.0.0.1:9",
        "GET http://127.0.0.1:9/health was not intercepted and went to the network",
        "GET http://127.0.0.1:9/<api key> was not intercepted and went to the network",
    ]
    for test in ("test_not_called", "test_other_path_called"):
        assert find_section(result, test).endswith(": no request reached it")
    shared_section = find_section(result, "test_shared[two]")
    assert "/two was not intercepted" in shared_section
    assert "/one" not in shared_section
    assert " fake-credits -" not in result.stdout.str().partition("_ test_shared[] _")[2].partition("\n___")[0]
    assert "repeat the last call" not in result.stdout.str()


CURL_TESTS = """
import contextlib

import httpx2
import pytest

from fake_credits.errors import FakeCreditsError


@pytest.mark.fake_credits(live=True, balance=1)
def test_served(fake_credits):
    fake_credits.server_client.create_transaction("app-id", "user-id", delta=7, reason="grant")
    assert False


@pytest.mark.fake_credits(live=True)
def test_invalid_body(fake_credits):
    httpx2.post(
        f"{fake_credits.base_url}/v1/applications/app-id/users/ada/transactions",
        headers={"X-API-Key": fake_credits.api_key},
        content="{}",
    )
    assert False


def test_in_process(fake_credits):
    fake_credits.server_client.create_user("app-id", "user-id")
    assert False


@pytest.fixture
def closed(fake_credits_factory):
    with fake_credits_factory(live=True) as credits:
        credits.server_client.create_user("app-id", "user-id")
    yield credits


def test_closed(closed):
    assert False
"""

NO_PROMPT = """
class NoPrompt:
    quitting = False
    def __init__(self, *args, **kwargs): pass
    def reset(self): pass
    def interaction(self, *args): pass
    def set_continue(self): pass
"""


def test_curl_command_is_shown_while_a_server_answers(suite: Suite, pytester: pytest.Pytester) -> None:
    """The command is shown only for a served sandbox at a debugger's prompt, where the section is printed too."""
    pytester.makepyfile(no_prompt=NO_PROMPT)
    assert "repeat the last call" not in suite(CURL_TESTS).stdout.str()
    result = suite(CURL_TESTS, "--pdb", "--pdbcls=no_prompt:NoPrompt")
    assert result.stdout.str().count("- fake-credits -") == 4  # at the prompt; pytest prints no failure summary then
    curls = [line for line in result.outlines if line.startswith("repeat the last call: ")]
    assert [re.sub(r"http://127.0.0.1:\d+", "URL", curl) for curl in curls] == [
        f"repeat the last call: curl -X POST URL/v1/applications/app-id/users/{user}/transactions "
        f"-H \"X-API-Key: $CREDITS_API_KEY\" -H 'Content-Type: application/json' -d '{body}'"
        for user, body in [("user-id", '{"delta": 7, "reason": "grant"}'), ("ada", "<invalid body, not recorded>")]
    ]


TWO_CLIENTS_TEST = """
import contextlib

import pytest
import requests

from fake_credits.faults import Reset, Rule

USER = "https://credits.internal/v1/applications/app-id/users/ada"


LOST = Rule(Reset(), operation="writes", phase="after", nth=1)


@pytest.mark.fake_credits(users={"ada": 100}, faults=LOST, intercept="https://credits.internal")
def test_charge(fake_credits):
    headers = {"X-API-Key": fake_credits.api_key}
    with contextlib.suppress(requests.ConnectionError):
        requests.post(f"{USER}/transactions", json={"delta": -10, "reason": "consume"}, headers=headers)
    assert requests.get(f"{USER}/balance", headers=headers).ok
    fake_credits.server_client.create_transaction("app-id", "ada", delta=-10, reason="consume")
    fake_credits.server_client.get_balance("app-id", "ada")
    assert fake_credits.balance("ada") == 90
"""


def test_both_writes_of_a_double_charge_are_shown(suite: Suite) -> None:
    """The second one is shown even if it was made by a client that the report takes for the test's own."""
    section = find_section(suite(TWO_CLIENTS_TEST), "test_charge").splitlines()
    assert [line.split()[0] for line in section[2:5]] == ["1", "2", "3"]
    assert section[5:7] == [
        "omitted successful calls made during set-up: 4",
        "#1 was committed, but its response was lost; #3 committed it again",
    ]


HIDDEN_FRAMES_TESTS = """
import pytest
import requests

import fake_credits.api.handlers
from fake_credits import FakeCredits
from fake_credits.faults import Hang, Reset, Status


def test_call(fake_credits):
    fake_credits.server_client.get_balance("app-id", "nobody")


@pytest.mark.parametrize("effect", [Reset(), Hang()])
@pytest.mark.parametrize("live", [pytest.param(True, marks=pytest.mark.fake_credits(live=True)), False])
def test_fault(fake_credits, effect, live):
    fake_credits.faults.add(effect)
    with fake_credits.server_client as client:
        client._config = client._config.__class__(
            client._config.base_url, client._config.credential, 0.01, client._config.contract
        )
        client.get_balance("app-id", "nobody")


def test_gate(fake_credits):
    fake_credits.hold("getUser").wait_for(limit_s=0)


@pytest.mark.parametrize("declare", [
    lambda fake: fake.faults.add(Status(503), nth=-1),
    lambda fake: Status(5),
    lambda fake: fake.journal.assert_called("nope"),
    lambda fake: fake.journal.assert_called("getUser"),
    lambda fake: fake.user("ada", balance=-5),
    lambda fake: fake.balance("nobody"),
    lambda fake: fake.load_world("nope"),
    lambda fake: fake.token(bad="nope"),
    lambda fake: fake.clock.advance(seconds=-1),
    lambda fake: fake.intercept("nope"),
    lambda fake: FakeCredits(balance=-1),
])
def test_declaration(fake_credits, declare):
    declare(fake_credits)


def test_factory(fake_credits_factory):
    fake_credits_factory(balance=-1)


@pytest.mark.fake_credits(intercept="https://credits.internal", faults=[Reset()])
def test_intercepted(fake_credits):
    requests.get("https://credits.internal/v1/applications/app-id/users", headers={"X-API-Key": fake_credits.api_key})
"""

BUG_TEST = """
def test_bug(fake_credits, monkeypatch):
    monkeypatch.setattr(fake_credits.sandbox, "set_balance", None.__init__)
    fake_credits.user("ada").balance
"""


def test_tracebacks_show_no_internal_frames(suite: Suite) -> None:
    """Each traceback, including those of chained exceptions, ends at the test's own line or in another library."""
    result = suite(HIDDEN_FRAMES_TESTS, "--tb=short", "-p", "no:randomly", "--fake-credits-log=none")
    result.assert_outcomes(failed=19)
    package = str(Path(fake_credits.__file__).parent)
    assert [line for line in result.outlines if line.startswith((package, "<string>", "contextlib"))] == []


def test_traceback_of_a_bug_shows_internal_frames(suite: Suite) -> None:
    result = suite(BUG_TEST, "--tb=short", "--fake-credits-log=none")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*fake_credits/sandbox_users.py:*: in user"])


@pytest.mark.slow
def test_colours_survive_xdist(suite: Suite) -> None:
    """The section is coloured in the controlling process, which has the terminal."""
    result = suite(FAILING_TEST, "-n", "1", "--color=yes", plugins=("xdist",), alone=True)
    result.stdout.fnmatch_lines(["*[[]31m3  createTransaction -90 consume  ada   402 *[[]0m"])
