"""The exploration of tests under pytest: an item is run once for each schedule, but reported only once.

This module imports `fake_credits`, so it is itself imported only if a test is to be explored.

PYTEST_DONT_REWRITE
"""

import copy
import io
import logging
import sys
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from functools import partial
from inspect import unwrap
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from _pytest.outcomes import Failed

from fake_credits.explore.exploration import OWN_FAULTS_REASON, Exploration
from fake_credits.explore.options import ExploreOptions, parse_explore, parse_what
from fake_credits.explore.ownership import TestCode
from fake_credits.explore.recorder import Recorder, SleepLog, outcome_of, traced_test
from fake_credits.explore.report import exploration_to_json, render_report, summary_lines, write_report
from fake_credits.explore.runs import Outcome
from fake_credits.explore.schedules import parse_schedule
from fake_credits.fake import FakeCredits
from pytest_fake_credits.config_options import SETTINGS_KEY, PluginSetting
from pytest_fake_credits.progress import Progress

_GATE_TIMEOUT_S = 0.3
_REPORT_ATTRIBUTE = "fake_credits_exploration"
_Phase = tuple["pytest.CallInfo[None]", pytest.TestReport]


class ExplorePlugin:
    """The hooks that explore tests. ``marker_options`` returns the merged options of a test's markers."""

    def __init__(self, config: pytest.Config, marker_options: Callable[[pytest.Item], Mapping[str, object]]) -> None:
        self._config = config
        self._marker_options = marker_options
        self._settings: Mapping[str, PluginSetting] = config.stash[SETTINGS_KEY]
        self._defaults = _default_options(self._settings)
        self._test_code = TestCode(modules=self._settings["explore_ours"].value)
        self._documents: list[dict[str, Any]] = []
        self._report_path: str = self._settings["explore_report"].value
        if self._report_path and not hasattr(config, "workerinput"):
            _check_writable(self._report_path)
        self._exploration: Exploration | None = None
        self._recorder: Recorder | None = None
        self.is_running = False
        self._is_quiet = False

    def sandbox_options(self, options: Mapping[str, object]) -> dict[str, object]:
        """Return the current run's sandbox options, with a short gate timeout while a test is being explored."""
        if self._recorder is None:
            return dict(options)
        given: Any = options.get("gate_timeout_s", _GATE_TIMEOUT_S)
        return {**options, "gate_timeout_s": min(given, _GATE_TIMEOUT_S)}

    def attach(self, fake: FakeCredits) -> None:
        """Observe the sandbox of the current run, if a test is being explored."""
        if self._recorder is not None:
            self._recorder.attach(fake.sandbox)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Explore a test instead of running it once, if exploration is requested."""
        options = self._options_for(item)
        if options is None:
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        codes = [*_codes([getattr(item, "obj", None)])]  # read now: reading item.obj later would create an instance
        self._test_code.add(codes)
        exploration = self._exploration = Exploration(item.nodeid, options, self._test_code)
        exploration.code = codes[0] if codes else None
        exploration.keeps_exchanges = bool(self._report_path)
        exploration.is_replay = bool(self._settings["schedule"].value)
        exploration.skip_reason = self._reason_to_skip(item, options)
        reports = self._explore(item, nextitem, exploration)
        self._config.hook.pytest_fake_credits_explored(item=item, exploration=exploration)
        setattr(
            reports[min(1, len(reports) - 1)],
            _REPORT_ATTRIBUTE,
            exploration_to_json(exploration, with_schedules=bool(self._report_path)),
        )
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _options_for(self, item: pytest.Item) -> ExploreOptions | None:
        """Return the options for exploring a test, or None if the test runs as usual."""
        if "fake_credits" not in getattr(item, "fixturenames", ()) or self._config.getoption("setuponly", False):
            return None
        asked = self._marker_options(item).get("explore", None)
        if self._settings["schedule"].value:
            return replace(self._defaults, is_required=True)
        if asked is None:
            return self._defaults if self._settings["explore"].value else None
        options = parse_explore(asked, self._defaults)
        return replace(self._defaults, is_off=True) if options is None and self._settings["explore"].value else options

    def _reason_to_skip(self, item: pytest.Item, options: ExploreOptions) -> str:
        """Return why a test can't be explored, or an empty string if no reason is known before it runs."""
        function: Any = getattr(item, "obj", None)
        if options.is_off:
            return "its marker says explore=False"
        if getattr(function, "is_hypothesis_test", False):
            return "Hypothesis runs it many times; use fake_credits_factory.explore instead"
        if "subtests" in getattr(item, "fixturenames", ()):
            return "it has subtests"
        marker_options = self._marker_options(item)
        if not options.is_required and (marker_options.get("faults") or marker_options.get("latency")):
            return OWN_FAULTS_REASON
        return ""

    @pytest.hookimpl(tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> None:
        """Treat calls made by a fixture as the test's own."""
        self._test_code.add(_codes([fixturedef.func]))

    # ------------------------------------------------------------ all tests

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect a test's exploration from its report, which may come from a pytest-xdist worker."""
        document = getattr(report, _REPORT_ATTRIBUTE, None)
        if document is not None:
            self._documents.append(document)
        elif self._is_quiet and self._exploration is not None:  # only subtests are reported from within a run
            self._exploration.skip_reason = "it has subtests"
            reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
            for reports in reporter.stats.values() if reporter else ():
                if report in reports:
                    reports.remove(report)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print what was explored, and what was not explored and why."""
        if self._documents:
            terminalreporter.section("fake-credits exploration")
            for line in summary_lines(self._documents):
                terminalreporter.write_line(line)
            if self._report_path:
                terminalreporter.write_line(f"report: {self._report_path}")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Write the report file, except in a pytest-xdist worker."""
        if self._report_path and not hasattr(self._config, "workerinput"):
            write_report(self._report_path, self._documents)

    # ------------------------------------------------------------ the runs of one test

    def _explore(
        self, item: pytest.Item, nextitem: pytest.Item | None, exploration: Exploration
    ) -> list[pytest.TestReport]:
        reference: list[_Phase] = []
        phases: list[_Phase] = []
        sleeps = SleepLog(self._test_code)
        progress = Progress(self._config, exploration)
        try:
            for recorder in exploration.runs():
                self._recorder = recorder
                progress.show()
                if recorder.is_final:
                    self.is_running = not recorder.run.schedule
                    progress.clear()
                    phases = self._run_item(item, recorder, nextitem, lambda: _raise_findings(exploration))
                    continue
                with self._quietly(), sleeps.recording():
                    # with a copy as the next item, pytest does not tear down fixtures of wider scopes
                    phases = self._run_item(item, recorder, copy.copy(item))
                reference = reference or phases
        finally:
            self._recorder, self.is_running = None, False
            progress.clear()
        exploration.sleeps = sleeps.slowest()
        return _reports_of(item, phases, reference, exploration)

    def _run_item(
        self,
        item: pytest.Item,
        recorder: Recorder,
        nextitem: pytest.Item | None,
        at_end: Callable[[], None] = lambda: None,
    ) -> list[_Phase]:
        """Run a test with fresh function-scoped fixtures, and record how it ended."""
        _prepare(item)
        function: Any = item
        with traced_test(self._test_code, is_wanted=recorder.traces_test) as trace:
            phases = [self._run_phase(item, "setup")]
            if phases[0][1].passed:
                phases.append(self._run_phase(item, "call", at_end))
            phases.append(self._run_phase(item, "teardown", nextitem=nextitem))
        function._request = False
        function.funcargs = None
        _forget_finished_fixtures(item)
        recorder.run.outcome = _outcome_of(phases, recorder)
        recorder.run.outcome.trace = trace()
        return phases

    def _run_phase(
        self, item: pytest.Item, when: Any, at_end: Callable[[], None] = lambda: None, **kwargs: object
    ) -> _Phase:
        hook = getattr(item.ihook, f"pytest_runtest_{when}")

        def run() -> None:
            try:
                hook(item=item, **kwargs)
            finally:
                if when == "call" and self._recorder is not None:
                    self._recorder.finish()  # before pytest_runtest_makereport, which also reads the journal
            at_end()

        reraise = (pytest.exit.Exception, KeyboardInterrupt)
        call = pytest.CallInfo[None].from_call(run, when=when, reraise=reraise)
        return call, item.ihook.pytest_runtest_makereport(item=item, call=call)

    @contextmanager
    def _quietly(self) -> Generator[None]:
        """Suppress the output, logs and warnings of a run that isn't the exploration's last."""
        self.is_running = self._is_quiet = True
        with ExitStack() as stack:
            stack.callback(setattr, sys, "breakpointhook", sys.breakpointhook)
            sys.breakpointhook = lambda *_args, **_kwargs: None  # only the last run stops at breakpoints
            stack.callback(setattr, self._config.option, "tbstyle", self._config.option.tbstyle)
            self._config.option.tbstyle = "value"  # these reports are not shown, and formatting a traceback takes 20 ms
            stack.enter_context(warnings.catch_warnings(record=True))
            if self._config.getoption("capture", "fd") == "no":
                stack.enter_context(redirect_stdout(io.StringIO()))
                stack.enter_context(redirect_stderr(io.StringIO()))
            handler: Any = getattr(self._config.pluginmanager.get_plugin("logging-plugin"), "log_cli_handler", None)
            if isinstance(handler, logging.Handler):
                handler.addFilter(_reject)
                stack.callback(handler.removeFilter, _reject)
            stack.callback(setattr, self, "_is_quiet", False)
            yield


def _check_writable(path: str) -> None:
    try:
        with Path(path).open("a", encoding="utf-8"):
            pass
    except OSError as error:
        raise pytest.UsageError(f"fake-credits: cannot write the report {path}: {error.strerror}") from None


def _reject(_record: logging.LogRecord) -> bool:
    return False


def _default_options(settings: Mapping[str, PluginSetting]) -> ExploreOptions:
    """Return the options set by flags, ini options and environment variables; raise UsageError if one is invalid."""
    options = ExploreOptions()
    schedule = settings["schedule"]
    if schedule.value:
        try:
            parse_schedule(schedule.value)
        except ValueError as error:
            raise pytest.UsageError(f"fake-credits: {schedule.source}: {error}") from None
        options = options.updated({"schedules": schedule.value})
    for name in ("what", "depth", "budget"):
        setting = settings[f"explore_{name}"]
        try:
            options = options.updated({name: parse_what(setting.value) if name == "what" else setting.value})
        except ValueError as error:
            raise pytest.UsageError(f"fake-credits: {setting.source}: {error}") from None
    return options


class _ExplorationFailed(Failed):
    """A failure that exploration raises for a test whose last run has passed."""


# With these names, pytest shows the exception like its own failures.
_ExplorationFailed.__module__, _ExplorationFailed.__qualname__ = "builtins", "Failed"


def _fail(message: str) -> None:
    raise _ExplorationFailed(message, pytrace=False)


def _raise_findings(exploration: Exploration) -> None:
    """Fail the test if its exploration has an error or red findings, or was required but not possible."""
    if exploration.error:
        _fail(f"fake-credits: {exploration.error}")
    if exploration.red:
        _fail(render_report(exploration))
    if exploration.skip_reason and exploration.options.is_required:
        _fail(f"fake-credits: this test can't be explored: {exploration.skip_reason}")


def _reports_of(
    item: pytest.Item, phases: list[_Phase], reference: list[_Phase], exploration: Exploration
) -> list[pytest.TestReport]:
    """Return the last run's reports or, if that run failed because earlier runs left state behind, the first run's."""
    reports = [report for _, report in phases]
    if exploration.leaks and len(reference) == len(reports):
        reports[:2] = [report for _, report in reference[:2]]
    if exploration.is_replay and exploration.results and reports[-2].failed:
        reports[-2].sections.insert(0, ("fake-credits exploration", render_report(exploration)))
    for call, report in phases:
        if report.failed and report in reports and _is_failure(call):
            item.ihook.pytest_exception_interact(node=item, call=call, report=report)
    return reports


def _is_failure(call: pytest.CallInfo[None]) -> bool:
    """Return whether a phase raised an exception that pytest's runner counts as a failure, not as control flow."""
    error = call.excinfo.value if call.excinfo else None
    return error is not None and not isinstance(error, pytest.skip.Exception) and not hasattr(error, "wasxfail")


def _codes(functions: Any) -> Iterator[CodeType]:
    """Yield the code objects of functions, ignoring their decorators."""
    for function in functions:
        inner = unwrap(getattr(function, "__func__", function)) if callable(function) else function
        code = getattr(inner, "__code__", None)
        if isinstance(code, CodeType):
            yield code


def _prepare(item: pytest.Item) -> None:
    """Give an item a fresh request and instance, and clear its report sections."""
    function: Any = item
    if hasattr(item, "_request") and not function._request:
        function._initrequest()
        if item.__dict__.get("_instance") is not None:  # reading item.instance would create one
            del function._instance
            function._obj = None
    item._report_sections.clear()  # pyright: ignore[reportPrivateUsage]


def _forget_finished_fixtures(item: pytest.Item) -> None:
    """Remove the finalizers that the finished fixtures of a run left on wider-scoped fixtures."""
    function: Any = item
    for definitions in function._fixtureinfo.name2fixturedefs.values():
        for definition in definitions:
            definition._finalizers[:] = [each for each in definition._finalizers if not _is_spent(each)]


def _is_spent(finalizer: object) -> bool:
    definition: Any = getattr(finalizer.func, "__self__", None) if isinstance(finalizer, partial) else None
    return hasattr(definition, "cached_result") and definition.cached_result is None


def _outcome_of(phases: list[_Phase], recorder: Recorder) -> Outcome:
    """Return how a run ended, ignoring a failure raised by the exploration itself."""
    for call, report in phases:
        error = call.excinfo.value if call.excinfo else None
        if isinstance(error, _ExplorationFailed):
            continue
        if report.skipped or hasattr(report, "wasxfail"):
            return Outcome("xfailed" if hasattr(report, "wasxfail") else "skipped", str(report.longrepr))
        if report.failed:
            assertions = (AssertionError, Failed)
            return outcome_of(error, recorder.test_code, assertions) if error else Outcome("failed")
    return Outcome()
