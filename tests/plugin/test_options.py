"""Plugin options: their sources, precedence and validation."""

import textwrap

import pytest
from pytest_fake_credits.config_options import PLUGIN_OPTIONS

from tests.plugin.conftest import Suite

PROBE = """
import pytest

MARK

def test_probe(fake_credits):
    url = repr(fake_credits.server_client).split("'")[1]
    pytest.fail(f"seed={fake_credits.sandbox.seed} live={'127.0.0.1' in url}")
"""


def probe_source(mark: str = "") -> str:
    return PROBE.replace("MARK", mark)


def test_every_option_derives_flag_ini_and_variable_names() -> None:
    """Each option that is not ini-only is also a flag and an environment variable."""
    names = [(option.flag, option.ini, option.env_variable) for option in PLUGIN_OPTIONS if not option.ini_only]
    assert names[:2] == [
        ("--fake-credits-seed", "fake_credits_seed", "FAKE_CREDITS_SEED"),
        ("--fake-credits-mode", "fake_credits_mode", "FAKE_CREDITS_MODE"),
    ]
    ids = ["application_id", "user_id", "api_key", "auth_provider", "issuer", "early_env", "autouse"]
    explore = [f"explore{suffix}" for suffix in ("", "_what", "_depth", "_budget", "_report")]
    more = [*explore, "schedule", "explore_ours", "keep_headers"]
    assert [option.name for option in PLUGIN_OPTIONS] == ["seed", "mode", "log", "latency", "contract", *ids, *more]
    assert names[2][2] == "FAKE_CREDITS_PYTEST_LOG"  # FAKE_CREDITS_LOG belongs to serve's --log


@pytest.mark.parametrize("strongest", range(6))
def test_option_sources_have_the_documented_precedence(
    suite: Suite, monkeypatch: pytest.MonkeyPatch, strongest: int
) -> None:
    """From highest to lowest: marker, command line, settings fixture, ini file, environment, default."""
    if strongest <= 4:
        monkeypatch.setenv("FAKE_CREDITS_SEED", "4")
        monkeypatch.setenv("FAKE_CREDITS_MODE", "live")
    ini = "fake_credits_seed = 3\nfake_credits_mode = live" if strongest <= 3 else ""
    conftest = (
        "import pytest\n@pytest.fixture(scope='session')\ndef fake_credits_settings(): return {'seed': 2, 'live': True}"
    )
    flags = ("--fake-credits-seed=1", "--fake-credits-mode=live") if strongest <= 1 else ()
    mark = "pytestmark = pytest.mark.fake_credits(seed=0, live=False)" if strongest == 0 else ""
    result = suite(probe_source(mark), *flags, conftest=conftest if strongest <= 2 else "", ini=ini)
    seed = 0 if strongest == 5 else strongest
    result.stdout.fnmatch_lines([f"*Failed: seed={seed} live={strongest not in (0, 5)}"])
    if strongest in (1, 3, 4):
        result.stdout.fnmatch_lines([f"fake-credits: seed {seed}, live"])


