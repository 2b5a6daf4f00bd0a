"""Exploring a suite with the plugin: ``--fake-credits-explore``, the marker, replays, reports and other plugins."""

import json
import re
import shlex
from collections import defaultdict
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any, cast
from xml.etree.ElementTree import fromstring

import pytest
from pytest_fake_credits.progress import Progress

from fake_credits.explore.judge import Verdict
from fake_credits.explore.schedules import FAULTS
from tests.documentation import PAGES
from tests.plugin.conftest import Suite
from tests.plugin.test_shapes import EXAMPLES, SHOP_SETTINGS, STANDALONE

APPLICATION = """
import pytest
from fake_credits.errors import ConnectionLost, TransportFailure, ApiError


def buy(api, user="ada"):
    print("buying")
    api.get_balance("app-id", user)
    for _ in range(2):
        try:
            api.create_transaction("app-id", user, delta=-10, reason="consume")
            break
        except ConnectionLost:
            continue
    api.list_transactions("app-id", user)


def read(api):
    return api.get_balance("app-id", "ada").balance


pytestmark = pytest.mark.fake_credits(users={"ada": 100})
"""
BUYS_ONCE = """
def test_buys_once(fake_credits):
    buy(fake_credits.server_client)
    assert fake_credits.balance("ada") == 90
"""
READS = """
def test_reads(fake_credits):
    assert read(fake_credits.server_client) == 100
"""
EXPLORE = "--fake-credits-explore"


MATRIX = """
                            │ refused  lost before  lost after     unreadable  silent  silent after │ down from here
1 getBalance ada            │ raised   raised       -              raised      raised  -            │ raised
2 createTransaction ada -10 │ raised   ok           CHARGED TWICE  unsettled   -       unsettled    │ raised
3 listTransactions ada      │ raised   raised       -              raised      -       -            │ raised
"""


def text_of(result: pytest.RunResult) -> str:
    return "\n".join([*result.outlines, *result.errlines])


def test_unedited_test_fails_with_matrix_and_findings(suite: Suite) -> None:
    result = suite(APPLICATION + BUYS_ONCE + READS, EXPLORE)
    result.assert_outcomes(failed=1, passed=1)
    text = text_of(result)
    for line in (
        "fake-credits: 15 schedules: 12 fine, 2 unsettled, 1 charged twice",
        "The application sent the same write again (call 3, no Idempotency-Key), and it was committed 2",
        "times: ada has 80 credits instead of 90. The application could not have known whether its write",
        "Replay:    pytest test_suite.py::test_buys_once --fake-credits-schedule 2:lost_after",
        "2 tests explored, 20 schedules: 17 fine, 2 unsettled, 1 charged twice",
    ):
        assert line in text
    assert MATRIX.replace("-  ", "\N{EN DASH}  ") in text


def test_replay_line_and_marker_reproduce_the_finding_as_an_ordinary_failure(suite: Suite) -> None:
    text = text_of(suite(APPLICATION + BUYS_ONCE, EXPLORE))
    replay = next(re.finditer("Replay: +pytest (.*)", text))[1]
    result = suite(APPLICATION + BUYS_ONCE, *shlex.split(replay))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*assert 80 == 90*", "*Charged twice (2, lost after)*", "*fault:lost_after*yes*no*"])
    marker = next(re.finditer("As a test: (.*)", text))[1]
    result = suite(APPLICATION + marker + BUYS_ONCE)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*assert 80 == 90*"])


def test_finding_in_a_test_that_passes_is_reproduced_too(suite: Suite) -> None:
    """Above the test's own marker, the marker from the report takes precedence."""
    test = "@pytest.mark.fake_credits(explore=True)\ndef test_trusting(fake_credits):\n"
    source = f"{APPLICATION}{test}    buy(fake_credits.server_client)\n"
    text = text_of(suite(source))
    assert "Charged twice (2, lost after)" in text
    replay = next(re.finditer("Replay: +pytest (.*)", text))[1]
    suite(source, *shlex.split(replay)).assert_outcomes(failed=1)
    marker = next(re.finditer("As a test: (.*)", text))[1]
    code, _, comment = marker.partition("  # ")
    assert code == "@pytest.mark.fake_credits(explore={'schedules': ['2:lost_after']})"
    assert comment == "above the test's own marker"
    result = suite(source.replace(test, f"{marker}\n{test}"))
    result.assert_outcomes(failed=1)
    assert "fake-credits: 1 schedule: 1 charged twice" in text_of(result)


