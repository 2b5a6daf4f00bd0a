"""Own `serve`: one server as the process, from its socket to its summary; know nothing of flags or of HTTP."""

import asyncio
import errno
import os
import re
import shlex
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from urllib.parse import quote

import click

from fake_credits.cli import files
from fake_credits.cli.lines import ExchangeLog
from fake_credits.cli.options import ServeOptions
from fake_credits.cli.start import new_sandbox, variables
from fake_credits.contract import Operation
from fake_credits.drivers.live import Address, Runner, bind, new_event_loop
from fake_credits.sandbox import Sandbox, Sandboxes

__all__ = ["CannotBind", "listening", "serve"]


class CannotBind(click.ClickException):
    """Report that the address can't be had."""

    exit_code = 3


def serve(options: ServeOptions) -> int:
    """Serve until a signal, and return the exit code: 130 for Ctrl-C, 0 otherwise."""
    stopper = _Stopper()
    sandbox = new_sandbox(options)
    address = Address(options.host, options.port, options.allow_hosts, options.expose)
    with listening(address):
        listener = bind(address)
    runner = Runner(sandbox.contract, Sandboxes(sandbox), address, listener)
    log = ExchangeLog(options.log, options.seed)
    sandbox.journal.listener = log.write
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as loop:
            loop.run(_serve(runner, sandbox, options, stopper))
    finally:
        log.close()
    return stopper.exit_code


@contextmanager
def listening(address: Address) -> Generator[None, None, None]:
    """Turn the failure to get an address into a message that names it."""
    try:
        yield
    except PermissionError as error:
        if error.errno == errno.EPERM:  # beyond loopback; a port that needs root is EACCES
            raise click.UsageError(f"--host {error.strerror}") from error
        raise CannotBind(_reason(address, error)) from error
    except OSError as error:
        raise CannotBind(_reason(address, error)) from error


def _reason(address: Address, error: OSError) -> str:
    return f"can't listen at {address.host} port {address.port}: {error.strerror or error}"


class _Stopper:
    """Be told by SIGINT, SIGTERM or SIGHUP to stop; also before the loop runs, and more than once."""

    def __init__(self) -> None:
        self.exit_code = 0
        self._told = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._event: asyncio.Event | None = None
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP; under nohup it stays ignored
            if number is not None and not (name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN):
                signal.signal(number, self._hear)

    def event(self) -> asyncio.Event:
        self._loop, self._event = asyncio.get_running_loop(), asyncio.Event()
        if self._told:
            self._event.set()
        return self._event

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        if not self._told:
            self._told, self.exit_code = True, 130 if number == signal.SIGINT else 0
        if self._loop is not None and self._event is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._event.set)


async def _serve(runner: Runner, sandbox: Sandbox, options: ServeOptions, stopper: _Stopper) -> None:
    ready_file = options.ready_file
    if ready_file is not None:
        ready_file.unlink(missing_ok=True)  # a killed server's: it would call us ready too early
    announced: list[asyncio.Future[str]] = []

    def ready() -> None:
        # In a thread, while requests are answered: the user's token in it loads the cryptography.
        announcing = asyncio.get_running_loop().run_in_executor(None, _announce, runner.base_url, sandbox, options)
        announcing.add_done_callback(lambda done: stop.set() if done.exception() else None)
        announced.append(announcing)

    stop = stopper.event()
    try:
        await runner.run(stop, ready)
    finally:
        contents = await announced[0] if announced else ""
        if ready_file is not None and ready_file.exists() and files.read(ready_file) == contents:
            ready_file.unlink()  # unless another server's is there by now


def _announce(base_url: str, sandbox: Sandbox, options: ServeOptions) -> str:
    """Say what a user needs to paste, write the ready file, and return what is in it."""
    ours = variables(sandbox, base_url)
    contents = _dotenv(ours)
    _say(_banner(options, sandbox, ours))
    if options.expose:
        _say("Warning: --expose: everyone who can reach this port can try its API.", err=True)
    if options.ready_file is not None:
        try:
            files.replace(options.ready_file, contents)
        except OSError as error:
            message = f"--ready-file {str(options.ready_file)!r} can't be written: {error.strerror}"
            raise click.ClickException(message) from error
    return contents


def _dotenv(ours: dict[str, str]) -> str:
    """Return lines for ``. FILE``, ``node --env-file`` and ``$GITHUB_ENV``; the PEM, many lines, fits none of them."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in ours.items() if "\n" not in value)


def _banner(options: ServeOptions, sandbox: Sandbox, ours: dict[str, str]) -> str:
    contract, base_url = sandbox.contract, ours["CREDITS_BASE_URL"]
    route = contract.routes[Operation.CREATE_USER]
    ids = {"{applicationId}": options.application_id, "{userId}": options.user_id}
    path = re.sub("|".join(map(re.escape, ids)), lambda found: quote(ids[found[0]], safe=""), route.path)
    header = shlex.quote(f"{contract.api_key.header}: {contract.api_key.value(sandbox.api_key)}")
    exports = "".join(f"  export {line}\n" for line in _dotenv(ours).splitlines())
    key_file = shlex.quote(str(options.key_file)) if options.key_file else "FILE"
    preset = "" if options.jwt == "plain" else f" --jwt {options.jwt}"
    condition = "" if options.key_file else " (once I am started with the same --key-file FILE)"
    return (
        f"fake-credits answers at {base_url}\n\n{exports}\n"
        f"Create a user:\n  curl --noproxy '*' -X {route.method} -H {header} {shlex.quote(base_url + path)}\n\n"
        f"Any user's token{condition}:\n  fake-credits token USER --key-file {key_file}{preset}\n"
    )


def _say(text: str, *, err: bool = False) -> None:
    """Print, whether or not anybody reads."""
    stream = sys.stderr if err else sys.stdout
    try:
        click.echo(text, err=err)
    except OSError:
        # What stays in the buffer would be tried again at exit, and make that a failure.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
