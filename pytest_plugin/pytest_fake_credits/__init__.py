"""The pytest plugin's hooks and fixtures.

Until a fixture is used this imports only pytest and the cheap part of the standard library: an installed but unused
plugin must cost next to nothing. PYTEST_DONT_REWRITE
"""

import inspect
import os
import re
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pluggy
import pytest

_MINIMUM = {"pytest": (7, 0), "pluggy": (1, 2)}  # the first with StashKey, the first with hookimpl(wrapper=True)


def check_versions(**versions: str) -> None:
    """Check the installed versions of pytest and pluggy; raise UsageError where one is too old."""
    major_minor = {name: tuple(map(int, re.findall(r"\d+", version)[:2])) for name, version in versions.items()}
    if any(version < _MINIMUM[name] for name, version in major_minor.items()):
        needed = " and ".join(f"{name} {major}.{minor} or later" for name, (major, minor) in _MINIMUM.items())
        installed = " and ".join(f"{name} {version}" for name, version in versions.items())
        raise pytest.UsageError(f"fake-credits needs {needed}, got {installed}: pip install -U pytest pluggy")


check_versions(pytest=pytest.__version__, pluggy=pluggy.__version__)  # before the imports that need them

from pytest_fake_credits.config_options import (  # noqa: E402
    SETTINGS_KEY,
    PluginSetting,
    add_options,
    default_options,
    is_enabled,
    read_settings,
)
from pytest_fake_credits.explore_hooks import (  # noqa: E402
    HookSpecifications,
    WorkerReports,
    explore_plugin_of,
    register_explore_plugin,
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
    "fake_credits",
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


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the plugin's own hook."""
    pluginmanager.add_hookspecs(HookSpecifications)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, object, object]:
    """Set the environment, where the ini says so, before a conftest, or pytest-django, loads an application."""
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
    """Read the options, once, and announce the marker."""
    settings = config.stash[SETTINGS_KEY] = read_settings(config)
    config.addinivalue_line("markers", _marker_line(config))
    if settings["early_env"].value:
        environment = _early_environment(config)
        if environment is None:
            raise pytest.UsageError("fake-credits: ini fake_credits_early_env is too late for a plugin of a conftest")
        settings["api_key"] = PluginSetting(environment.api_key, "ini fake_credits_early_env")
    if settings["autouse"].value:
        config.pluginmanager.register(_AutousePlugin(), "pytest_fake_credits.autouse")
    if settings["explore"].value or settings["schedule"].value or settings["explore_report"].value:
        register_explore_plugin(config, _marker_options)
    elif config.getoption("numprocesses", None):
        config.pluginmanager.register(WorkerReports(config, _marker_options), "pytest_fake_credits.worker_reports")


def _marker_line(config: pytest.Config) -> str:
    if not config.getoption("markers", False):
        return "fake_credits(...): how the test's sandbox starts"
    from pytest_fake_credits.marker import marker_help  # imports the fake, for whom asks what the words are

    return marker_help()


class _AutousePlugin:
    """The fixture that gives every test a sandbox; registered only if the ini ``fake_credits_autouse`` is on."""

    @pytest.fixture(autouse=True)
    def fake_credits_for_every_test(self, fake_credits: "FakeCredits") -> None:
        """Provide a sandbox for a test that does not request one."""


def _early_environment(config: pytest.Config) -> "EarlyEnvironment | None":
    return config.stash.get(_EARLY_ENVIRONMENT_KEY, None)


def pytest_report_header(config: pytest.Config) -> str:
    """Return one line with what a rerun needs."""
    settings = config.stash[SETTINGS_KEY]
    return f"fake-credits: seed {settings['seed'].value}, {settings['mode'].value}"