def test_everything_that_is_not_explored_is_listed_with_the_reason(suite: Suite) -> None:
    source = (
        APPLICATION
        + """
import itertools
import threading
from hypothesis import given, strategies as st

amounts = itertools.count(1)

def test_direct(fake_credits):
    fake_credits.server_client.get_balance("app-id", "ada")
def test_no_call(fake_credits):
    pass
@pytest.mark.skip
def test_skipped(fake_credits):
    pass
@pytest.mark.xfail(strict=True)
def test_expected_to_fail(fake_credits):
    assert False
def test_failing(fake_credits):
    assert False
@pytest.mark.xfail
def test_passes_unexpectedly(fake_credits):
    read(fake_credits.server_client)
@pytest.mark.fake_credits(faults="slow")
def test_marker(fake_credits):
    read(fake_credits.server_client)
@pytest.mark.fake_credits(latency=20)
def test_latency(fake_credits):
    read(fake_credits.server_client)
def test_gate(fake_credits):
    gate = fake_credits.hold(operation="getBalance")
    thread = threading.Thread(target=read, args=(fake_credits.server_client,))
    thread.start()
    gate.wait_for(1)
    gate.release()
    thread.join()
def test_own_rule(fake_credits):
    fake_credits.faults.add({"effect": "status", "status": 503}, nth=1)
    with pytest.raises(ApiError):
        read(fake_credits.server_client)
def test_reset(fake_credits):
    read(fake_credits.server_client)
    fake_credits.reset()
@pytest.mark.fake_credits(explore=False)
def test_off(fake_credits):
    read(fake_credits.server_client)
@given(st.integers())
def test_hypothesis(fake_credits, number):
    read(fake_credits.server_client)
def test_random_writes(fake_credits):
    write(fake_credits.server_client, -next(amounts))
def write(api, delta):
    api.create_transaction("app-id", "ada", delta=delta, reason="consume")
"""
    )
    result = suite(source, EXPLORE)
    text = text_of(result)
    for reason, test in (
        ("only the test itself makes calls", "test_direct"),
        ("it makes no calls", "test_no_call"),
        ("it is skipped", "test_skipped"),
        ("it is expected to fail", "test_expected_to_fail, test_suite.py::test_passes_unexpectedly"),
        ("it fails even without a fault", "test_failing"),
        (
            "it declares its own faults, gates or latency",
            "test_marker, test_suite.py::test_latency, test_suite.py::test_gate, test_suite.py::test_own_rule",
        ),
        ("it resets its sandbox", "test_reset"),
        ("its marker says explore=False", "test_off"),
        ("Hypothesis runs it many times; use fake_credits_factory.explore instead", "test_hypothesis"),
        ("two fault-free runs wrote different transactions", "test_random_writes"),
    ):
        count = test.count(",") + 1
        assert f"not explored: {count} ({reason}): test_suite.py::{test}" in text


def test_sandbox_that_outlives_the_test_is_not_explored(suite: Suite) -> None:
    source = """
import pytest
class TestWide:
    @pytest.fixture(scope="class")
    @classmethod
    def fake_credits(cls, fake_credits_factory):
        with fake_credits_factory(users={"ada": 100}) as credits:
            yield credits
    def test_outlived(self, fake_credits):
        assert fake_credits.server_client.get_balance("app-id", "ada").balance == 100
"""
    result = suite(source, EXPLORE)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["not explored: 1 (its sandbox is not from the fixture, or outlives the test): *"])


