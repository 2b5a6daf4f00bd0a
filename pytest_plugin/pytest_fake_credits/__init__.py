"""The pytest plugin's hooks and fixtures.

This module imports the fake only when it is needed, so that the plugin costs almost nothing when it is installed but
not used. PYTEST_DONT_REWRITE
"""

import os
import re
import sys
from collections.abc import Generator, Iterator, Mapping
from typing import TYPE_CHECKING

import pluggy
import pytest

_MINIMUM = {"pytest": (7, 0), "pluggy": (1, 2)}  # the first versions with StashKey and with hookimpl(wrapper=True)


def check_versions(**versions: str) -> None:
    """Raise UsageError if the installed pytest or pluggy is too old."""
    major_minor = {name: tuple(map(int, re.findall(r"\d+", version)[:2])) for name, version in versions.items()}
    if any(version < _MINIMUM[name] for name, version in major_minor.items()):
        needed = " and ".join(f"{name} {major}.{minor} or later" for name, (major, minor) in _MINIMUM.items())
        installed = " and ".join(f"{name} {version}" for name, version in versions.items())
        raise pytest.UsageError(f"fake-credits needs {needed}, got {installed}: pip install -U pytest pluggy")


# first, because the imports below require these versions
check_versions(pytest=pytest.__version__, pluggy=pluggy.__version__)

from pytest_fake_credits import explore_hooks  # noqa: E402
from pytest_fake_credits.config_options import (  # noqa: E402
    SETTINGS_KEY,
    PluginSetting,
    add_options,
    default_options,
    is_enabled,
    read_settings,
)
from pytest_fake_credits.marked_items import (  # noqa: E402
    fail_on_overridden_fixture,
    fail_on_unused_options,
    failure,
    is_marked_itself,
)

if TYPE_CHECKING:
    from fake_credits.client.server import AsyncServerClient, ServerClient
    from fake_credits.client.user import AsyncUserClient, UserClient
    from fake_credits.fake import FakeCredits
    from fake_credits.transports.live import LiveServer
    from pytest_fake_credits.early_env import EarlyEnvironment
    from pytest_fake_credits.factory import Factory

__all__ = [
    "check_versions",
    "fake_credits_async_server_client",
    "fake_credits_async_user_client",
    "fake_credits_env",
    "fake_credits_factory",
    "fake_credits_server",
    "fake_credits_server_client",
    "fake_credits_settings",
    "fake_credits_user_client",
]

_FACTORY_KEY = pytest.StashKey["Factory"]()
_EARLY_ENVIRONMENT_KEY = pytest.StashKey["EarlyEnvironment"]()
_TEST_KEY = pytest.StashKey[pytest.Item]()
_MARKS_KEY = pytest.StashKey[tuple[list[pytest.Mark], dict[str, object]]]()
_OPTIONS_KEY = pytest.StashKey[dict[str, object]]()
pytest_addhooks = explore_hooks.pytest_addhooks


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the plugin's options."""
    add_options(parser)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, object, object]:
    """If ``early_env`` is on, set environment variables before conftests or pytest-django load an application."""
    if is_enabled(early_config, "early_env"):
        from pytest_fake_credits import early_env

        try:
            environment = early_env.EarlyEnvironment(read_settings(early_config))
        except ValueError as error:
            raise pytest.UsageError(f"fake-credits: {error}") from None
        early_config.stash[_EARLY_ENVIRONMENT_KEY] = environment
        early_config.add_cleanup(environment.close)
    return (yield)


def pytest_configure(config: pytest.Config) -> None:
    """Read the options and register the marker."""
    settings = config.stash[SETTINGS_KEY] = read_settings(config)
    config.addinivalue_line("markers", _marker_line(config))
    if settings["early_env"].value:
        environment = _early_environment(config)
        if environment is None:
            raise pytest.UsageError(
                "fake-credits: the ini option fake_credits_early_env requires the plugin to be loaded before conftests"
            )
        settings["api_key"] = PluginSetting(environment.api_key, "ini option fake_credits_early_env")
    config.pluginmanager.register(_SandboxPlugin(config), "pytest_fake_credits.sandbox")
    if settings["autouse"].value:
        config.pluginmanager.register(_AutousePlugin(), "pytest_fake_credits.autouse")
    explore_hooks.watch_for_explorations(config, _marker_options)


def _marker_line(config: pytest.Config) -> str:
    if not config.getoption("markers", False):
        return "fake_credits(...): initial options of the test's sandbox"
    from pytest_fake_credits.marker import marker_help  # this import loads the fake

    return marker_help()


