"""The marker: its options, merging and validation."""

from datetime import UTC, datetime

import pytest
from pytest_fake_credits.marker import MARKER_OPTIONS, parse_marks

from fake_credits.explore.options import ExploreOptions
from fake_credits.sandbox_options import OptionError, parse_options
from tests.plugin.conftest import Suite

MERGED_MARKERS = """
import pytest

pytestmark = pytest.mark.fake_credits(balance=1, seed=1, users={"ada": 1})


def options(credits):
    return credits.balance(), credits.sandbox.seed, credits.clock.mode


def test_module(fake_credits):
    assert options(fake_credits) == (1, 1, "real")
    assert fake_credits.balance("ada") == 1


@pytest.mark.fake_credits(seed=2, clock="frozen")
class TestClass:
    def test_class(self, fake_credits):
        assert options(fake_credits) == (1, 2, "frozen")

    @pytest.mark.fake_credits(balance=3)
    @pytest.mark.fake_credits(balance=2)
    def test_function(self, fake_credits):
        assert options(fake_credits) == (3, 2, "frozen")

    @pytest.mark.fake_credits(balance=3)
    @pytest.mark.parametrize("balance", [3, pytest.param(4, marks=pytest.mark.fake_credits(balance=4))])
    def test_parameter(self, fake_credits, balance):
        assert options(fake_credits) == (balance, 2, "frozen")


class TestDerived(TestClass):
    pytestmark = pytest.mark.fake_credits(seed=5, clock="2030-01-01T00:00:00Z")

    def test_class(self, fake_credits):
        assert options(fake_credits) == (1, 5, "frozen")
        assert fake_credits.clock.now().year == 2030

    test_function = test_parameter = None


@pytest.mark.fake_credits(application_id="acme", user_id="u1", api_key="k", auth_provider="clerk", live=True)
def test_other_options(fake_credits, fake_credits_async_user_client):
    assert (fake_credits.application_id, fake_credits.user_id, fake_credits.api_key) == ("acme", "u1", "k")
    assert "127.0.0.1" in repr(fake_credits.server_client)
    assert fake_credits.sandbox.minter.provider.name == "clerk"


@pytest.mark.fake_credits
def test_no_options(fake_credits):
    assert options(fake_credits) == (1, 1, "real")
"""


def test_markers_merge_option_by_option(suite: Suite) -> None:
    """For each option, the nearest marker that sets it wins: module, class, subclass, function or parameter.

    Of several decorators on one function, the uppermost wins.
    """
    suite(MERGED_MARKERS).assert_outcomes(passed=8)


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ("balanse=1", "*test_it: the fake_credits marker has no option 'balanse'; did you mean 'balance'? (known: *"),
        ("world2=[]", "*test_it: the fake_credits marker has no option 'world2'* (known: allow, api_key, *"),
        ("faults=503", "*test_it: the fake_credits marker has faults=503: it must be a Rule, an effect such as *"),
        ("latency=True", "*test_it: the fake_credits marker has latency=True: it must be a number of milliseconds, *"),
        ("100", "*test_it: the fake_credits marker takes keyword arguments such as balance=100, not 100"),
        ("schedule='2:silent'", "*test_it: *has no option 'schedule'; use explore={\"schedules\": [[]...]} (known: *"),
        ("depth=1", "*test_it: *has no option 'depth'; use explore={\"depth\": ...} (known: *"),
        (
            "allow='unused_rule'",
            "*test_it: *one or more of internal_errors, unrouted, unused_rules; did you mean 'unused_rules'?",
        ),
        ("allow=['unrouted', 'internal_error']", "*test_it: *unused_rules; did you mean 'internal_errors'?"),
        ("auth_provider='clark'", "*test_it: *: it must be one of plain, clerk, *; did you mean 'clerk'?"),
        ("balance='1'", "*test_it: the fake_credits marker has balance='1': it must be an integer that*"),
    ],
)
def test_invalid_marker_stops_the_run(suite: Suite, mark: str, message: str) -> None:
    """No test runs, even if the marked test is deselected or does not use the fixture."""
    source = f"import pytest\n@pytest.mark.fake_credits({mark})\ndef test_it(): pass\ndef test_other(): pass"
    result = suite(source, "-k", "other")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: test_suite.py::{message[1:]}"])


def test_unknown_world_fails_only_its_tests_setup(suite: Suite) -> None:
    """Values that only the fake can check, such as a world's name, fail the setup."""
    result = suite(
        """
        import pytest

        @pytest.mark.fake_credits(world="edge", balance=5)
        def test_edge(fake_credits):
            assert fake_credits.balance("maximum-balance") == 2**53 - 1
            assert fake_credits.balance() == 5

        @pytest.mark.fake_credits(world="edgy")
        def test_edgy(fake_credits):
            pass
        """
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["cannot create the sandbox: unknown world 'edgy', *'edge'*"])