def pytest_make_parametrize_id(val: object) -> str | None:
    """Return a short id for a rule or an effect."""
    effects = sys.modules.get("fake_credits.faults.effects.base")  # a value of its classes has imported it
    return str(val) if effects is not None and isinstance(val, effects.FaultValue) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse a marker that can't be before any test runs, deselected ones too.

    A worker of pytest-xdist can't refuse a collection without an internal error: there the test's setup fails.
    """
    for item in items:
        try:
            options = _marker_options(item)
        except ValueError as error:
            if hasattr(config, "workerinput"):
                continue
            raise pytest.UsageError(f"{item.nodeid}: {error}") from None
        if options.get("explore", False) is not False:
            register_explore_plugin(config, _marker_options)


def _marker_options(item: pytest.Item) -> dict[str, object]:
    """Return the merged options of a test's markers, parsed once; raise ValueError for one that can't be.

    On one object the marker added last wins: a parameter's over the function's, a subclass's over its base's.
    """
    marks = [mark for node in item.listchain() for mark in node.own_markers if mark.name == "fake_credits"]
    if not marks:
        return {}
    parsed = item.stash.get(_MARKS_KEY, None)
    if parsed is None or parsed[0] != marks:  # another plugin or a fixture may add one later
        from pytest_fake_credits.marker import parse_marks

        parsed = item.stash[_MARKS_KEY] = marks, parse_marks(marks)
    return parsed[1]


@pytest.hookimpl  # not tryfirst: of a test that is skipped nothing is asked
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Start a test with the sandboxes that outlive tests; reject a marker that was added late or has no sandbox."""
    item.config.stash[_TEST_KEY] = item
    factory = item.config.stash.get(_FACTORY_KEY, None)
    if factory is not None:
        factory.start_test()
    with _plain_failure():
        _marker_options(item)
    _fail_on_unused_options(item, is_over=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test that passed so far where it proves nothing: the fake went wrong, a fault never came, a call hung."""
    factory = item.config.stash.get(_FACTORY_KEY, None)
    if factory is not None:
        factory.start_call()
    result = yield
    if _OPTIONS_KEY not in item.stash:
        _fail_on_unused_options(item, is_over=True)
    factory = item.config.stash.get(_FACTORY_KEY, None)  # a test may be the first to ask for it
    if factory is not None:
        options = item.stash.get(_OPTIONS_KEY, None)
        problems, cause = factory.problems(
            lambda: {**(factory.options if options is None else options), **_marker_options(item)}.get("allow", ())
        )
        if problems:
            message = f"{problems[0]}\nSo fake-credits fails this test, which passed but proves nothing"
            raise _failure("\n".join([f"{message}; and:" if problems[1:] else f"{message}.", *problems[1:]])) from cause
    return result


def _fail_on_unused_options(item: pytest.Item, *, is_over: bool) -> None:
    """Fail a test whose own function, or parameter, has a marker with options that no sandbox starts from.

    Those of a class or a module may be for other tests of it. ``allow`` is for the factory's sandboxes too. A test
    that takes pytest's ``request`` may ask for the fixture until it is over.
    """
    fixtures: Sequence[str] = getattr(item, "fixturenames", ())
    if "fake_credits" in fixtures:
        return
    options = {name: None for mark in item.own_markers if mark.name == "fake_credits" for name in mark.kwargs}
    if "fake_credits_factory" in fixtures:
        options.pop("allow", None)
    function = getattr(item, "obj", None)
    if options and (is_over or not callable(function) or "request" not in inspect.signature(function).parameters):
        raise _failure(
            f"the marker's {', '.join(f'{name}=' for name in options)} would do nothing: this test does not use the "
            'fixture fake_credits. Write @pytest.mark.usefixtures("fake_credits") or the parameter fake_credits, or '
            "turn on the ini fake_credits_autouse; a sandbox of fake_credits_factory(...) takes its words there"
        )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the sandboxes' exchanges to the report of a failing test."""
    report = yield
    factory = item.config.stash.get(_FACTORY_KEY, None)
    log = item.config.stash[SETTINGS_KEY]["log"].value
    explore_plugin = explore_plugin_of(item.config)
    is_inner = explore_plugin is not None and explore_plugin.is_running
    is_wanted = not is_inner and log != "none" and (report.failed or (log == "all" and report.when == "call"))
    if factory is not None and is_wanted:
        from pytest_fake_credits.report import render_section

        text = render_section(factory.tracked_sandboxes())
        if text:
            report.sections.append(("fake-credits", text))
    return report


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Explain a comparison with a `Balance`, where there can be one."""
    if op != "==" or "fake_credits.models" not in sys.modules:
        return None
    from pytest_fake_credits.report import explain_balance

    return explain_balance(left, right)


def _failure(message: str) -> BaseException:
    return pytest.fail.Exception(message, pytrace=False)


@contextmanager
def _plain_failure() -> Generator[None]:
    try:
        yield
    except ValueError as error:
        raise _failure(str(error)) from None


def _defaults_of_test(config: pytest.Config, settings: object) -> dict[str, object]:
    from pytest_fake_credits.marker import parse_settings

    with _plain_failure():
        return default_options(config, parse_settings(settings))


@pytest.fixture(scope="session")
def fake_credits_settings() -> dict[str, object]:
    """Override, in any conftest, to give sandboxes words of the marker; marker and command line are stronger."""
    return {}


@pytest.fixture(scope="session")
def fake_credits_factory(pytestconfig: pytest.Config) -> "Iterator[Factory]":
    """Make sandboxes of any life, for fixtures of any scope: ``with fake_credits_factory(balance=100) as credits``."""
    from pytest_fake_credits.factory import Factory

    def find_options() -> dict[str, object]:
        # A fixture of a wider scope has no public way to what the running test's own conftests override.
        request: pytest.FixtureRequest | None = getattr(pytestconfig.stash[_TEST_KEY], "_request", None)
        settings: object = request.getfixturevalue("fake_credits_settings") if request else {}
        return _defaults_of_test(pytestconfig, settings)

    factory = pytestconfig.stash[_FACTORY_KEY] = Factory(find_options, _early_environment(pytestconfig))
    yield factory
    factory.close()


@pytest.fixture
def fake_credits(
    request: pytest.FixtureRequest, fake_credits_factory: "Factory", fake_credits_settings: Mapping[str, object]
) -> "Iterator[FakeCredits]":
    """Yield a `FakeCredits` on a fresh sandbox, as the test's markers say."""
    node: pytest.Item = request.node
    options = _defaults_of_test(request.config, fake_credits_settings)
    with _plain_failure():
        options |= _marker_options(node)
    explore_plugin = explore_plugin_of(request.config)
    if explore_plugin is not None:
        options = explore_plugin.sandbox_options(options)
    try:
        fake = fake_credits_factory.make(options)
    except (TypeError, ValueError) as error:
        raise _failure(f"the sandbox can't start: {error}") from None
    node.stash[_OPTIONS_KEY] = options
    if explore_plugin is not None:
        explore_plugin.attach(fake)
    yield fake
    for problem in fake.close():
        node.warn(pytest.PytestWarning(f"{node.nodeid}: fake-credits: {problem}"))


@pytest.fixture
def fake_credits_server_client(fake_credits: "FakeCredits") -> "ServerClient":
    """Return a `ServerClient` with the sandbox's API key."""
    return fake_credits.server_client


@pytest.fixture
def fake_credits_async_server_client(fake_credits: "FakeCredits") -> "AsyncServerClient":
    """Return an `AsyncServerClient` with the sandbox's API key, for any event loop."""
    return fake_credits.async_server_client


@pytest.fixture
def fake_credits_user_client(fake_credits: "FakeCredits") -> "UserClient":
    """Return a `UserClient` for the default user, who exists."""
    fake_credits.user(fake_credits.user_id)
    return fake_credits.user_client()


@pytest.fixture
def fake_credits_async_user_client(fake_credits: "FakeCredits") -> "AsyncUserClient":
    """Return an `AsyncUserClient` for the default user, who exists, for any event loop."""
    fake_credits.user(fake_credits.user_id)
    return fake_credits.async_user_client()


@pytest.fixture(scope="session")
def fake_credits_server(fake_credits_factory: "Factory") -> "LiveServer":
    """Return the worker's live server; its ``base_url`` stays the same, and every test's sandbox answers there."""
    return fake_credits_factory.server()


@pytest.fixture
def fake_credits_env(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, fake_credits: "FakeCredits"
) -> dict[str, str]:
    """Set ``CREDITS_BASE_URL``, ``CREDITS_API_KEY`` and so on for the code under test; return what was set.

    The names are the ini ``fake_credits_env``'s. Loopback is added to ``NO_PROXY``. The user need not exist.
    """
    from fake_credits.transports.environment import env_values, no_proxy_with_loopback

    templates: Mapping[str, str] = request.config.stash[SETTINGS_KEY]["env"].value
    fields = env_values(fake_credits.sandbox, fake_credits.base_url)
    variables = {name: text.format_map(fields) for name, text in templates.items()}
    variables |= no_proxy_with_loopback(os.environ)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables
