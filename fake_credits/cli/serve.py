"""The `serve` command: runs one server, from opening the socket to printing the summary."""

import asyncio
import errno
import re
import shlex
import signal
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import click

from fake_credits.cli.bootstrap import (
    CA_VARIABLE,
    create_control_plane,
    create_sandbox,
    remove_file,
    server_env,
    write_file,
)
from fake_credits.cli.flags import ServeFlags
from fake_credits.cli.https import tls_setup
from fake_credits.cli.output import STDERR, STDOUT, ExchangeLog, print_lines, print_problems
from fake_credits.cli.signals import INTERRUPTED_EXIT_CODE, STOP_SIGNALS, handle_signals
from fake_credits.contract import Operation
from fake_credits.sandbox import Sandbox
from fake_credits.transports.live import BindOptions, ServerRunner, bind, new_event_loop, reachable_host

_PORT_ERRORS = (errno.EADDRINUSE, errno.EACCES)
_READY_FILE_FLAG = "--ready-file"


class BindError(click.ClickException):
    """Raised if the address can't be bound."""

    exit_code = 3


def serve(options: ServeFlags) -> int:
    """Serve until a signal arrives, and return the exit code: 130 for Ctrl-C, 0 otherwise."""
    sandbox = create_sandbox(options)
    signals = _StopSignals()
    address = BindOptions(options.host, options.port, options.allow_hosts, options.expose)
    with report_bind_errors(address):
        listener = bind(address)
    with (
        closing(listener),
        tls_setup(options, address, reachable_host(listener)) as (address, ca_file),
        closing(ExchangeLog(options.log, options.seed)) as log,
    ):
        sandboxes, control = create_control_plane(options, sandbox, log)
        control.is_ready = False
        runner = ServerRunner(sandbox.contract, sandboxes, address, listener, control)
        with (
            _ready_file(options.ready_file) as write_ready_file,
            asyncio.Runner(loop_factory=new_event_loop) as loop,
        ):

            def announce() -> None:
                env = server_env(sandbox, runner.base_url, control, ca_file)
                write_ready_file(_format_dotenv(env))
                _print_banner(options, sandbox, env)
                control.is_ready = True

            loop.run(_serve(runner, announce, signals))
    print_problems(sandboxes, options.log)
    return signals.exit_code


@contextmanager
def report_bind_errors(address: BindOptions) -> Generator[None]:
    """Turn an OSError raised while binding into an error message that names the address."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EPERM:  # a non-loopback address; a privileged port raises EACCES
            raise click.UsageError(f"--host {error.strerror}") from error
        hint = (
            "; use another --port, or --port 0 for a free one" if address.port and error.errno in _PORT_ERRORS else ""
        )
        message = f"can't listen on {address.host} port {address.port}: {error.strerror or error}{hint}"
        raise BindError(message) from error


class _StopSignals:
    """The signals that stop the server, including those that arrive before its event loop runs."""

    def __init__(self) -> None:
        self.exit_code = 0
        self._is_stopping = False
        self._stop_server: Callable[[], object] | None = None
        handle_signals(STOP_SIGNALS, self._on_signal)

    def stop_event(self) -> asyncio.Event:
        loop, event = asyncio.get_running_loop(), asyncio.Event()
        if self._is_stopping:
            event.set()
        self._stop_server = lambda: loop.call_soon_threadsafe(event.set)
        return event

    def _on_signal(self, number: int) -> None:
        if not self._is_stopping:
            self._is_stopping, self.exit_code = True, INTERRUPTED_EXIT_CODE if number == signal.SIGINT else 0
        if self._stop_server is not None:
            with suppress(RuntimeError):  # the loop may already be closed
                self._stop_server()


@contextmanager
def _ready_file(path: Path | None) -> Generator[Callable[[str], None]]:
    """Yield a function that writes the ready file; on exit, remove the file unless another server has replaced it."""
    written: list[str] = []

    def write(text: str) -> None:
        if path is not None:
            write_file(path, text, _READY_FILE_FLAG)
            written.append(text)

    if path is not None:
        remove_file(path, _READY_FILE_FLAG)  # a file left by a killed server would make clients connect too early
    try:
        yield write
    finally:
        if path is not None and written:
            remove_file(path, _READY_FILE_FLAG, only_with_text=written[0])


async def _serve(runner: ServerRunner, announce: Callable[[], None], signals: _StopSignals) -> None:
    """Serve until a signal arrives, or until the announcement fails.

    The announcement runs in a thread, because minting the user's token takes a while and must not block the server,
    which is already accepting requests.
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
    """Return NAME=VALUE lines for ``. FILE``, ``node --env-file`` and ``$GITHUB_ENV``.

    PEM keys are omitted, because they span several lines.
    """
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in env.items() if "\n" not in value)


def _print_banner(options: ServeFlags, sandbox: Sandbox, env: dict[str, str]) -> None:
    contract, base_url = sandbox.contract, env["CREDITS_BASE_URL"]
    route = contract.routes[Operation.CREATE_USER]
    ids = {"{applicationId}": options.application_id, "{userId}": options.user_id}
    path = re.sub("|".join(map(re.escape, ids)), lambda match: quote(ids[match[0]], safe=""), route.path)
    header = shlex.quote(f"{contract.api_key.header}: {contract.api_key.value_for(sandbox.api_key)}")
    exports = "".join(f"  export {line}\n" for line in _format_dotenv(env).splitlines())
    key_file = shlex.quote(str(options.key_file)) if options.key_file else "FILE"
    provider_flag = "" if options.auth_provider == "plain" else f" --auth-provider {options.auth_provider}"
    ca_option = f" --cacert {shlex.quote(env[CA_VARIABLE])}" if CA_VARIABLE in env else ""
    hint = "" if options.key_file else " (requires a server started with the same --key-file FILE)"
    print_lines(
        STDOUT,
        f"fake-credits is running at {base_url}\n\n{exports}\n"
        f"Create a user:\n"
        f"  curl --noproxy '*'{ca_option} -X {route.method} -H {header} {shlex.quote(base_url + path)}\n\n"
        f"Print a user's token{hint}:\n  fake-credits token USER --key-file {key_file}{provider_flag}\n",
    )
    if options.expose:
        print_lines(STDERR, "Warning: --expose: anyone who can reach this port can use the API.")
