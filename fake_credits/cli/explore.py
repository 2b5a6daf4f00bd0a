"""The `explore` command, which runs another command once for each schedule of faults.

All runs use the same live server, but each run has its own sandbox. The command's exit code says whether the run
passed, and every call to the run's sandbox is attributed to the application rather than to the test.
"""

import re
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import click

from fake_credits.cli import selftest_clients
from fake_credits.cli.bootstrap import create_sandbox
from fake_credits.cli.flags import ExploreFlags
from fake_credits.cli.output import STDERR, print_lines
from fake_credits.cli.processes import CommandResult, CommandRunner, Stopped
from fake_credits.cli.run import CommandServer, command_server
from fake_credits.cli.signals import STOP_SIGNALS, handle_signals
from fake_credits.clock import monotonic_s
from fake_credits.explore.exploration import Exploration, ExploredCommand
from fake_credits.explore.options import ExploreOptions
from fake_credits.explore.ownership import TestCode
from fake_credits.explore.recorder import Recorder
from fake_credits.explore.report import (
    exploration_to_json,
    render_documents,
    render_report,
    summarize_runs,
    write_report,
)
from fake_credits.explore.runs import Outcome
from fake_credits.sandboxes import drain
from fake_credits.text import redact

_MIN_TIMEOUT_S = 10.0
_TIMEOUT_FACTOR = 5
_REFERENCE_TIMEOUT_S = 600.0
_REFERENCE_COUNT = 2
_MAX_SECONDS = 86_400.0
_MAX_SHOWN_LINES = 40
_ERROR_LINE = re.compile(r"\w*(?:Error|Exception|Failure)\b")
_FLAGS_OF_ONE_REPORT = ("--report", "--format", "--jobs", "--schedule", "--what", "--depth", "--budget")


class CannotExplore(click.ClickException):
    """Raised if a command can't be explored."""

    exit_code = 4


def explore(options: ExploreFlags, command: tuple[str, ...], arguments: Sequence[str]) -> int:
    """Explore a command, print the report and return the exit code, which is 1 if any verdict is red."""
    sandbox = create_sandbox(replace(options, api_key=""))  # first, so that a signal can still interrupt a slow load
    explorer = CommandExplorer(options)
    handle_signals(STOP_SIGNALS, explorer.stop)
    flags = _replay_flags(arguments[: len(arguments) - len(command)])
    with command_server(options, sandbox) as server:
        exploration = explorer.explore(server, ExploredCommand(command, flags))
    if exploration.error and not explorer.stop_signal:
        raise click.UsageError(f"--schedule: {exploration.error}")
    documents = [exploration_to_json(exploration)]
    for path in options.reports:
        write_report(str(path), documents)
    if explorer.stop_signal:
        return 128 + explorer.stop_signal
    if options.format != "text":
        click.echo(render_documents(options.format, documents), nl=False)
    elif not exploration.skip_reason and not exploration.leaks:
        click.echo(render_report(exploration))
    if problem := explorer.describe_failure(exploration):
        raise CannotExplore(problem)
    return 1 if exploration.red else 0


def _replay_flags(arguments: Sequence[str]) -> tuple[str, ...]:
    """Return the flags that a replay needs in addition to its schedule: all but ``_FLAGS_OF_ONE_REPORT``."""
    kept: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        if argument in _FLAGS_OF_ONE_REPORT:
            next(remaining, "")
        elif argument != "--" and argument.partition("=")[0] not in _FLAGS_OF_ONE_REPORT:
            kept.append(argument)
    return tuple(kept)


def selftest(options: ExploreFlags) -> int:
    """Explore known-bad and known-good clients, print a line for each, and return 1 if a verdict is unexpected."""
    explorer = CommandExplorer(options)
    handle_signals(STOP_SIGNALS, explorer.stop)
    failed = 0
    with command_server(options, create_sandbox(replace(options, users=(("ada", 100),), api_key=""))) as server:
        for name, (_, expected) in selftest_clients.CLIENTS.items():
            command = (sys.executable, "-I", selftest_clients.__file__, name)
            exploration = explorer.explore(server, ExploredCommand(command))
            if explorer.stop_signal:
                return 128 + explorer.stop_signal
            problem = explorer.describe_failure(exploration)
            found = {judged.judgement.verdict.value for judged in exploration.red}
            is_expected = not problem and found == ({expected} if expected else set())
            failed += not is_expected
            result = problem or summarize_runs(exploration.results)
            click.echo(f"{'ok    ' if is_expected else 'FAILED'} {name}: {result}")
    return 1 if failed else 0