def test_findings_are_void_if_state_leaks_between_runs(suite: Suite) -> None:
    source = (
        APPLICATION
        + """
failures = []
def read_once(api):
    assert not failures, "circuit open"
    try:
        return read(api)
    except (ApiError, TransportFailure):
        failures.append(1)
        raise
def test_leaks(fake_credits):
    assert read_once(fake_credits.server_client) == 100
"""
    )
    result = suite(source, EXPLORE)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["not explored: 1 (the last fault-free run failed: state leaks*test_leaks"])


def test_marker_turns_exploration_on_without_the_flag(suite: Suite) -> None:
    marker = "@pytest.mark.fake_credits(explore=True)"
    suite(APPLICATION + marker + BUYS_ONCE + READS).assert_outcomes(failed=1, passed=1)
    suite(APPLICATION + BUYS_ONCE).assert_outcomes(passed=1)


def test_markers_explore_option_sets_faults_depth_and_strictness(suite: Suite) -> None:
    source = APPLICATION
    for number, explore in enumerate(
        [
            "'writes'",
            "['refused']",
            "{'faults': ['unreadable'], 'strict': True}",
            "{'what': 'same', 'faults': ['down']}",
        ]
    ):
        source += f"@pytest.mark.fake_credits(explore={explore})\ndef test_{number}(fake_credits):\n"
        source += "    buy(fake_credits.server_client)\n    assert fake_credits.balance('ada') == 90\n"
    result = suite(source)
    text = text_of(result)
    result.assert_outcomes(failed=3, passed=1)
    assert "fake-credits: 6 schedules: 3 fine, 2 unsettled, 1 charged twice" in text
    assert "fake-credits: 3 schedules: 2 fine, 1 unsettled" in text
    assert "fake-credits: 3 schedules: 3 raised" in text


@pytest.mark.parametrize(
    ("args", "marker", "problem"),
    [
        (["--fake-credits-explore-what=lost_afte"], "", "--fake-credits-explore-what: 'lost_afte' is neither a kind"),
        (["--fake-credits-explore-depth=4"], "", "--fake-credits-explore-depth: depth must be an integer from 1 to 3"),
        (["--fake-credits-explore-depth=x"], "", "--fake-credits-explore-depth must be 1, 2 or 3, got 'x'"),
        (["--fake-credits-explore-budget=-1"], "", "--fake-credits-explore-budget: budget must be an integer from 1"),
        (["--fake-credits-explore-report=no/folder/r.json"], "", "cannot write the report"),
        (["--fake-credits-schedule=2:x"], "", "--fake-credits-schedule: unknown fault 'x'"),
        (["--fake-credits-schedule=2"], "", "invalid schedule '2': expected ':' at the end"),
        ([], "explore='lost_afte'", "explore='lost_afte': 'lost_afte' is neither a kind"),
        ([], "explore='wrties'", "down, stale); did you mean 'writes'?"),
        ([], "explore=3", 'explore must be True, False, a kind such as "writes", a fault, a list of faults or a map'),
        ([], "explore=[3]", "invalid fault 3: it must be a name, an effect, a Rule or a JSON object"),
        ([], "explore={'schedules': []}", "schedules must contain at least one schedule, such as '2:lost_after'"),
        ([], "explore={'schedules': ['2:lost']}", "unknown fault 'lost': did you mean 'lost_after'?"),
        ([], "explore={'what': 'all', 'faults': []}", "what='all' selects the faults itself, so it can't be combined"),
        ([], "explore={'faults': [], 'what': 'stale'}", "what='stale' selects the faults itself, so it can't be"),
        ([], "explore={'depht': 1}", "unknown option 'depht': did you mean 'depth'?"),
        ([], "explore={'depth': 4}", "depth must be an integer from 1 to 3, got 4"),
        ([], "explore={'budget': -1}", "budget must be an integer from 1 to 1000000, got -1"),
        ([], "explore=['lost_afte']", "unknown fault 'lost_afte': did you mean 'lost_after'?"),
        ([], "explore={'schedules': ['2']}", "invalid schedule '2'"),
        ([], "explore=1.5", "explore=1.5"),
    ],
)
def test_bad_input_ends_the_run_before_any_test(suite: Suite, args: list[str], marker: str, problem: str) -> None:
    decorator = f"@pytest.mark.fake_credits({marker})" if marker else ""
    result = suite(APPLICATION + decorator + BUYS_ONCE, EXPLORE, *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert problem in text_of(result)
    assert "passed" not in text_of(result)


@pytest.mark.parametrize(
    ("flag", "problem"),
    [
        ("what=wirtes", "'wirtes' is neither a kind (default, writes, same, all) nor a fault (refused, "),
        ("depth=5", "depth must be an integer from 1 to 3, got 5"),
        ("budget=0", "budget must be an integer from 1 to 1000000, got 0"),
    ],
)
def test_bad_flag_is_an_error_even_if_nothing_is_explored(suite: Suite, flag: str, problem: str) -> None:
    result = suite(APPLICATION + READS, f"{EXPLORE}-{flag}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: fake-credits: {EXPLORE}-{flag.partition('=')[0]}: {problem}*"])


