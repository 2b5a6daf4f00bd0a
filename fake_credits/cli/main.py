"""The commands and their exit codes. The modules that a command needs are imported when it runs.

Exit codes: 0 for success, 1 for a failure, 2 for a usage error, 3 if the address can't be bound, 4 if ``explore`` can't
explore its command, and 130 if interrupted. Like a shell, ``run`` exits with its command's code, with 126 or 127 if the
command can't be run, and with 128 + N if signal N ended it.
"""

import errno
import gc
import os
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager

import click

from fake_credits.cli import flags
from fake_credits.cli.parameters import ARGUMENTS_KEY, FlagCommand, FlagGroup, Parsed, options_from
from fake_credits.cli.signals import INTERRUPTED_EXIT_CODE, exit_at_signals


def main() -> None:
    """Run a command and exit with its code; print user errors without a traceback."""
    # Open stdin, stdout and stderr if they are closed, because libuv aborts if a socket gets one of these descriptors.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    try:
        cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        # This must be about stdout, because file errors have already been turned into messages that name the flag.
        click.ClickException(f"cannot write to stdout: {error.strerror}").show()
        sys.exit(click.ClickException.exit_code)


@click.group(cls=FlagGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="fake-credits", message="%(version)s")
def cli() -> None:
    """A fake Credits Management API for tests: stateful, in-memory, deterministic.

    Example: fake-credits run -- npm test
    """


@cli.command(cls=FlagCommand)
@options_from(flags.ServeFlags)
def serve(options: flags.ServeFlags) -> None:
    """Serve the API over HTTP until stopped.

    Exits with 0 on SIGTERM and with 130 on Ctrl-C.

    Example: fake-credits serve --user ada=100
    """
    exit_at_signals(lambda number: INTERRUPTED_EXIT_CODE if number == signal.SIGINT else 0)
    from fake_credits.cli.serve import serve as run_server

    _enable_gc()
    sys.exit(run_server(options))


@cli.command(cls=FlagCommand, context_settings={"allow_interspersed_args": False})
@options_from(flags.RunFlags)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(options: flags.RunFlags, command: tuple[str, ...]) -> None:
    """Start a server, run a command against it, and stop the server.

    Sets CREDITS_BASE_URL, CREDITS_API_KEY and related variables in the command's environment. Exits with the command's
    exit code, or with 126 or 127 if the command can't be run. On Linux, leaves no processes behind.

    Example: fake-credits run -- npm test
    """
    exit_at_signals(lambda number: 128 + number)
    from fake_credits.cli.run import run as run_command

    _enable_gc()
    sys.exit(run_command(options, command))


@cli.command(cls=FlagCommand, context_settings={"allow_interspersed_args": False})
@options_from(flags.ExploreFlags)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def explore(context: click.Context, options: flags.ExploreFlags, command: tuple[str, ...]) -> None:
    """Rerun a test, injecting each fault at each call.

    The command runs one test, in any language, and its exit code says whether the test passes. It gets the same
    environment variables as with `run`.

    Exits with 1 if any finding is red, and with 4 if the command can't be explored. On Linux, leaves no processes
    behind.

    Example: fake-credits explore --user ada=100 -- node --test checkout.test.mjs
    """
    exit_at_signals(lambda number: 128 + number)
    from fake_credits.cli import explore as explore_module

    _enable_gc()
    if options.selftest:
        sys.exit(explore_module.selftest(options))
    if not command:
        raise click.UsageError("Missing argument 'COMMAND...'.")
    sys.exit(explore_module.explore(options, command, context.meta[ARGUMENTS_KEY]))


@cli.command(cls=FlagCommand)
@options_from(flags.TokenFlags)
@click.argument("user", type=Parsed("USER", flags.parse_id))
def token(options: flags.TokenFlags, user: str) -> None:
    """Print a token for a user.

    A server started with the same --key-file accepts the token, or rejects it if it was made with --bad.

    Example: fake-credits token ada --key-file keys.pem
    """
    from fake_credits.cli.bootstrap import mint_token

    with _interruptible():
        click.echo(mint_token(options, user).encode("ascii"))  # bytes, because text on Windows would end with CRLF


@cli.command(cls=FlagCommand)
@options_from(flags.SeedFlags)
def seed(options: flags.SeedFlags) -> None:
    """Create demo data in a file or on a server.

    The users have realistic histories. Any server that implements the contract will do. To resume an interrupted run,
    rerun the same command: it writes only what is missing.

    Example: fake-credits seed --url http://127.0.0.1:8402 --api-key KEY
    """
    from fake_credits.cli.seed import seed as seed_world

    _enable_gc()
    with _interruptible():
        seed_world(options)


@cli.command(cls=FlagCommand)
@options_from(flags.OpenApiFlags)
def openapi(options: flags.OpenApiFlags) -> None:
    """Print the OpenAPI document for a contract.

    Example: fake-credits openapi --contract contract.toml
    """
    from fake_credits.cli.bootstrap import openapi_json

    # Bytes, because text on Windows would have CRLF line endings and a different encoding.
    click.echo(openapi_json(options.contract).encode("utf-8"))


@cli.command(cls=FlagCommand)
@options_from(flags.WaitFlags)
@click.argument("url", type=Parsed("URL", flags.health_url))
def wait(options: flags.WaitFlags, url: str) -> None:
    """Wait until a server is ready.

    Polls /_fake/readyz, or URL itself if it has a path.

    Example: fake-credits wait http://127.0.0.1:8402
    """
    from fake_credits.cli.wait import wait_until_ready

    wait_until_ready(url, options.timeout, options.ca)


def _enable_gc() -> None:
    """Turn garbage collection back on after the imports, exempting all objects created so far."""
    gc.freeze()
    gc.enable()


@contextmanager
def _interruptible() -> Generator[None]:
    """Make Ctrl-C raise KeyboardInterrupt in the block, so that the block can clean up; then exit silently."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED_EXIT_CODE)
    finally:
        signal.signal(signal.SIGINT, handler)