class CommandExplorer:
    """An explorer of commands; ``stop_signal`` is the number of the signal that stopped the exploration, or 0."""

    def __init__(self, options: ExploreFlags) -> None:
        if options.api_key and options.jobs > 1:
            raise click.UsageError("--api-key requires --jobs 1, because concurrent runs need different API keys")
        if options.scenarios:
            raise click.UsageError("--scenario can't be used with explore, which injects its own faults (see --what)")
        self.stop_signal = 0
        self._options = options
        self._runner = CommandRunner(options.grace)
        self._references: list[tuple[Recorder, CommandResult]] = []
        self._left_running: set[str] = set()
        self._output = ""

    def explore(self, server: CommandServer, command: ExploredCommand) -> Exploration:
        """Explore a command against a server, with a new sandbox for each run."""
        self._references, self._left_running = [], set()
        options = ExploreOptions(seconds=_MAX_SECONDS, is_required=True).with_what(self._options.what)
        changes = {"depth": self._options.depth, "budget": self._options.budget, "strict": self._options.strict}
        options = options.updated(changes | ({"schedules": self._options.schedule} if self._options.schedule else {}))
        exploration = Exploration(shlex.join(command.arguments), options, TestCode())
        exploration.command = command
        progress = _Progress(exploration)
        with suppress(Stopped), ThreadPoolExecutor(self._options.jobs) as pool:
            for batch in exploration.batches(self._options.jobs):
                if batch[0].is_final and exploration.skip_reason:
                    break
                progress.show()
                for future in [pool.submit(self._run, server, command, recorder) for recorder in batch]:
                    future.result()
                if self.stop_signal:
                    break  # before the runs that have been terminated are judged
        progress.clear()
        exploration.notes += self._notes()
        if self.stop_signal:
            when = f"after {exploration.describe_progress()}"
            if not exploration.results:
                when = "before the first run with faults ended"
            elif not exploration.remaining:
                when = "before the final fault-free run ended"
            note = f"the exploration was interrupted {when}"
            exploration.duration_s = progress.elapsed_s
            exploration.notes.append(note)
            print_lines(STDERR, note)
        return exploration

    def stop(self, signal_number: int) -> None:
        """Terminate all runs; a second call kills them."""
        self.stop_signal = signal_number
        self._runner.stop()

    def describe_failure(self, exploration: Exploration) -> str:
        """Explain why the exploration failed, including any output of the failed run; return "" if it succeeded."""
        recorder, last = self._references[-1]
        output = "\n".join(self._output.splitlines()[-_MAX_SHOWN_LINES:])
        shown = f"\n\n{output}" if output else ""
        if exploration.leaks:
            return f"the final fault-free run failed: state leaks between runs, so no finding is reliable{shown}"
        if exploration.skip_reason == "":
            return ""
        if last.is_overdue:
            return f"{recorder.run.hang}{shown}"
        if last.exit_code:
            return f"the command fails even without faults, with exit code {last.exit_code}{shown}"
        if not recorder.run.calls:
            return (
                "the command made no calls with the API key that it was given: it must use CREDITS_BASE_URL and "
                "CREDITS_API_KEY, and must not create its own sandbox"
            )
        return f"the command can't be explored: {exploration.skip_reason}"

    @property
    def _limit_s(self) -> float:
        if self._options.run_timeout is not None:
            return self._options.run_timeout
        if len(self._references) < _REFERENCE_COUNT:
            return _REFERENCE_TIMEOUT_S
        return max(_MIN_TIMEOUT_S, _TIMEOUT_FACTOR * max(result.duration_s for _, result in self._references))

    def _run(self, server: CommandServer, command: ExploredCommand, recorder: Recorder) -> None:
        """Run the command once; called from several threads."""
        run, limit_s = recorder.run, self._limit_s
        with server.sandbox_for_run() as (sandbox, env):
            recorder.attach(sandbox)
            running = self._runner.start(command.arguments, env, sandbox.api_key)
            recorder.on_storm = running.terminate
            result = running.wait(limit_s)
            drain(sandbox)  # so that every exchange is in the journal
            recorder.finish()
        run.outcome = self._outcome_of(result, sandbox.api_key)
        if result.is_overdue:
            run.hang = f"the command did not exit within {limit_s:g} s (see --run-timeout)"
        if len(self._references) < _REFERENCE_COUNT:
            self._references.append((recorder, result))
        if not run.schedule:
            self._output = result.output
        elif self._options.schedule:
            click.echo(result.output, nl=False)
        self._left_running.update(result.left_running)

    def _outcome_of(self, result: CommandResult, api_key: str) -> Outcome:
        if result.exit_code == 0:
            return Outcome()
        output = result.output
        if any(redact(each.output, recorder.run.secrets[0]) != each.output for recorder, each in self._references):
            # The command prints its secrets even without faults: redact them, so that this isn't blamed on a fault.
            output = redact(output, api_key)
        return Outcome("failed", f"{_error_line(output)}\n{output}", f"exit code {result.exit_code}")

    def _notes(self) -> list[str]:
        notes: list[str] = []
        if self._left_running:
            names = ", ".join(sorted(self._left_running)[:3])
            notes.append(f"the command left processes running ({names}); they were terminated and any results ignored")
        sequences = [[call.request for call in recorder.run.application_calls] for recorder, _ in self._references]
        if len(sequences) == _REFERENCE_COUNT and sequences[0] != sequences[1]:
            notes.append(
                "two runs without faults made the same calls in different orders, so some calls are concurrent: "
                "calls are numbered as in the first run, and races are not explored"
                if Counter(sequences[0]) == Counter(sequences[1])
                else "two runs without faults made different calls, so a fault at a call that varies may not fire"
            )
        return notes


def _error_line(output: str) -> str:
    """Return the line of a command's output that explains its failure: the first that names an error, or the last."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return next(filter(_ERROR_LINE.search, lines), lines[-1] if lines else "")


class _Progress:
    """The progress line that an exploration shows on a terminal."""

    def __init__(self, exploration: Exploration) -> None:
        self._exploration = exploration
        self._started_s = monotonic_s()
        self._is_visible = sys.stderr.isatty()

    @property
    def elapsed_s(self) -> float:
        return monotonic_s() - self._started_s

    def show(self) -> None:
        if self._is_visible:
            text = self._exploration.describe_progress(self.elapsed_s)
            click.echo(f"\r\x1b[2K{text}", err=True, nl=False)

    def clear(self) -> None:
        if self._is_visible:
            click.echo("\r\x1b[2K", err=True, nl=False)