@pytest.mark.parametrize(
    ("schedule", "problem"),
    [
        ("9:refused", "schedule '9:refused' names call 9, but the test makes 1 call"),
        ("listUsers:refused", "schedule 'listUsers:refused' names the call listUsers, which the test does not make"),
        ("1:lost_after", "schedule '1:lost_after': lost_after does not apply to getBalance"),
    ],
)
@pytest.mark.parametrize("is_marked", [False, True], ids=["flag", "marker"])
def test_inapplicable_schedule_fails_the_test_after_fault_free_runs(
    suite: Suite, schedule: str, problem: str, is_marked: bool
) -> None:
    marker = f"@pytest.mark.fake_credits(explore={{'schedules': ['1:refused', {schedule!r}]}})" if is_marked else ""
    source = APPLICATION + marker + READS + "    assert fake_credits.explored == ''\n"
    result = suite(source, *(() if is_marked else ("--fake-credits-schedule", schedule)))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*{problem}"])
    assert "injected" not in text_of(result)


def test_marker_fails_a_test_with_nothing_to_explore(suite: Suite) -> None:
    source = "import pytest\n@pytest.mark.fake_credits(explore=True)\ndef test_no_call(fake_credits):\n    pass\n"
    result = suite(source)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["fake-credits: this test can't be explored: it makes no calls"])


def test_required_exploration_tries_the_tests_own_rules_first(suite: Suite) -> None:
    source = (
        APPLICATION
        + """
@pytest.mark.fake_credits(explore={"faults": ["refused"]})
def test_own_rule(fake_credits):
    fake_credits.faults.add({"effect": "status", "status": 500}, nth=1)
    with pytest.raises(ApiError):
        read(fake_credits.server_client)
    read(fake_credits.server_client)
"""
    )
    result = suite(source, "-rA")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["1 test explored, 1 schedule: 1 fine"])


def test_json_report_is_versioned_and_lists_exchanges(suite: Suite, pytester: pytest.Pytester) -> None:
    suite(APPLICATION + BUYS_ONCE + READS, EXPLORE, "--fake-credits-explore-report=r.json")
    document = json.loads((pytester.path / "r.json").read_text())
    assert document["version"] == 1
    first, second = document["explorations"]
    assert (first["test"], first["is_red"], second["is_red"]) == ("test_suite.py::test_buys_once", True, False)
    charged = next(each for each in first["schedules"] if each["schedule"] == "2:lost_after")
    assert (charged["verdict"], charged["colour"], charged["outcome"]) == ("charged twice", "red", "failed")
    assert [(each["number"], each["fault"], each["committed"]) for each in charged["exchanges"]] == [
        (1, "", False),
        (2, "lost_after", True),
        (3, "", True),
        (4, "", False),
    ]


class ReportPage(HTMLParser):
    """The headings, tables and exchanges of a report."""

    VOID = ("meta", "br")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.path: list[str] = []
        self.texts: defaultdict[str, list[str]] = defaultdict(list)
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.update(f"{tag} {name}" for name, _ in attrs)
        if tag not in self.VOID:
            self.path.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.path.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts[".".join(self.path[2:])].append(data)