@pytest.mark.parametrize(
    ("mark", "problem"),
    [
        ("faults=['lost_aftr']", "faults, entry 1: unknown preset 'lost_aftr': use *"),
        ("latency='uniform(a)'", "latency is 'uniform(a)': it must be *"),
        ("intercept='nothing'", "invalid base URL 'nothing' to intercept: *"),
        ("users={'ada': -1}", "the balance of 'ada' must be from 0 to *"),
        ("contract='no.toml'", "contract: *no.toml: the file can't be read: *"),
    ],
)
def test_value_that_is_checked_with_the_sandbox_fails_only_the_setup(suite: Suite, mark: str, problem: str) -> None:
    result = suite(
        f"import pytest\n@pytest.mark.fake_credits({mark})\ndef test_it(fake_credits): pass\ndef test_other(): pass"
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines([f"cannot create the sandbox: {problem}"])


def test_empty_api_key_means_a_new_random_key(suite: Suite) -> None:
    source = """
        import pytest

        @pytest.mark.parametrize("number", [1, 2])
        @pytest.mark.fake_credits(api_key="")
        def test_it(fake_credits, number, seen=set()):
            seen.add(fake_credits.api_key)
            assert "" not in seen and len(seen) == number
        """
    suite(source).assert_outcomes(passed=2)


def test_marker_with_unknown_fault_field_suggests_the_right_one(suite: Suite) -> None:
    result = suite(
        """
        import pytest

        @pytest.mark.fake_credits(faults=[{"effect": "reset", "when": "after"}])
        def test_when(fake_credits):
            pass
        """
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*faults, entry 1: unknown field 'when': did you mean 'phase'?*"])


def test_conflicting_balance_and_users_markers_are_an_error(suite: Suite) -> None:
    """Neither option takes precedence over the other."""
    result = suite(
        """
        import pytest

        @pytest.mark.fake_credits(balance=7)
        class TestRich:
            @pytest.mark.fake_credits(users={"user-id": 5})
            def test_poor(self, fake_credits):
                pass

            @pytest.mark.fake_credits(users={"user-id": 5}, balance=5)
            def test_consistent(self, fake_credits):
                assert fake_credits.balance() == 5
        """
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["cannot create the sandbox: balance=7 and users={'user-id': 5} contradict*"])


def test_invalid_marker_added_at_run_time_fails_the_setup(suite: Suite) -> None:
    result = suite(
        """
        import pytest

        @pytest.fixture
        def late_marker(request):
            request.node.add_marker(pytest.mark.fake_credits(sed=1))

        def test_late(late_marker, fake_credits):
            pass
        """
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["cannot create the sandbox: the fake_credits marker has no option 'sed'; did you mean 'seed'?*"]
    )


UNUSED_MARKERS = """
import pytest

pytestmark = pytest.mark.fake_credits(balance=1)
free = pytest.param(1, marks=pytest.mark.fake_credits(balance=1))


@pytest.fixture
def wrapper(fake_credits):
    return fake_credits


@pytest.mark.fake_credits(intercept="https://credits.internal", balance=2)
def test_unused():
    pass


@pytest.mark.fake_credits(balance=2)
def test_unused_with_the_factory(fake_credits_factory):
    pass


@pytest.mark.parametrize("number", [free])
def test_unused_parameter(number):
    pass


@pytest.mark.fake_credits(balance=2)
def test_unused_with_request(request):
    pass


@pytest.mark.fake_credits(balance=2)
def test_uses_fixture_at_run_time(request):
    assert request.getfixturevalue("wrapper").balance() == 2


@pytest.mark.fake_credits(allow="unused_rules")
def test_allows_the_factory(fake_credits_factory):
    pass


@pytest.mark.fake_credits(balance=2)
def test_uses_fixture_indirectly(wrapper):
    assert wrapper.balance() == 2


@pytest.mark.usefixtures("fake_credits")
@pytest.mark.fake_credits(balance=2)
def test_use():
    pass


@pytest.mark.fake_credits
def test_no_options():
    pass


@pytest.mark.skip
@pytest.mark.fake_credits(balance=2)
def test_skipped():
    pass


def test_marked_by_module_only():
    pass
"""


def test_marker_without_fixture_fails_its_test(suite: Suite) -> None:
    """The marker would have no effect; a module's marker applies to the module's tests that use the fixture."""
    result = suite(UNUSED_MARKERS, "-rEF")
    result.assert_outcomes(errors=3, failed=1, passed=6, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "the marker's intercept=, balance= can't take effect, because this test does not use *",
            "ERROR test_suite.py::test_unused - Failed: the marker's intercept=, balan*",
            "ERROR test_suite.py::test_unused_with_the_factory - Failed: *",
            "ERROR test_suite.py::test_unused_parameter?1? - Failed: *",
            "FAILED test_suite.py::test_unused_with_request - Failed: *",
        ]
    )
    marked = UNUSED_MARKERS[: UNUSED_MARKERS.index("@pytest.mark.fake_credits(allow")]
    suite(marked, ini="fake_credits_autouse = true").assert_outcomes(passed=5)


def test_markers_flag_lists_every_option(suite: Suite) -> None:
    result = suite("", "--markers")
    line = next(line for line in result.outlines if line.startswith("@pytest.mark.fake_credits("))
    assert all(f"{option}=" in line for option in MARKER_OPTIONS)


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("option", "value", "normalized"),
    [
        ("allow", "internal_errors", ("internal_errors",)),
        ("allow", ["internal_errors"], ("internal_errors",)),
        ("clock", "2026-01-01T12:00:00Z", NOON),
        ("clock", NOON, NOON),
        ("allow", "unused_rules", ("unused_rules",)),
        ("clock", "frozen", "frozen"),
        ("delays", "real", "real"),
        ("faults", ["flaky"], ["flaky"]),
        ("intercept", "https://a", ("https://a",)),
        ("intercept", ["https://a", "http://b"], ("https://a", "http://b")),
        ("intercept", [], ()),
        ("latency", "uniform(10, 50)", "uniform(10, 50)"),
        ("latency", 50, 50),
        ("users", {"ada": 0}, {"ada": 0}),
        ("seed", -1, -1),
        ("world", "demo", "demo"),
    ],
)
def test_option_values_are_normalized(option: str, value: object, normalized: object) -> None:
    """The fake receives one type per option, however the value is written."""
    assert parse_options({option: value}, MARKER_OPTIONS, "here") == {option: normalized}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("allow", "unused_gates"),
        ("allow", [1]),
        ("application_id", None),
        ("balance", True),
        ("balance", 1.0),
        ("clock", "2026-01-01T12:00:00"),
        ("clock", "noon"),
        ("delays", "none"),
        ("faults", ""),
        ("faults", 503),
        ("intercept", ""),
        ("intercept", ["https://a", 1]),
        ("clock", datetime(2026, 1, 1)),
        ("clock", 0),
        ("auth_provider", 1),
        ("live", 1),
        ("seed", "1"),
        ("user_id", b"u"),
        ("users", ["ada"]),
        ("world", ""),
        ("world", 7),
        ("users", {1: 1}),
    ],
)
def test_invalid_option_value_is_an_error(option: str, value: object) -> None:
    """The message names the place, the option, the value and the expected values."""
    with pytest.raises(OptionError) as exc_info:
        parse_options({option: value}, MARKER_OPTIONS, "here")
    message = f"here has {option}={value!r}: it must be {MARKER_OPTIONS[option].expected}"
    if value in ("2026-01-01T12:00:00", datetime(2026, 1, 1)):
        message = f"here has an invalid {option}: {value!r} has no time zone: add one, as in "
    assert str(exc_info.value).startswith(message)