class _SandboxPlugin:
    """A plugin with the ``fake_credits`` fixture. It stores the config to avoid the cost of ``pytestconfig``."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.fixture
    def fake_credits(self, fake_credits_settings: Mapping[str, object]) -> "Iterator[FakeCredits]":
        """Yield a `FakeCredits` with a new sandbox and the options of the test's markers."""
        item = self._config.stash[_TEST_KEY]
        options = _defaults_of_test(self._config, fake_credits_settings)
        try:
            options |= _marker_options(item)
            if "faults" in options and not is_marked_itself(item, "faults"):
                from pytest_fake_credits.marker import as_outer_faults

                options["faults"] = as_outer_faults(options["faults"])
            fake = _factory(self._config).make(explore_hooks.run_options(self._config, options))
        except (TypeError, ValueError) as error:
            raise failure(f"cannot create the sandbox: {error}") from None
        item.stash[_OPTIONS_KEY] = options
        explore_hooks.attach(self._config, fake)
        yield fake
        for problem in fake.close():
            item.warn(pytest.PytestWarning(f"{item.nodeid}: fake-credits: {problem}"))


class _AutousePlugin:
    """A plugin whose autouse fixture gives every test a sandbox; registered only if ``fake_credits_autouse`` is on."""

    @pytest.fixture(autouse=True)
    def fake_credits_for_every_test(self, fake_credits: "FakeCredits") -> None:
        """Provide a sandbox for a test that does not request one."""


def _early_environment(config: pytest.Config) -> "EarlyEnvironment | None":
    return config.stash.get(_EARLY_ENVIRONMENT_KEY, None)


def pytest_report_header(config: pytest.Config) -> str:
    """Return a line with the settings needed to reproduce the run."""
    settings = config.stash[SETTINGS_KEY]
    return f"fake-credits: seed {settings['seed'].value}, {settings['mode'].value}"


def pytest_make_parametrize_id(val: object) -> str | None:
    """Return a short id for a rule, an effect or a distribution, or None for any other value."""
    effects = sys.modules.get("fake_credits.faults.effects.base")  # if it isn't loaded, ``val`` can't be a FaultValue
    return str(val) if effects is not None and isinstance(val, effects.FaultValue) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Before any test runs, reject invalid markers, including those on deselected tests.

    In pytest-xdist workers, a UsageError would be reported as an internal error, so there the test's setup fails
    instead.
    """
    if hasattr(config, "workerinput"):
        return
    for item in items:
        try:
            _marker_options(item)
        except ValueError as error:
            raise pytest.UsageError(f"{item.nodeid}: {error}") from None


def _marker_options(item: pytest.Item) -> dict[str, object]:
    """Return the merged options of a test's markers, parsed once; raise ValueError for an invalid marker.

    Markers closer to the test win: a function's over its class's or module's. At the same level, the marker added last
    wins: a parameter's over the function's, a subclass's over its base class's.
    """
    marks = [mark for node in item.listchain() for mark in node.own_markers if mark.name == "fake_credits"]
    if not marks:
        return {}
    parsed = item.stash.get(_MARKS_KEY, None)
    if parsed is None or parsed[0] != marks:  # plugins and fixtures may add markers later
        from pytest_fake_credits.marker import parse_marks

        parsed = item.stash[_MARKS_KEY] = marks, parse_marks(marks)
    return parsed[1]


@pytest.hookimpl  # not tryfirst, so that skipped tests are not checked
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Prepare the factory for a new test; reject invalid markers added late, and markers on tests without a sandbox."""
    item.config.stash[_TEST_KEY] = item
    factory = item.config.stash.get(_FACTORY_KEY, None)
    if factory is not None:
        factory.start_test()
    try:
        _marker_options(item)
    except ValueError as error:
        raise failure(str(error)) from None
    fail_on_unused_options(item, is_over=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a passing test if its sandboxes have problems, such as a broken invariant or an unused fault."""
    if _OPTIONS_KEY not in item.stash:
        fail_on_overridden_fixture(item, _marker_options(item))
    factory = item.config.stash.get(_FACTORY_KEY, None)
    if factory is not None:
        factory.start_call()
    result = yield
    if _OPTIONS_KEY not in item.stash:
        fail_on_unused_options(item, is_over=True)
    factory = item.config.stash.get(_FACTORY_KEY, None)  # the test may have been the first to request it
    if factory is not None:
        options = item.stash.get(_OPTIONS_KEY, None)
        paragraphs, cause = factory.problems(
            lambda: {**(factory.options if options is None else options), **_marker_options(item)}.get("allow", ())
        )
        if paragraphs:
            raise failure("\n".join(paragraphs)) from cause
    return result


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Hide the fake's frames in tracebacks, and add the sandboxes' exchanges to reports if the log option says so."""
    if call.excinfo is not None and "fake_credits.errors" in sys.modules:
        from pytest_fake_credits.terminal import hide_internal_frames

        hide_internal_frames()
    report = yield
    factory = item.config.stash.get(_FACTORY_KEY, None)
    log = item.config.stash[SETTINGS_KEY]["log"].value
    is_wanted = log != "none" and (report.failed or (log == "all" and report.when == "call"))
    if factory is not None and is_wanted and not explore_hooks.is_exploring(item.config):
        from pytest_fake_credits.report import add_section

        is_hypothesis = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
        add_section(report, factory.tracked_sandboxes(only_last_example=is_hypothesis), call.excinfo)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_exception_interact(node: pytest.Item | pytest.Collector, report: pytest.TestReport) -> None:
    """Write the report's section before a debugger prompt opens, while the sandboxes are still open."""
    factory, terminal = (
        node.config.stash.get(_FACTORY_KEY, None),
        node.config.pluginmanager.get_plugin("terminalreporter"),
    )
    if factory is not None and terminal is not None and node.config.getoption("usepdb", False):
        from pytest_fake_credits.report import write_before_prompt

        write_before_prompt(terminal, report, factory.open_sandboxes())


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None, None, None]:
    """Colour the sections that pytest's summary prints; the reports stay plain for formats such as JUnit XML."""
    if terminalreporter.hasmarkup:
        from pytest_fake_credits.terminal import coloured_sections

        reports = [report for group in terminalreporter.stats.values() for report in group]
        with coloured_sections(terminalreporter, reports):
            return (yield)
    return (yield)


