"""``fake-credits explore --selftest``: whether bad clients are found, and good ones are not blamed, on this machine."""

import sys
from dataclasses import replace

import click

from fake_credits.cli import selftest_clients
from fake_credits.cli.command_server import command_server
from fake_credits.cli.explore import CommandExplorer
from fake_credits.cli.flags import ExploreFlags
from fake_credits.cli.signals import STOP_SIGNALS, handle_signals
from fake_credits.explore.exploration import ExploredCommand
from fake_credits.explore.report import summarize_runs


def selftest(options: ExploreFlags) -> int:
    """Explore each client, print a line about it, and return the exit code: 1 if a verdict is not the expected one."""
    explorer = CommandExplorer(options)
    handle_signals(STOP_SIGNALS, explorer.stop)
    failed = 0
    with command_server(replace(options, users=(("ada", 100),)), api_key="") as server:
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
