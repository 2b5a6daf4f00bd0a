"""Own `serve`: one server as the process, from its socket to its summary; know nothing of flags or of HTTP."""

import asyncio
import errno
import re
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import FrameType
from urllib.parse import quote, urlsplit

import click

from fake_credits.cli.bootstrap import (
    application_env,
    control_env,
    create_control_plane,
    create_sandbox,
    remove_file,
    write_file,
)
from fake_credits.cli.flags import ServeFlags, health_url
from fake_credits.cli.https import CA_VARIABLE, TlsSetup, tls_setup
from fake_credits.cli.output import STDERR, STDOUT, ExchangeLog, LineWriter, print_problems
from fake_credits.contract import Operation
from fake_credits.control.app import ControlPlane
from fake_credits.sandbox import Sandbox
from fake_credits.sandboxes import SandboxRegistry
from fake_credits.transports.environment import LOOPBACK_HOSTS
from fake_credits.transports.live import BindOptions, ServerRunner, bind, new_event_loop, reachable_host

__all__ = ["BindError", "report_bind_errors", "serve"]

_READY_FILE_FLAG = "--ready-file"
_ANNOUNCE_TIMEOUT_S = 5.0
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
    host_names = (options.host, *options.allow_hosts)
    with (
        closing(listener),
        tls_setup(options, reachable_host(listener), host_names) as tls,
        closing(ExchangeLog(options.log, options.seed)) as log,
    ):
        sandboxes = SandboxRegistry(sandbox)
        control = create_control_plane(options, sandboxes, log)
        runner = ServerRunner(sandbox.contract, sandboxes, tls.apply_to(address), listener, control)
        with closing(_Readiness(options, sandbox, tls, control)) as readiness:
            log.attach(sandbox.journal, sandbox.bugs)
            with asyncio.Runner(loop_factory=new_event_loop) as loop:
                loop.run(_serve(runner, readiness, signals))
    print_problems(sandboxes, options.log)
    return signals.exit_code


@contextmanager
def report_bind_errors(address: BindOptions) -> Generator[None, None, None]:
    """Turn the failure to get an address into a message that names it."""
    try:
        yield
    except PermissionError as error:
        if error.errno == errno.EPERM:  # beyond loopback; a port that needs root is EACCES
            raise click.UsageError(f"--host {error.strerror}") from error
        raise BindError(_bind_error_message(address, error)) from error
    except OSError as error:
        raise BindError(_bind_error_message(address, error)) from error


def _bind_error_message(address: BindOptions, error: OSError) -> str:
    return f"can't listen at {address.host} port {address.port}: {error.strerror or error}"


class _SignalHandler:
    """Be told by SIGINT, SIGTERM, SIGHUP or SIGBREAK to stop; also before the loop runs, and more than once."""

    def __init__(self) -> None:
        self.exit_code = 0
        self._is_stopping = self._exits_immediately = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_event: asyncio.Event | None = None
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
            number = getattr(signal, name, None)  # only Windows has SIGBREAK, and no SIGHUP, which nohup ignores
            if number is not None and not (name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN):
                signal.signal(number, self._on_signal)

    @contextmanager
    def exit_immediately(self) -> Generator[None, None, None]:
        """End the process where it is told to stop in this block, which has nothing to withdraw."""
        self._exits_immediately = True
        yield
        self._exits_immediately = False

    def stop_event(self) -> asyncio.Event:
        self._loop, self._stop_event = asyncio.get_running_loop(), asyncio.Event()
        if self._is_stopping:
            self._stop_event.set()
        return self._stop_event

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if not self._is_stopping:
            self._is_stopping, self.exit_code = True, 130 if number == signal.SIGINT else 0
        if self._exits_immediately:
            sys.exit(self.exit_code)
        if self._loop is not None and self._stop_event is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop_event.set)


class _Readiness:
    """Tell who waits for the server: the ready file first, then the banner, which nobody may read.

    In a daemon thread, as the user's token loads the cryptography while requests are answered already; and with
    writers that wait for no reader, so that a full pipe or a stopped terminal neither delays the ready file nor keeps
    the process from ending.
    """

    def __init__(self, options: ServeFlags, sandbox: Sandbox, tls: TlsSetup, control: ControlPlane) -> None:
        self._options = options
        self._sandbox = sandbox
        self._tls = tls
        self._control = control
        self._ready_file_text: str | None = None
        self._failure: Exception | None = None
        self._thread: threading.Thread | None = None
        self._writers: list[LineWriter] = []
        if options.ready_file is not None:
            _check_ready_file_not_in_use(options.ready_file)
            remove_file(options.ready_file, _READY_FILE_FLAG)  # a killed server's: it would call us ready too early

    def announce_in_thread(self, base_url: str, on_failure: Callable[[], object]) -> None:
        """Announce that requests are answered; call ``on_failure``, in a thread, where that can't be."""
        self._thread = threading.Thread(
            target=self._announce, args=(base_url, on_failure), name="fake-credits-announcement", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Withdraw the ready file, unless another server's is there by now; raise why it could not be written."""
        if self._thread is not None:
            self._thread.join(_ANNOUNCE_TIMEOUT_S)
        file = self._options.ready_file
        if file is not None and self._ready_file_text is not None:
            remove_file(file, _READY_FILE_FLAG, only_with_text=self._ready_file_text)
        for writer in self._writers:
            writer.close()
        if self._failure is not None:
            raise self._failure

    def _announce(self, base_url: str, on_failure: Callable[[], object]) -> None:
        options = self._options
        try:
            env = {**application_env(self._sandbox, base_url), **self._tls.env_variables}
            env |= control_env(base_url, self._control)
            contents = _format_dotenv(env)
            if options.ready_file is not None:
                write_file(options.ready_file, contents, _READY_FILE_FLAG)
                self._ready_file_text = contents
            self._print(STDOUT, _format_banner(options, self._sandbox, env))
            if options.expose:
                self._print(STDERR, "Warning: --expose: everyone who can reach this port can try its API.")
        except Exception as failure:  # noqa: BLE001 - raised again by close(), in the main thread
            self._failure = failure
            with suppress(RuntimeError):  # the loop has ended by itself
                on_failure()

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


async def _serve(runner: ServerRunner, readiness: _Readiness, signals: _SignalHandler) -> None:
    stop, loop = signals.stop_event(), asyncio.get_running_loop()
    await runner.run(
        stop, lambda: readiness.announce_in_thread(runner.base_url, lambda: loop.call_soon_threadsafe(stop.set))
    )


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