def test_page_shows_each_test_as_a_matrix_whose_cells_expand_to_exchanges(
    suite: Suite, pytester: pytest.Pytester
) -> None:
    suite(APPLICATION + BUYS_ONCE + READS, EXPLORE, "--fake-credits-explore-report=r.html")
    source = (pytester.path / "r.html").read_text()
    page = ReportPage(source)
    assert page.path == []
    assert page.texts["h2"] == ["test_suite.py::test_buys_once", "test_suite.py::test_reads"]
    assert page.texts["table.tr.th"][:8] == [
        *("refused", "lost before", "lost after", "unreadable", "silent", "silent after", "down from here"),
        "1 getBalance ada",
    ]
    assert page.tags.count("table") == 2 + 20  # one for each test, and one for each schedule
    assert page.tags.count("details") == page.tags.count("summary") == 20
    assert page.texts["table.tr.td.details.summary"].count("charged twice") == 1
    assert page.texts["table.tr.td.details.table.tr.td"].count("createTransaction -10") >= 7
    # The page loads no external resources.
    assert page.attributes <= {"html lang", "meta charset", "td class", "p class"}
    assert {"script", "link", "img", "iframe"}.isdisjoint(page.tags)
    assert not re.search(r"@import|url\(", source)


def test_documented_hook_counts_the_schedules_of_each_test(suite: Suite, pytester: pytest.Pytester) -> None:
    conftest = (EXAMPLES / "tutorial" / "explored_hook.py").read_text(encoding="utf-8")
    suite(APPLICATION + BUYS_ONCE + READS, EXPLORE, conftest=conftest)
    assert (pytester.path / "explored.csv").read_text() == "test_buys_once,15,1\ntest_reads,5,0\n"


def test_exploration_runs_print_nothing(suite: Suite) -> None:
    result = suite(APPLICATION + BUYS_ONCE, EXPLORE, "-s")
    assert text_of(result).count("buying") == 1


def test_exploration_runs_log_nothing_to_the_terminal(suite: Suite) -> None:
    source = APPLICATION + "import logging\n" + BUYS_ONCE.replace("    buy", "    logging.warning('begin')\n    buy")
    result = suite(source, EXPLORE, "--log-cli-level=WARNING", "--show-capture=no")
    result.assert_outcomes(failed=1)
    assert text_of(result).count("begin") == 1


def test_debugger_is_entered_once_for_a_red_test(suite: Suite, pytester: pytest.Pytester) -> None:
    debugger = "import pdb\nclass Debugger(pdb.Pdb):\n    def interaction(self, *_):\n        print('debugging')\n"
    pytester.makepyfile(debugger=debugger)
    result = suite(APPLICATION + BUYS_ONCE + READS, EXPLORE, "--pdb", "--pdbcls=debugger:Debugger")
    result.assert_outcomes(failed=1, passed=1)
    assert text_of(result).count("debugging") == 1


def test_breakpoint_stops_in_the_last_run_only(suite: Suite) -> None:
    source = APPLICATION + READS.replace("    assert", "    breakpoint()\n    assert")
    conftest = """
import pytest, sys
@pytest.fixture(scope="session", autouse=True)
def debugger():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "breakpointhook", lambda: print("debugging"))
        yield
"""
    result = suite(source, EXPLORE, "-rA", conftest=conftest)
    result.assert_outcomes(passed=1)
    assert text_of(result).count("debugging") == 1


def test_real_sleeps_of_the_application_are_listed(suite: Suite) -> None:
    source = (
        APPLICATION
        + """
import time
def slow(api):
    time.sleep(0.01)
    return read(api)
def test_sleeps(fake_credits):
    assert slow(fake_credits.server_client) == 100
"""
    )
    result = suite(source, EXPLORE, "--fake-credits-explore-what=refused")
    result.stdout.fnmatch_lines(["real sleep of 0.01 s at test_suite.py:*: inject credits.sleep, which takes no time"])


