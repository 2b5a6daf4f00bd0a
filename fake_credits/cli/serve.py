"""The command `serve`: one server as the process, from its socket to its summary."""

import asyncio
import errno
import re
import shlex
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import FrameType
from urllib.parse import quote, urlsplit

import click

from fake_credits.cli.bootstrap import (
    CA_VARIABLE,
    create_control_plane,
    create_sandbox,
    remove_file,
    server_env,
    write_file,
)
from fake_credits.cli.flags import ServeFlags, health_url
from fake_credits.cli.https import tls_setup
from fake_credits.cli.output import STDERR, STDOUT, ExchangeLog, LineWriter, print_problems
from fake_credits.contract import Operation
from fake_credits.sandbox import Sandbox
from fake_credits.transports.environment import LOOPBACK_HOSTS
from fake_credits.transports.live import BindOptions, ServerRunner, bind, new_event_loop, reachable_host

__all__ = ["BindError", "report_bind_errors", "serve"]

_READY_FILE_FLAG = "--ready-file"
_PROBE_TIMEOUT_S = 1.0


class BindError(click.ClickException):
    """Report that the address can't be had."""

    exit_code = 3


def serve(options: ServeFlags) -> int:
    """Serve until a signal, and return the exit code: 130 for Ctrl-C, 0 otherwise."""
    signals = _SignalHandler()
    with signals.exit_immediately():  # a large world takes half a minute
        sandbox = create_sandbox(options)
    address = BindOptions(options.host, options.port, options.allow_hosts, options.expose)
    with report_bind_errors(address):
        listener = bind(address)
    with (
        closing(listener),
        tls_setup(options, address, reachable_host(listener)) as (address, ca_file),
        closing(ExchangeLog(options.log, options.seed)) as log,
    ):
        sandboxes, control = create_control_plane(options, sandbox, log)
        runner = ServerRunner(sandbox.contract, sandboxes, address, listener, control)
        with closing(_Announcement(options)) as announcement, asyncio.Runner(loop_factory=new_event_loop) as loop:

            def announce() -> None:
                announcement.announce(sandbox, server_env(sandbox, runner.base_url, control, ca_file))

            loop.run(_serve(runner, announce, signals))
    print_problems(sandboxes, options.log)
    return signals.exit_code


