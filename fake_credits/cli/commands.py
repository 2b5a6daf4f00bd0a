"""Own the commands and the exit codes; know nothing of how a command does its work, which it loads when it runs.

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

from fake_credits.cli.options import (
    OpenApiOptions,
    RunOptions,
    SeedOptions,
    ServeOptions,
    TokenOptions,
    WaitOptions,
    takes,
)
from fake_credits.cli.rules import Checked, health_url, identifier

__all__ = ["cli", "main"]

_INTERRUPTED = 130


def main() -> None:
    """Be ``fake-credits``: run a command and leave with its exit code, never with a traceback for a user's mistake."""
    _open_standard_streams()
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(_INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno != errno.ENOSPC:  # any other is a bug of ours
            raise
        click.ClickException(f"stdout can't be written: {error.strerror}").show()  # a file's error names its flag
        sys.exit(click.ClickException.exit_code)


def _open_standard_streams() -> None:
    """Open what is closed of stdin, stdout and stderr: libuv aborts where a socket of its own gets such a number."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


@contextmanager
def _leaving_at_once() -> Generator[None]:
    """Let Ctrl-C end the process, which has begun nothing: an import may swallow KeyboardInterrupt."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        yield
        return

    def leave(_number: int, _frame: FrameType | None) -> None:
        os._exit(_INTERRUPTED)

    signal.signal(signal.SIGINT, leave)
    yield
    signal.signal(signal.SIGINT, before)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="fake-credits", message="%(version)s")
def cli() -> None:
    """Be a Credits Management API for tests: stateful, in memory, the same every time."""


@cli.command()
@takes(ServeOptions)
def serve(options: ServeOptions) -> None:
    """Serve until told to stop: SIGTERM is a success, Ctrl-C ends with 130."""
    with _leaving_at_once():
        from fake_credits.cli.serving import serve as serve_until_told

    sys.exit(serve_until_told(options))


@cli.command(context_settings={"allow_interspersed_args": False})
@takes(RunOptions)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(options: RunOptions, command: tuple[str, ...]) -> None:
    """Run a command beside a server of its own, with CREDITS_BASE_URL, CREDITS_API_KEY, ... in its environment.

    Ends with the command's exit code, and leaves nothing behind. 126 or 127: the command can't be run.
    """
    with _leaving_at_once():
        from fake_credits.cli.running import run as run_beside_server

    sys.exit(run_beside_server(options, command))


@cli.command()
@takes(TokenOptions)
@click.argument("user", callback=Checked("USER", identifier))
def token(options: TokenOptions, user: str) -> None:
    """Print a token for a user, good or bad, that a server with the same --key-file accepts, or refuses."""
    from fake_credits.cli.tokens import mint

    click.echo(mint(options, user).encode("ascii"))  # as bytes: text would end with CRLF on Windows


@cli.command()
@takes(SeedOptions)
def seed(options: SeedOptions) -> None:
    """Make demo data: users with believable histories, into a file or into any server that speaks the contract.

    Ended before its end, it goes on where it was: the same command again writes what is missing, and nothing twice.
    """
    from fake_credits.cli.seeding import seed as seed_it

    sys.exit(seed_it(options))


@cli.command()
@takes(OpenApiOptions)
def openapi(options: OpenApiOptions) -> None:
    """Print the OpenAPI 3.1 document of a contract."""
    from fake_credits.cli.start import document

    click.echo(document(options.contract).encode("utf-8"))  # as bytes: on Windows text has CRLF, and another encoding


@cli.command()
@takes(WaitOptions)
@click.argument("url", callback=Checked("URL", health_url))
def wait(options: WaitOptions, url: str) -> None:
    """Wait until a server answers: its /_fake/readyz, or URL itself where that has a path."""
    from fake_credits.cli.waiting import wait_for

    sys.exit(wait_for(url, options.timeout, options.ca))