def test_settings_fixture_cannot_turn_exploration_on(suite: Suite) -> None:
    conftest = "import pytest\n@pytest.fixture(scope='session')\ndef fake_credits_settings():\n"
    result = suite(APPLICATION + READS, conftest=conftest + "    return {'explore': True}")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*fake_credits_settings fixture must not include 'explore', which only a marker or a flag can set*"]
    )


def test_environment_and_ini_turn_exploration_on(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    ini = "fake_credits_explore = true\nfake_credits_explore_what = refused"
    suite(APPLICATION + READS, ini=ini).stdout.fnmatch_lines(["1 test explored, 1 schedule: 1 fine"])
    monkeypatch.setenv("FAKE_CREDITS_EXPLORE", "1")
    suite(APPLICATION + READS).stdout.fnmatch_lines(["1 test explored, 5 schedules: 5 fine"])
    monkeypatch.setenv("FAKE_CREDITS_EXPLORE", "maybe")
    assert "environment variable FAKE_CREDITS_EXPLORE must be 1 or 0, got 'maybe'" in text_of(
        suite(APPLICATION + READS)
    )


def test_call_made_by_a_live_test_itself_is_not_explored(suite: Suite) -> None:
    source = (
        APPLICATION
        + """
@pytest.mark.fake_credits(live=True)
def test_live(fake_credits):
    assert read(fake_credits.server_client) == 100
    fake_credits.server_client.list_transactions("app-id", "ada")
"""
    )
    result = suite(source, EXPLORE)
    result.stdout.fnmatch_lines(
        ["1 test explored, 4 schedules: 4 fine", "not tried: 1 (faults that withhold the response*"]
    )


def test_fixture_calls_for_a_random_user_are_not_explored(suite: Suite) -> None:
    source = (
        APPLICATION
        + """
import uuid
@pytest.fixture
def customer(fake_credits):
    user = str(uuid.uuid4())
    fake_credits.server_client.create_user("app-id", user)
    fake_credits.server_client.create_transaction("app-id", user, delta=100, reason="grant")
    return user
def read_of(api, user):
    return api.get_balance("app-id", user).balance
def test_customer(fake_credits, customer):
    assert read_of(fake_credits.server_client, customer) == 100
"""
    )
    suite(source, EXPLORE).stdout.fnmatch_lines(["1 test explored, 5 schedules: 5 fine"])


def test_only_function_scoped_fixtures_are_fresh_in_each_run(suite: Suite) -> None:
    source = (
        APPLICATION
        + """
made = []
@pytest.fixture(scope="session")
def shared():
    made.append("session")
@pytest.fixture
def fresh():
    made.append("function")
def test_reads(fake_credits, shared, fresh):
    assert read(fake_credits.server_client) == 100
def test_counts():
    assert (made.count("session"), made.count("function")) == (1, 5 + 3)
"""
    )
    suite(source, EXPLORE).assert_outcomes(passed=2)


def test_gate_times_out_after_300_ms_while_exploring(suite: Suite) -> None:
    source = (
        APPLICATION
        + """
@pytest.mark.fake_credits(explore=["refused"])
def test_gate(fake_credits):
    assert fake_credits.sandbox.options.gate_timeout_s == 0.3
    assert read(fake_credits.server_client) == 100
def test_ordinary(fake_credits):
    assert fake_credits.sandbox.options.gate_timeout_s == 10
"""
    )
    suite(source).assert_outcomes(passed=2)


def test_ini_option_names_the_tests_helper_modules(suite: Suite, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(helpers="def read(api):\n    return api.get_balance('app-id', 'ada').balance\n")
    source = "import helpers, pytest\n@pytest.mark.fake_credits(users={'ada': 1})\ndef test_helper(fake_credits):\n"
    source += "    assert helpers.read(fake_credits.server_client) == 1\n"
    result = suite(source, EXPLORE, ini="fake_credits_explore_ours = other helper*")
    result.stdout.fnmatch_lines(["not explored: 1 (only the test itself makes calls): *test_helper"])


def test_no_exploration_modules_are_loaded_when_it_is_off(suite: Suite) -> None:
    source = (
        APPLICATION
        + """
import sys
def test_off(fake_credits):
    assert read(fake_credits.server_client) == 100
    assert not [name for name in sys.modules if "explor" in name and name.startswith("fake_credits")]
    assert "pytest_fake_credits.explore" not in sys.modules
"""
    )
    suite(source, alone=True).assert_outcomes(passed=1)


COMPATIBLE = (
    APPLICATION
    + BUYS_ONCE
    + """
import unittest
async def buy_async(api):
    for _ in range(2):
        try:
            await api.create_transaction("app-id", "ada", delta=-10, reason="consume")
            break
        except ConnectionLost:
            continue
class TestUnit(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def credits_of_the_test(self, fake_credits):
        self.credits = fake_credits
    def setUp(self):
        self.runs = []
    def test_unittest(self):
        self.runs.append(1)
        assert self.runs == [1]
        buy(self.credits.server_client)
        self.assertEqual(self.credits.balance("ada"), 90)
class TestMethods:
    runs = 0
    def test_method(self, fake_credits, tmp_path):
        self.runs += 1
        assert self.runs == 1
        (tmp_path / "only-once").mkdir()
        buy(fake_credits.server_client)
        assert fake_credits.balance("ada") == 90
@pytest.mark.parametrize("user", ["ada"])
def test_parameter(fake_credits, user, caplog):
    buy(fake_credits.server_client, user)
    assert fake_credits.balance(user) == 90
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_anyio(fake_credits, anyio_backend):
    await buy_async(fake_credits.async_server_client)
    assert fake_credits.balance("ada") == 90
@pytest.mark.asyncio
async def test_asyncio(fake_credits):
    await buy_async(fake_credits.async_server_client)
    assert fake_credits.balance("ada") == 90
"""
)
ASYNC_PLUGINS = ("pytest_asyncio.plugin", "anyio.pytest_plugin")
ASYNC_INI = "asyncio_default_fixture_loop_scope = function\nmarkers = anyio\nfake_credits_explore_what = lost_after"


def test_works_with_unittest_async_plugins_and_junit(suite: Suite, pytester: pytest.Pytester) -> None:
    result = suite(COMPATIBLE, EXPLORE, "--junitxml=junit.xml", plugins=ASYNC_PLUGINS, ini=ASYNC_INI)
    result.assert_outcomes(failed=7)
    result.stdout.fnmatch_lines(["7 tests explored, 7 schedules: 7 charged twice"])
    (junit,) = fromstring((pytester.path / "junit.xml").read_text())  # noqa: S314 - it is our own
    failures = [failure.attrib["message"] for failure in junit.iter("failure")]
    assert (junit.attrib["tests"], junit.attrib["failures"], len(failures)) == ("7", "7", 7)
    assert all("fake-credits: 1 schedule: 1 charged twice" in message for message in failures)


@pytest.mark.slow
def test_works_with_xdist_random_order_and_reruns(suite: Suite) -> None:
    marker = "@pytest.mark.fake_credits(explore=['lost_after'])"
    plugins = ("xdist", "randomly", "pytest_rerunfailures")
    result = suite(APPLICATION + marker + BUYS_ONCE + READS, "-n", "1", "--reruns", "2", plugins=plugins, alone=True)
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["1 test explored, 1 schedule: 1 charged twice"])


def test_exitfirst_stops_the_run_at_first_red_finding(suite: Suite) -> None:
    suite(APPLICATION + BUYS_ONCE + READS, EXPLORE, "-x").assert_outcomes(failed=1)


def test_progress_is_shown_on_a_terminal_and_erased() -> None:
    clock = iter([0.0, 0.1, 0.3, 0.9])
    written: list[str] = []

    def write(text: str, *, flush: bool) -> None:
        assert flush
        written.append(text)

    reporter = SimpleNamespace(isatty=True, write=write, currentfspath="x")
    exploration = SimpleNamespace(name="test_a.py::test_buy", describe_progress="after {} s".format)
    progress = Progress(plugins_with(reporter), cast("Any", exploration), lambda: next(clock))
    progress.show()
    assert written == []
    progress.show()
    progress.clear()
    progress.clear()
    assert written == ["\r\x1b[2Ktest_buy: after 0.3 s", "\r\x1b[2K"]
    assert reporter.currentfspath is None


def test_progress_is_not_shown_in_ci() -> None:
    reporter = SimpleNamespace(isatty=False)
    exploration = SimpleNamespace(name="test_a.py::test_buy")
    progress = Progress(plugins_with(reporter), cast("Any", exploration), iter([0.0, 9.0]).__next__)
    progress.show()
    progress.clear()


def plugins_with(reporter: object) -> pytest.Config:
    def get_plugin(_name: str) -> object:
        return reporter

    return cast("pytest.Config", SimpleNamespace(pluginmanager=SimpleNamespace(get_plugin=get_plugin)))


def test_warning_of_a_dying_thread_belongs_to_its_run(suite: Suite) -> None:
    source = (
        APPLICATION
        + """
import threading
def test_thread(fake_credits):
    thread = threading.Thread(target=read, args=(fake_credits.server_client,))
    thread.start()
    thread.join()
"""
    )
    result = suite(source, EXPLORE, "--fake-credits-explore-what=refused")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["1 test explored, 1 schedule: 1 fine"])