@contextmanager
def report_bind_errors(address: BindOptions) -> Generator[None]:
    """Turn the failure to get an address into a message that names it."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EPERM:  # beyond loopback; a port that needs root is EACCES
            raise click.UsageError(f"--host {error.strerror}") from error
        message = f"can't listen at {address.host} port {address.port}: {error.strerror or error}"
        raise BindError(message) from error


class _SignalHandler:
    """A handler of SIGINT, SIGTERM, SIGHUP and SIGBREAK, which stops the server; also before the loop runs."""

    def __init__(self) -> None:
        self.exit_code = 0
        self._is_stopping = self._exits_immediately = False
        self._stop_server: Callable[[], object] | None = None
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
            number = getattr(signal, name, None)  # only Windows has SIGBREAK, and no SIGHUP, which nohup ignores
            if number is not None and not (name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN):
                signal.signal(number, self._on_signal)

    @contextmanager
    def exit_immediately(self) -> Generator[None]:
        """End the process at a signal during this block, which leaves nothing to clean up."""
        self._exits_immediately = True
        yield
        self._exits_immediately = False

    def stop_event(self) -> asyncio.Event:
        loop, event = asyncio.get_running_loop(), asyncio.Event()
        if self._is_stopping:
            event.set()
        self._stop_server = lambda: loop.call_soon_threadsafe(event.set)
        return event

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if not self._is_stopping:
            self._is_stopping, self.exit_code = True, 130 if number == signal.SIGINT else 0
        if self._exits_immediately:
            sys.exit(self.exit_code)
        if self._stop_server is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._stop_server()


class _Announcement:
    """What says that the server answers: the ready file first, then the banner.

    The banner's writers wait for no reader, so that a full pipe or a stopped terminal does not keep the process from
    ending.
    """

    def __init__(self, options: ServeFlags) -> None:
        self._options = options
        self._ready_file_text: str | None = None
        self._writers: list[LineWriter] = []
        if options.ready_file is not None:
            _check_ready_file_not_in_use(options.ready_file)
            remove_file(options.ready_file, _READY_FILE_FLAG)  # a killed server's: it would call us ready too early

    def announce(self, sandbox: Sandbox, env: dict[str, str]) -> None:
        """Write and print what clients need to know."""
        options, text = self._options, _format_dotenv(env)
        if options.ready_file is not None:
            write_file(options.ready_file, text, _READY_FILE_FLAG)
            self._ready_file_text = text
        self._print(STDOUT, _format_banner(options, sandbox, env))
        if options.expose:
            self._print(STDERR, "Warning: --expose: everyone who can reach this port can try its API.")

    def close(self) -> None:
        """Remove the ready file, unless another server has replaced it."""
        if self._options.ready_file is not None and self._ready_file_text is not None:
            remove_file(self._options.ready_file, _READY_FILE_FLAG, only_with_text=self._ready_file_text)
        for writer in self._writers:
            writer.close()

    def _print(self, descriptor: int, text: str) -> None:
        self._writers.append(LineWriter(descriptor))
        self._writers[-1].put(text)


def _check_ready_file_not_in_use(ready_file: Path) -> None:
    """Refuse the ready file of a server that answers: who waits for that one would be sent to us, and then nowhere."""
    try:
        assignments = shlex.split(ready_file.read_text("utf-8"))
        env = dict(assignment.split("=", 1) for assignment in assignments if "=" in assignment)
        url = health_url(env["FAKE_CREDITS_URL"])
    except (OSError, ValueError, KeyError):  # there is none, or it is nobody's
        return
    if urlsplit(url).hostname not in LOOPBACK_HOSTS:  # we ask no other machine
        return
    from fake_credits.cli.wait import readiness_problem  # loads urllib, for those who find a file

    ca = Path(env[CA_VARIABLE]) if CA_VARIABLE in env else None
    if not readiness_problem(url, _PROBE_TIMEOUT_S, ca):
        problem = f"is of a server that answers at {env['FAKE_CREDITS_URL']}"
        raise click.UsageError(f"{_READY_FILE_FLAG} {str(ready_file)!r} {problem}: end that, or give another file")


async def _serve(runner: ServerRunner, announce: Callable[[], None], signals: _SignalHandler) -> None:
    """Serve until a signal, or until the announcement fails.

    It runs in a thread: the user's token loads the cryptography while requests are answered already.
    """
    stop = signals.stop_event()
    tasks: list[asyncio.Task[None]] = []

    def on_ready() -> None:
        task = asyncio.create_task(asyncio.to_thread(announce))
        task.add_done_callback(lambda task: stop.set() if task.exception() else None)
        tasks.append(task)

    try:
        await runner.run(stop, on_ready)
    finally:
        await asyncio.gather(*tasks)


def _format_dotenv(env: dict[str, str]) -> str:
    """Return lines for ``. FILE``, ``node --env-file`` and ``$GITHUB_ENV``; the PEM, many lines, fits none of them."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in env.items() if "\n" not in value)


def _format_banner(options: ServeFlags, sandbox: Sandbox, env: dict[str, str]) -> str:
    contract, base_url = sandbox.contract, env["CREDITS_BASE_URL"]
    route = contract.routes[Operation.CREATE_USER]
    ids = {"{applicationId}": options.application_id, "{userId}": options.user_id}
    path = re.sub("|".join(map(re.escape, ids)), lambda match: quote(ids[match[0]], safe=""), route.path)
    header = shlex.quote(f"{contract.api_key.header}: {contract.api_key.value_for(sandbox.api_key)}")
    exports = "".join(f"  export {line}\n" for line in _format_dotenv(env).splitlines())
    key_file = shlex.quote(str(options.key_file)) if options.key_file else "FILE"
    provider_flag = "" if options.auth_provider == "plain" else f" --auth-provider {options.auth_provider}"
    ca_option = f" --cacert {shlex.quote(env[CA_VARIABLE])}" if CA_VARIABLE in env else ""
    hint = "" if options.key_file else " (once I am started with the same --key-file FILE)"
    return (
        f"fake-credits answers at {base_url}\n\n{exports}\n"
        f"Create a user:\n"
        f"  curl --noproxy '*'{ca_option} -X {route.method} -H {header} {shlex.quote(base_url + path)}\n\n"
        f"Any user's token{hint}:\n  fake-credits token USER --key-file {key_file}{provider_flag}\n"
    )
