"""Options: four sources and their order, and what is said of a value that can't be."""

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


def _probe(mark: str = "") -> str:
    return PROBE.replace("MARK", mark)


def test_every_option_derives_its_names() -> None:
    """One table row is a flag, an ini option and an environment variable."""
    names = [(option.flag, option.ini, option.env_variable) for option in PLUGIN_OPTIONS if not option.ini_only]
    assert names[:2] == [
        ("--fake-credits-seed", "fake_credits_seed", "FAKE_CREDITS_SEED"),
        ("--fake-credits-mode", "fake_credits_mode", "FAKE_CREDITS_MODE"),
    ]
    ids = ["application_id", "user_id", "api_key", "auth_provider", "early_env", "autouse", "keep_headers"]
    assert [option.name for option in PLUGIN_OPTIONS] == ["seed", "mode", "log", "latency", "contract", *ids]
    assert names[2][2] == "FAKE_CREDITS_PYTEST_LOG"  # serve's --log has the obvious one


@pytest.mark.parametrize("strongest", range(6))
def test_marker_beats_command_line_beats_fixture_beats_ini_beats_environment(
    suite: Suite, monkeypatch: pytest.MonkeyPatch, strongest: int
) -> None:
    """Each source speaks where none above it does."""
    if strongest <= 4:
        monkeypatch.setenv("FAKE_CREDITS_SEED", "4")
        monkeypatch.setenv("FAKE_CREDITS_MODE", "live")
    ini = "fake_credits_seed = 3\nfake_credits_mode = live" if strongest <= 3 else ""
    own = (
        "import pytest\n@pytest.fixture(scope='session')\ndef fake_credits_settings(): return {'seed': 2, 'live': True}"
    )
    flags = ("--fake-credits-seed=1", "--fake-credits-mode=live") if strongest <= 1 else ()
    mark = "pytestmark = pytest.mark.fake_credits(seed=0, live=False)" if strongest == 0 else ""
    result = suite(_probe(mark), *flags, conftest=own if strongest <= 2 else "", ini=ini)
    seed = 0 if strongest == 5 else strongest
    result.stdout.fnmatch_lines([f"*Failed: seed={seed} live={strongest not in (0, 5)}"])
    if strongest in (1, 3, 4):
        result.stdout.fnmatch_lines([f"fake-credits: seed {seed}, live"])


@pytest.mark.parametrize(
    ("flags", "ini", "environment", "message"),
    [
        (("--fake-credits-seed=x",), "", {}, "--fake-credits-seed is 'x', not an integer"),
        ((), "fake_credits_mode = lve", {}, "ini fake_credits_mode is 'lve', not one of in-process, live"),
        (
            (),
            "",
            {"FAKE_CREDITS_PYTEST_LOG": "some"},
            "environment FAKE_CREDITS_PYTEST_LOG is 'some', not one of failed, all, none",
        ),
        ((), "fake_credits_env = URL", {}, "ini fake_credits_env has the line 'URL', not NAME=text with {base_url}*"),
        ((), "fake_credits_env = A={url}", {}, "ini fake_credits_env has the line 'A={url}', not *"),
        ((), "fake_credits_env = A={url", {}, "ini fake_credits_env has the line 'A={url', not *"),
    ],
)
def test_a_value_that_cannot_be_is_a_usage_error(
    suite: Suite,
    monkeypatch: pytest.MonkeyPatch,
    flags: tuple[str, ...],
    ini: str,
    environment: dict[str, str],
    message: str,
) -> None:
    """It names where the value stands, the value, and what it may be."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    result = suite(_probe(), *flags, ini=ini)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: fake-credits: {message}"])


def test_a_folder_has_settings_of_its_own(suite: Suite, pytester: pytest.Pytester) -> None:
    """The nearest conftest's ``fake_credits_settings`` counts, whichever folder's tests run first."""
    own = "import pytest\n@pytest.fixture(scope='session')\ndef fake_credits_settings(): return {'seed': SEED}"
    for name in ("a", "b"):
        folder = pytester.mkdir(name)
        (folder / "conftest.py").write_text(own.replace("SEED", str(ord(name))), encoding="utf-8")
        probe = f"def test_{name}(fake_credits): assert fake_credits.sandbox.seed == {ord(name)}"
        (folder / f"test_{name}.py").write_text(probe, encoding="utf-8")
    suite("def test_root(fake_credits): assert fake_credits.sandbox.seed == 0").assert_outcomes(passed=3)


def test_the_settings_fixture_has_the_markers_words_only(suite: Suite) -> None:
    """A misspelt word fails the tests that use the plugin, with the words that there are."""
    own = "import pytest\n@pytest.fixture(scope='session')\ndef fake_credits_settings(): return {'balanse': 1}"
    result = suite(_probe(), conftest=own)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["the fixture fake_credits_settings has no word 'balanse', did you mean 'balance'?*"])


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("None", "must be a mapping of words to values, not NoneType"),
        ("['live']", "must be a mapping of words to values, not list"),
        ("{1: 2}", "has 1, which must be a word, not int"),
    ],
)
def test_what_is_no_words_is_told_in_a_line(suite: Suite, told: str, said: str) -> None:
    own = f"import pytest\n@pytest.fixture(scope='session')\ndef fake_credits_settings(): return {told}"
    result = suite(_probe(), conftest=own)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"the fixture fake_credits_settings {said}"])