def test_every_exploration_option_has_a_hint() -> None:
    with pytest.raises(ValueError, match="known: ") as caught:
        ExploreOptions().updated({"x": 1})
    names = str(caught.value).partition("(known: ")[2].rstrip(")").split(", ")
    for name in {*names} - {"faults"}:
        with pytest.raises(OptionError, match=f"has no option '{name}'; use explore=.*{name}"):
            parse_marks([pytest.mark.fake_credits(**{name: 1}).mark])


FIRST_ATTEMPTS = """
import pytest


@pytest.mark.fake_credits(
    users={"ada": 5},
    clock="2030-01-02T01:00+01:00",
    latency={"get_balance": 1},
    faults={"effect": "status", "status": 503, "operation": "create_transaction", "during": ["2030-01-02T00:00Z"]},
)
def test_names_of_methods_and_iso_texts(fake_credits):
    with pytest.raises(Exception, match="503"):
        fake_credits.server_client.create_transaction("app-id", "ada", delta=-1, reason="consume")
    fake_credits.server_client.get_balance("app-id", "ada")
    assert fake_credits.clock.now().isoformat() == "2030-01-02T00:00:00.001000+00:00"
"""


def test_marker_accepts_method_names_and_iso_strings(suite: Suite) -> None:
    suite(FIRST_ATTEMPTS).assert_outcomes(passed=1)


def test_clock_without_a_time_zone_is_an_error_that_says_so(suite: Suite) -> None:
    result = suite(FIRST_ATTEMPTS.replace("T01:00+01:00", "T01:00"))
    output = "\n".join([*result.outlines, *result.errlines])
    assert "has an invalid clock: '2030-01-02T01:00' has no time zone: add one, as in " in output
