"""What every run needs of exploration: the hook that it adds, and the registration of its plugin when it is asked for.

Imports nothing of the fake. PYTEST_DONT_REWRITE
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fake_credits.explore.exploration import Exploration
    from pytest_fake_credits.explore import ExplorePlugin

__all__ = ["HookSpecifications", "WorkerReports", "explore_plugin_of", "register_explore_plugin"]

_PLUGIN_KEY = pytest.StashKey["ExplorePlugin"]()

MarkerOptions = Callable[[pytest.Item], Mapping[str, object]]


class HookSpecifications:
    """The hook that a conftest can implement."""

    def pytest_fake_credits_explored(self, item: pytest.Item, exploration: "Exploration") -> None:
        """Called when a test has been explored, with its schedules and verdicts."""


def explore_plugin_of(config: pytest.Config) -> "ExplorePlugin | None":
    """Return the plugin that explores tests, None if none is to be explored."""
    return config.stash.get(_PLUGIN_KEY, None)


def register_explore_plugin(config: pytest.Config, marker_options: MarkerOptions) -> "ExplorePlugin":
    """Return the plugin that explores tests, registering it if it is the first time."""
    plugin = explore_plugin_of(config)
    if plugin is None:
        from pytest_fake_credits.explore import ExplorePlugin

        plugin = config.stash[_PLUGIN_KEY] = ExplorePlugin(config, marker_options)
        config.pluginmanager.register(plugin, "pytest_fake_credits.explore")
    return plugin


class WorkerReports:
    """The part of pytest-xdist's controller that learns from a worker's report that a marker asked to explore."""

    def __init__(self, config: pytest.Config, marker_options: MarkerOptions) -> None:
        self._config = config
        self._marker_options = marker_options

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Pass the first exploration on; those after it reach the plugin themselves."""
        if hasattr(report, "fake_credits_exploration") and explore_plugin_of(self._config) is None:
            register_explore_plugin(self._config, self._marker_options).pytest_runtest_logreport(report)