@pytest.mark.parametrize(
    ("flags", "ini", "environment", "message"),
    [
        (("--fake-credits-schedule=",), "", {}, "--fake-credits-schedule must not be empty"),
        (("--fake-credits-seed=",), "fake_credits_seed = 1", {}, "--fake-credits-seed must not be empty"),
        (("--fake-credits-seed=x",), "", {}, "--fake-credits-seed must be an integer, got 'x'"),
        ((), "fake_credits_mode = lve", {}, "ini option fake_credits_mode must be one of in-process, live, got 'lve'"),
        (
            (),
            "",
            {"FAKE_CREDITS_PYTEST_LOG": "some"},
            "environment variable FAKE_CREDITS_PYTEST_LOG must be one of failed, all, none, got 'some'",
        ),
        (
            (),
            "fake_credits_env = URL",
            {},
            "ini option fake_credits_env: 'URL' does not have the form NAME=text, where text may contain *",
        ),
        ((), "fake_credits_env = A={url}", {}, "ini option fake_credits_env: 'A={url}' does not have the form *"),
        ((), "fake_credits_env = A={url", {}, "ini option fake_credits_env: 'A={url' does not have the form *"),
    ],
)
def test_invalid_option_value_is_a_usage_error(
    suite: Suite,
    monkeypatch: pytest.MonkeyPatch,
    flags: tuple[str, ...],
    ini: str,
    environment: dict[str, str],
    message: str,
) -> None:
    """The message names the source, the value and the allowed values."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    result = suite(probe_source(), *flags, ini=ini)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: fake-credits: {message}"])


def test_help_has_short_metavars_and_no_repetition(suite: Suite) -> None:
    text = " ".join(suite("", "--help").stdout.str().split())
    for part in (
        "--fake-credits-seed=SEED random seed for every sandbox: an integer",
        "--fake-credits-contract=FILE contract for every sandbox: a TOML file",
        "--fake-credits-schedule=SCHEDULE schedule to replay, such as '2:lost_after'",
        "exploring: default, writes, same, all, or fault names separated by commas",
        "fake_credits_user_id (string): id of the default user (default: 'user-id')",
    ):
        assert part in text


def test_folder_can_override_the_settings_fixture(suite: Suite, pytester: pytest.Pytester) -> None:
    """The nearest conftest's ``fake_credits_settings`` is used, whichever folder's tests run first."""
    conftest = "import pytest\n@pytest.fixture(scope='session')\ndef fake_credits_settings(): return {'seed': SEED}"
    for name in ("a", "b"):
        folder = pytester.mkdir(name)
        (folder / "conftest.py").write_text(conftest.replace("SEED", str(ord(name))), encoding="utf-8")
        probe = f"def test_{name}(fake_credits): assert fake_credits.sandbox.seed == {ord(name)}"
        (folder / f"test_{name}.py").write_text(probe, encoding="utf-8")
    suite("def test_root(fake_credits): assert fake_credits.sandbox.seed == 0").assert_outcomes(passed=3)


LOOSE_AND_STRICT = {
    "loose/conftest.py": """
        import pytest

        @pytest.fixture(scope="session")
        def fake_credits_settings(): return {"allow": "unused_rules", "user_id": "loose"}
        """,
    "loose/test_loose.py": """
        def test_loose(fake_credits_factory):
            with fake_credits_factory() as credits:
                assert credits.user_id == "loose"
                credits.faults.add({"effect": "reset", "nth": 1})
        """,
    "strict/conftest.py": """
        import pytest

        @pytest.fixture(scope="session")
        def fake_credits_settings(): return {"user_id": "strict"}

        @pytest.fixture(scope="session")
        def shared(fake_credits_factory):
            with fake_credits_factory() as credits:
                yield credits
        """,
    "strict/test_strict.py": """
        def test_own_settings(fake_credits_factory, shared):
            with fake_credits_factory() as credits:
                assert (credits.user_id, shared.user_id) == ("strict", "strict")

        def test_unused_rule(fake_credits_factory):
            with fake_credits_factory() as credits:
                credits.faults.add({"effect": "reset", "nth": 1})

        def test_unused_rule_of_the_fixture(fake_credits):
            fake_credits.faults.add({"effect": "reset", "nth": 1})
        """,
}


@pytest.mark.parametrize("folders", [("strict",), ("loose", "strict"), ("strict", "loose")], ids=" ".join)
def test_settings_of_one_folder_do_not_reach_another(
    suite: Suite, pytester: pytest.Pytester, folders: tuple[str, ...]
) -> None:
    """A test's outcome depends only on its own conftests, whichever folder runs first."""
    for name, source in LOOSE_AND_STRICT.items():
        file = pytester.path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(textwrap.dedent(source), encoding="utf-8")
    result = suite("", "-rfE", *folders)
    result.assert_outcomes(passed=len(folders), failed=2)
    result.stdout.fnmatch_lines_random(["FAILED strict/*::test_unused_rule - *", "FAILED strict/*_of_the_fixture - *"])


def test_unknown_option_in_settings_fixture_is_an_error(suite: Suite) -> None:
    """A misspelt option fails the tests that use the plugin, with an error that suggests the right name."""
    conftest = "import pytest\n@pytest.fixture(scope='session')\ndef fake_credits_settings(): return {'balanse': 1}"
    result = suite(probe_source(), conftest=conftest)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["the fake_credits_settings fixture has no option 'balanse'; did you mean 'balance'?*"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("None", "must return a mapping of options to values, got NoneType"),
        ("['live']", "must return a mapping of options to values, got list"),
        ("{1: 2}", "has no option 1 (known: allow, *"),
    ],
)
def test_settings_fixture_with_wrong_type_is_an_error(suite: Suite, settings: str, message: str) -> None:
    conftest = f"import pytest\n@pytest.fixture(scope='session')\ndef fake_credits_settings(): return {settings}"
    result = suite(probe_source(), conftest=conftest)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"the fake_credits_settings fixture {message}"])
