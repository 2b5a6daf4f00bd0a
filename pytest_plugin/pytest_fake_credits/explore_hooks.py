"""The part of exploration that every pytest run loads: its hook, and code that registers its plugin when needed.

This module imports nothing from the fake.

PYTEST_DONT_REWRITE
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import pytest

from pytest_fake_credits.config_options import SETTINGS_KEY

if TYPE_CHECKING:
    from fake_credits.explore.exploration import Exploration
    from fake_credits.fake import FakeCredits
    from pytest_fake_credits.explore import ExplorePlugin

_PLUGIN_KEY = pytest.StashKey["ExplorePlugin"]()
_ASKING_OPTIONS = ("explore", "explore_report", "schedule")
_DETAIL_OPTIONS = ("explore_what", "explore_depth", "explore_budget")

MarkerOptions = Callable[[pytest.Item], Mapping[str, object]]


class _HookSpecifications:
    def pytest_fake_credits_explored(self, item: pytest.Item, exploration: "Exploration") -> None:
        """Called after a test has been explored; ``exploration`` holds its schedules and verdicts."""


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the hook that a conftest can implement."""
    pluginmanager.add_hookspecs(_HookSpecifications)


def _plugin_of(config: pytest.Config) -> "ExplorePlugin | None":
    return config.stash.get(_PLUGIN_KEY, None)


def is_exploring(config: pytest.Config) -> bool:
    """Return whether the current run is part of an exploration, whose runs are not reported individually."""
    plugin = _plugin_of(config)
    return plugin is not None and plugin.is_running


def run_options(config: pytest.Config, options: dict[str, object]) -> dict[str, object]:
    """Return the options for the current run's sandbox."""
    plugin = _plugin_of(config)
    return options if plugin is None else plugin.sandbox_options(options)


def attach(config: pytest.Config, fake: "FakeCredits") -> None:
    """Observe the sandbox of the current run, if a test is being explored."""
    plugin = _plugin_of(config)
    if plugin is not None:
        plugin.attach(fake)


def watch_for_explorations(config: pytest.Config, marker_options: MarkerOptions) -> None:
    """Register the exploration plugin as soon as an option, a marker or a worker's report requires it."""
    config.pluginmanager.register(_Registration(config, marker_options), "pytest_fake_credits.registration")


class _Registration:
    """A plugin that registers the exploration plugin when an option, a marker or a worker's report requires it."""

    def __init__(self, config: pytest.Config, marker_options: MarkerOptions) -> None:
        self._config = config
        self._marker_options = marker_options
        settings = config.stash[SETTINGS_KEY]
        if any(settings[name].value for name in _ASKING_OPTIONS) or any(
            settings[name].source.startswith("--") for name in _DETAIL_OPTIONS
        ):
            self._register()  # which raises UsageError for an invalid value

    def _register(self) -> "ExplorePlugin":
        from pytest_fake_credits.explore import ExplorePlugin

        plugin = self._config.stash[_PLUGIN_KEY] = ExplorePlugin(self._config, self._marker_options)
        self._config.pluginmanager.register(plugin, "pytest_fake_credits.explore")
        return plugin

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Register the exploration plugin if a marker requests exploration."""
        marks = (mark for item in items for mark in item.iter_markers("fake_credits"))
        if _plugin_of(self._config) is None and any(mark.kwargs.get("explore", False) is not False for mark in marks):
            self._register()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Register the plugin when a pytest-xdist worker first reports an exploration, and pass the report to it."""
        if hasattr(report, "fake_credits_exploration") and _plugin_of(self._config) is None:
            self._register().pytest_runtest_logreport(report)