def test_subtests_are_reported_once_and_not_explored(suite: Suite) -> None:
    source = (
        APPLICATION
        + """
import unittest
class TestUnit(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def credits_of_the_test(self, fake_credits):
        self.credits = fake_credits
    def test_subtests(self):
        for expected in (100, 101):
            with self.subTest(expected=expected):
                assert read(self.credits.server_client) == expected
"""
    )
    result = suite(source, EXPLORE)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert text_of(result).count("assert 100 == 101\n") == 1
    assert "not explored: 1 (" in text_of(result)


@pytest.mark.slow
def test_works_with_django(suite: Suite, pytester: pytest.Pytester) -> None:
    """Each run gets a fresh transaction in the test database."""
    source = (EXAMPLES / "alone" / "django_view.py").read_text(encoding="utf-8")
    pytester.makepyfile(shop_settings=SHOP_SETTINGS)
    shape = STANDALONE["django_view.py"]
    result = suite(source, EXPLORE, ini=shape.ini, plugins=shape.plugins, alone=True)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["1 test explored, 4 schedules: 4 fine"])


DJANGO_SHOP = """
import pytest
from django.http import JsonResponse
from django.test import Client, override_settings
from django.urls import path
from fake_credits.errors import ApiError, TransportFailure

def charge(api):
    before = api.get_balance("app-id", "ada")
    try:
        api.create_transaction("app-id", "ada", delta=-10, reason="consume")
    except (ApiError, TransportFailure):
        if api.get_balance("app-id", "ada") == before:
            raise

def order(request, api):
    try:
        charge(api)
    except (ApiError, TransportFailure):
        return JsonResponse({"status": "try again later"}, status=503)
    return JsonResponse({"status": "paid"})

@pytest.mark.fake_credits(users={"ada": 100})
@pytest.mark.parametrize("accepted", [(200,), (200, 503)])
def test_order(fake_credits, accepted):
    urls = (path("orders", order, {"api": fake_credits.server_client}),)
    with override_settings(ROOT_URLCONF=urls):
        response = Client().post("/orders")
    assert response.status_code in accepted
    if response.status_code == 200:
        assert fake_credits.balance("ada") == 90
"""


@pytest.mark.slow
def test_django_view_that_answers_503_is_not_red(suite: Suite, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(shop_settings=SHOP_SETTINGS)
    shape = STANDALONE["django_view.py"]
    result = suite(DJANGO_SHOP, EXPLORE, ini=shape.ini, plugins=shape.plugins, alone=True)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["2 tests explored, 28 schedules: *"])


def test_docs_list_every_verdict_and_every_fault() -> None:
    page = PAGES["docs/reference/fixtures-and-marker.md"]
    assert [verdict.value for verdict in Verdict if verdict.value not in page] == []
    assert [name for name in FAULTS if f"| `{name}` |" not in page] == []