@pytest.hookimpl(trylast=True)  # last, because session fixtures may use the factory's sandboxes in their teardown
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Close the factory."""
    factory = session.config.stash.get(_FACTORY_KEY, None)
    if factory is not None:
        factory.close()


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Explain a failed comparison with a `Balance`."""
    if op != "==" or "fake_credits.models" not in sys.modules:
        return None
    from pytest_fake_credits.report import explain_balance

    return explain_balance(left, right)


def _defaults_of_test(config: pytest.Config, settings: object) -> dict[str, object]:
    from pytest_fake_credits.marker import parse_settings

    try:
        return default_options(config, parse_settings(settings))
    except ValueError as error:
        raise failure(str(error)) from None


def _factory(config: pytest.Config) -> "Factory":
    """Return the session's factory, creating it on first use."""
    factory = config.stash.get(_FACTORY_KEY, None)
    if factory is None:
        from pytest_fake_credits.factory import Factory

        factory = Factory(lambda: _options_without_markers(config), _early_environment(config))
        config.stash[_FACTORY_KEY] = factory
    return factory


def _options_without_markers(config: pytest.Config) -> dict[str, object]:
    # No public API lets a wider-scoped fixture get the running test's override of ``fake_credits_settings``.
    request: pytest.FixtureRequest | None = getattr(config.stash[_TEST_KEY], "_request", None)
    settings: object = request.getfixturevalue("fake_credits_settings") if request else {}
    return _defaults_of_test(config, settings)


@pytest.fixture(scope="session")
def fake_credits_settings() -> dict[str, object]:
    """Override this in a conftest to set sandbox options; the marker and the command line take precedence."""
    return {}


@pytest.fixture(scope="session")
def fake_credits_factory(pytestconfig: pytest.Config) -> "Factory":
    """Return a sandbox factory for fixtures of any scope: ``with fake_credits_factory(balance=100) as credits``."""
    return _factory(pytestconfig)


@pytest.fixture
def fake_credits_server_client(fake_credits: "FakeCredits") -> "ServerClient":
    """Return a `ServerClient` with the sandbox's API key."""
    return fake_credits.server_client


@pytest.fixture
def fake_credits_async_server_client(fake_credits: "FakeCredits") -> "AsyncServerClient":
    """Return an `AsyncServerClient`, usable in any event loop, with the sandbox's API key."""
    return fake_credits.async_server_client


@pytest.fixture
def fake_credits_user_client(fake_credits: "FakeCredits") -> "UserClient":
    """Return a `UserClient` for the default user, which is created if needed."""
    fake_credits.user(fake_credits.user_id)
    return fake_credits.user_client()


@pytest.fixture
def fake_credits_async_user_client(fake_credits: "FakeCredits") -> "AsyncUserClient":
    """Return an `AsyncUserClient`, usable in any event loop, for the default user, which is created if needed."""
    fake_credits.user(fake_credits.user_id)
    return fake_credits.async_user_client()


@pytest.fixture(scope="session")
def fake_credits_server(fake_credits_factory: "Factory") -> "LiveServer":
    """Return the worker's live server, which serves every test's sandbox at the same ``base_url``."""
    return fake_credits_factory.server()


@pytest.fixture
def fake_credits_env(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, fake_credits: "FakeCredits"
) -> dict[str, str]:
    """Set ``CREDITS_BASE_URL``, ``CREDITS_API_KEY`` and so on for the code under test; return the variables.

    The ini option ``fake_credits_env`` can replace these variables. The loopback addresses are added to ``NO_PROXY``.
    The default user is not created.
    """
    from fake_credits.transports.environment import env_values, no_proxy_with_loopback

    templates: Mapping[str, str] = request.config.stash[SETTINGS_KEY]["env"].value
    try:
        fields = env_values(fake_credits.sandbox, fake_credits.base_url)
    except ValueError as error:  # the contract may reject the default user's id
        raise failure(
            f"cannot set the variables: {error}; choose another user id with the ini option fake_credits_user_id"
        ) from None
    variables = {name: text.format_map(fields) for name, text in templates.items()}
    variables |= no_proxy_with_loopback(os.environ)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables
