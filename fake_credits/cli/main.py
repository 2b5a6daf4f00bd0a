"""The commands and their exit codes; what a command needs is loaded when it runs.

Exit codes: 0; 1 failure; 2 usage; 3 could not bind; 130 interrupted. ``run`` ends with its command's own code, with
126 or 127 where that can't be run, and with 128 + N where signal N ended it, as a shell does.
"""

import errno
import os
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

import click

from fake_credits.cli import flags

__all__ = ["cli", "main"]

_EXIT_INTERRUPTED = 130


def main() -> None:
    """Run a command and exit with its code, never with a traceback for a user's mistake."""
    # Open what is closed of stdin, stdout and stderr: libuv aborts if one of its sockets gets such a number.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(_EXIT_INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno != errno.ENOSPC:  # any other is a bug of ours
            raise
        click.ClickException(f"stdout can't be written: {error.strerror}").show()  # a file's error names its flag
        sys.exit(click.ClickException.exit_code)


@contextmanager
def _exit_immediately_on_sigint() -> Generator[None]:
    """End the process at Ctrl-C, since an import may swallow KeyboardInterrupt."""
    previous_handler = signal.getsignal(signal.SIGINT)
    if previous_handler is not signal.default_int_handler:
        yield
        return

    def exit_process(_number: int, _frame: FrameType | None) -> None:
        os._exit(_EXIT_INTERRUPTED)

    signal.signal(signal.SIGINT, exit_process)
    yield
    signal.signal(signal.SIGINT, previous_handler)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="fake-credits", message="%(version)s")
def cli() -> None:
    """A fake Credits Management API for tests: stateful, in-memory, deterministic."""


@cli.command()
@flags.options_from(flags.ServeFlags)
def serve(options: flags.ServeFlags) -> None:
    """Serve the API over HTTP until stopped.

    SIGTERM exits with 0, Ctrl-C with 130.

    Example: fake-credits serve --user ada=100
    """
    with _exit_immediately_on_sigint():
        from fake_credits.cli.serve import serve as run_server

    sys.exit(run_server(options))


@cli.command(context_settings={"allow_interspersed_args": False})
@flags.options_from(flags.RunFlags)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(options: flags.RunFlags, command: tuple[str, ...]) -> None:
    """Run a command next to its own server.

    The command finds CREDITS_BASE_URL, CREDITS_API_KEY, ... in its environment. Exits with the command's exit code, or
    with 126 or 127 if the command can't be run, and leaves no process behind.

    Example: fake-credits run -- npm test
    """
    with _exit_immediately_on_sigint():
        from fake_credits.cli.run import run as run_command

    sys.exit(run_command(options, command))


@cli.command()
@flags.options_from(flags.TokenFlags)
@click.argument("user", type=flags.Parsed("USER", flags.parse_id))
def token(options: flags.TokenFlags, user: str) -> None:
    """Print a token for a user.

    A server with the same --key-file accepts it or, with --bad, refuses it.

    Example: fake-credits token ada --key-file keys.pem
    """
    from fake_credits.cli.bootstrap import mint_token

    click.echo(mint_token(options, user).encode("ascii"))  # as bytes: text would end with CRLF on Windows


@cli.command()
@flags.options_from(flags.SeedFlags)
def seed(options: flags.SeedFlags) -> None:
    """Create demo data in a file or on a server.

    The users have believable histories, and the server may be any that implements the contract. An interrupted run
    resumes: the same command writes what is missing, and nothing twice.

    Example: fake-credits seed --url http://127.0.0.1:8402 --api-key KEY
    """
    from fake_credits.cli.seed import seed as seed_world

    sys.exit(seed_world(options))


@cli.command()
@flags.options_from(flags.OpenApiFlags)
def openapi(options: flags.OpenApiFlags) -> None:
    """Print the OpenAPI document of a contract.

    Example: fake-credits openapi --contract contract.toml
    """
    from fake_credits.cli.bootstrap import openapi_json

    click.echo(
        openapi_json(options.contract).encode("utf-8")
    )  # as bytes: on Windows text has CRLF, and another encoding


@cli.command()
@flags.options_from(flags.WaitFlags)
@click.argument("url", type=flags.Parsed("URL", flags.health_url))
def wait(options: flags.WaitFlags, url: str) -> None:
    """Wait until a server is ready.

    Polls /_fake/readyz, or URL itself if it has a path.

    Example: fake-credits wait http://127.0.0.1:8402
    """
    from fake_credits.cli.wait import wait_until_ready

    wait_until_ready(url, options.timeout, options.ca)
