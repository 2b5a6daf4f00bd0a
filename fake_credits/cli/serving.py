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
from typing import TextIO
from urllib.parse import quote, urlsplit

import click

from fake_credits.cli import files, rules
from fake_credits.cli.https import CA_VARIABLE, Https, https
from fake_credits.cli.lines import ExchangeLog, LineWriter, writer_to
from fake_credits.cli.options import ServeOptions
from fake_credits.cli.start import control_of, control_variables, new_sandbox, variables
from fake_credits.cli.telling import tell_problems
from fake_credits.contract import Operation
from fake_credits.drivers.environment import LOOPBACK
from fake_credits.drivers.live import Address, Runner, bind, listening_at, new_event_loop
from fake_credits.sandbox import Sandbox, Sandboxes
from fake_credits.web.control.plane import ControlPlane

__all__ = ["CannotBind", "listening", "serve"]

_READY_FILE = "--ready-file"
_ANNOUNCEMENT_LIMIT_S = 5.0
_ANSWER_LIMIT_S = 1.0


class CannotBind(click.ClickException):
    """Report that the address can't be had."""

    exit_code = 3


def serve(options: ServeOptions) -> int:
    """Serve until a signal, and return the exit code: 130 for Ctrl-C, 0 otherwise."""
    stopper = _Stopper()
    with stopper.at_once():  # a large world takes half a minute
        sandbox = new_sandbox(options)
    address = Address(options.host, options.port, options.allow_hosts, options.expose)
    with listening(address):
        listener = bind(address)
    names = (options.host, *options.allow_hosts)
    with (
        closing(listener),
        https(options, listening_at(listener), names) as encrypted,
        closing(ExchangeLog(options.log, options.seed, sandbox.bugs)) as log,
    ):
        sandboxes = Sandboxes(sandbox)
        control = control_of(options, sandboxes, log)
        runner = Runner(sandbox.contract, sandboxes, encrypted.at(address), listener, control)
        with closing(_Announcement(options, sandbox, encrypted, control)) as ours:
            log.listen(sandbox.journal)
            with asyncio.Runner(loop_factory=new_event_loop) as loop:
                loop.run(_serve(runner, ours, stopper))
    tell_problems(sandboxes, options.log)
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
    """Be told by SIGINT, SIGTERM, SIGHUP or SIGBREAK to stop; also before the loop runs, and more than once."""

    def __init__(self) -> None:
        self.exit_code = 0
        self._told = self._at_once = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._event: asyncio.Event | None = None
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
            number = getattr(signal, name, None)  # only Windows has SIGBREAK, and no SIGHUP, which nohup ignores
            if number is not None and not (name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN):
                signal.signal(number, self._hear)

    @contextmanager
    def at_once(self) -> Generator[None, None, None]:
        """End the process where it is told to stop in this block, which has nothing to withdraw."""
        self._at_once = True
        yield
        self._at_once = False

    def event(self) -> asyncio.Event:
        self._loop, self._event = asyncio.get_running_loop(), asyncio.Event()
        if self._told:
            self._event.set()
        return self._event

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        if not self._told:
            self._told, self.exit_code = True, 130 if number == signal.SIGINT else 0
        if self._at_once:
            sys.exit(self.exit_code)
        if self._loop is not None and self._event is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._event.set)


class _Announcement:
    """Tell who waits for the server: the ready file first, then the banner, which nobody may read.

    In a daemon thread, as the user's token loads the cryptography while requests are answered already; and with
    writers that wait for no reader, so that a full pipe or a stopped terminal neither delays the ready file nor keeps
    the process from ending.
    """

    def __init__(self, options: ServeOptions, sandbox: Sandbox, encrypted: Https, control: ControlPlane) -> None:
        self._options = options
        self._sandbox = sandbox
        self._encrypted = encrypted
        self._control = control
        self._contents: str | None = None
        self._failure: Exception | None = None
        self._thread: threading.Thread | None = None
        self._writers: list[LineWriter] = []
        if options.ready_file is not None:
            _check_not_in_use(options.ready_file)
            files.remove(options.ready_file, _READY_FILE)  # a killed server's: it would call us ready too early

    def begin(self, base_url: str, failed: Callable[[], object]) -> None:
        """Announce that requests are answered; call ``failed``, in a thread, where that can't be."""
        self._thread = threading.Thread(
            target=self._announce, args=(base_url, failed), name="fake-credits-announcement", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Withdraw the ready file, unless another server's is there by now; raise why it could not be written."""
        if self._thread is not None:
            self._thread.join(_ANNOUNCEMENT_LIMIT_S)
        file = self._options.ready_file
        if file is not None and self._contents is not None and files.holds(file, self._contents):
            files.remove(file, _READY_FILE)
        for writer in self._writers:
            writer.close()
        if self._failure is not None:
            raise self._failure

    def _announce(self, base_url: str, failed: Callable[[], object]) -> None:
        options = self._options
        try:
            ours = {**variables(self._sandbox, base_url), **self._encrypted.variables}
            ours |= control_variables(base_url, self._control)
            contents = _dotenv(ours)
            if options.ready_file is not None:
                files.replace(options.ready_file, contents, _READY_FILE)
                self._contents = contents
            self._say(sys.stdout, _banner(options, self._sandbox, ours))
            if options.expose:
                self._say(sys.stderr, "Warning: --expose: everyone who can reach this port can try its API.")
        except Exception as failure:  # noqa: BLE001 - raised again by close(), in the main thread
            self._failure = failure
            with suppress(RuntimeError):  # the loop has ended by itself
                failed()

    def _say(self, stream: TextIO | None, text: str) -> None:
        writer = writer_to(stream)
        if writer is not None:
            self._writers.append(writer)
            writer.put(text)


def _check_not_in_use(ready_file: Path) -> None:
    """Refuse the ready file of a server that answers: who waits for that one would be sent to us, and then nowhere."""
    try:
        words = shlex.split(ready_file.read_text("utf-8"))
        told = dict(word.split("=", 1) for word in words if "=" in word)
        url = rules.health_url(told["FAKE_CREDITS_URL"])
    except (OSError, ValueError, KeyError):  # there is none, or it is nobody's
        return
    if urlsplit(url).hostname not in LOOPBACK:  # we ask no other machine
        return
    from fake_credits.cli.waiting import problem_of  # loads urllib, for those who find a file

    ca = Path(told[CA_VARIABLE]) if CA_VARIABLE in told else None
    if not problem_of(url, _ANSWER_LIMIT_S, ca):
        whose = f"is of a server that answers at {told['FAKE_CREDITS_URL']}"
        raise click.UsageError(f"{_READY_FILE} {str(ready_file)!r} {whose}: end that, or give another file")


async def _serve(runner: Runner, announcement: _Announcement, stopper: _Stopper) -> None:
    stop, loop = stopper.event(), asyncio.get_running_loop()
    await runner.run(stop, lambda: announcement.begin(runner.base_url, lambda: loop.call_soon_threadsafe(stop.set)))


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
    trust = f" --cacert {shlex.quote(ours[CA_VARIABLE])}" if CA_VARIABLE in ours else ""
    condition = "" if options.key_file else " (once I am started with the same --key-file FILE)"
    return (
        f"fake-credits answers at {base_url}\n\n{exports}\n"
        f"Create a user:\n  curl --noproxy '*'{trust} -X {route.method} -H {header} {shlex.quote(base_url + path)}\n\n"
        f"Any user's token{condition}:\n  fake-credits token USER --key-file {key_file}{preset}\n"
    )
