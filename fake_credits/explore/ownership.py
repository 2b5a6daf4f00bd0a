"""Ownership of calls: whether a call is made by the test itself or by the application.

A call is the test's own if the innermost frame outside the HTTP stack belongs to the test function (including its
lambdas and comprehensions), a fixture, a setup or teardown method, or a ``conftest.py``. All other calls are the
application's, including those from its threads and those that arrive over a socket, unless this package's clients mark
them as the test's.
"""

import asyncio
import os
import re
import sys
import sysconfig
from collections import defaultdict
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from types import CodeType, FrameType
from typing import Literal

from fake_credits.http_message import AsyncTransport, Request, Response, Transport
from fake_credits.invariants import is_aside
from fake_credits.transports.in_process import InProcessDriver

FrameOwner = Literal["stack", "test", "application"]
"""The owner of a frame: the test, the application, or the HTTP stack, whose frames are skipped."""

CALLER_HEADER = b"x-fake-credits-caller"
"""The header with which this package's clients mark the test's own calls over a socket."""

_STACK = frozenset(
    {
        "_pytest",
        "aiohttp",
        "anyio",
        "asyncio",
        "fake_credits",
        "h11",
        "h2",
        "httpcore",
        "httpcore2",
        "httpx",
        "httpx2",
        "pluggy",
        "pytest",
        "pytest_asyncio",
        "pytest_fake_credits",
        "requests",
        "sniffio",
        "trio",
        "urllib3",
        "uvicorn",
        "uvloop",
    }
)
_STANDARD_LIBRARY = tuple({str(Path(sysconfig.get_path(name))) + os.sep for name in ("stdlib", "platstdlib")})
_INSTALLED = tuple(f"{os.sep}{name}-packages{os.sep}" for name in ("site", "dist"))
_LOOP_STEPS = ("_run", "unrolled_run")  # the asyncio and trio functions that resume a task
_SETUP = re.compile(r"(setUp|tearDown)\w*|async(SetUp|TearDown)|(setup|teardown)_(method|function|class|module)")
_INNER = re.compile(r"(\.<locals>\.<(lambda|genexpr|listcomp|dictcomp|setcomp)>)*")


class TestCode:
    """The code that belongs to tests: ``functions``, and modules whose names match a pattern in ``modules``.

    ``functions`` are the code objects of tests and fixtures. The owner of each code object is cached.
    """

    __test__ = False

    def __init__(self, functions: Iterable[CodeType] = (), modules: Sequence[str] = ()) -> None:
        self._names_by_file: defaultdict[str, set[str]] = defaultdict(set)
        self._modules = modules
        self._owners: dict[CodeType, FrameOwner] = {}
        self.add(functions)

    def __repr__(self) -> str:
        return f"<TestCode: functions={sum(map(len, self._names_by_file.values()))}>"

    def add(self, functions: Iterable[CodeType]) -> None:
        """Add functions to the code that belongs to tests."""
        for code in functions:
            names = self._names_by_file[code.co_filename]
            if code.co_qualname not in names:
                names.add(code.co_qualname)
                self._owners.clear()

    def owner_of(self, frame: FrameType) -> FrameOwner:
        """Return the owner of a frame."""
        code = frame.f_code
        owner = self._owners.get(code)
        if owner is None:
            owner = self._owners[code] = self._classify(code, str(frame.f_globals.get("__name__", "")))
        return owner

    def innermost_owner(self, frame: FrameType | None) -> FrameOwner:
        """Return the owner of the innermost frame outside the HTTP stack, or ``stack`` if there is none.

        Code that runs an event loop owns only the calls made by the task that it waits for.
        """
        while frame is not None:
            owner = self.owner_of(frame)
            if owner != "stack":
                return owner
            if frame.f_code.co_name in _LOOP_STEPS and _is_event_loop(frame):
                frame = _caller_of_main_task(frame)
            frame = None if frame is None else frame.f_back
        return "stack"

    def calls_now(self) -> FrameOwner:
        """Return the owner of the current call, or ``stack`` if only HTTP code is visible, as in a server thread."""
        return "test" if is_aside() else self.innermost_owner(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]

    def _classify(self, code: CodeType, module: str) -> FrameOwner:
        filename = code.co_filename
        if any(fnmatchcase(module, pattern) for pattern in self._modules):
            return "test"
        if module.partition(".")[0] in _STACK or filename.startswith("<frozen "):
            return "stack"
        if filename.startswith(_STANDARD_LIBRARY) and not any(folder in filename for folder in _INSTALLED):
            return "stack"
        if Path(filename).name == "conftest.py" or _SETUP.fullmatch(code.co_name):
            return "test"
        return "test" if self._is_listed(filename, code.co_qualname) else "application"

    def _is_listed(self, filename: str, qualified_name: str) -> bool:
        return any(
            qualified_name.startswith(name) and _INNER.fullmatch(qualified_name, len(name))
            for name in self._names_by_file.get(filename, ())
        )


def _is_event_loop(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith(("asyncio.", "trio."))


def _caller_of_main_task(frame: FrameType | None) -> FrameType | None:
    """Return the frame that runs asyncio's event loop until the current task is done, or None if there is none."""
    while frame is not None and frame.f_code.co_name != "run_until_complete":
        frame = frame.f_back
    if frame is None or not _is_event_loop(frame):
        return None
    return frame if frame.f_locals.get("future") is asyncio.current_task() else None


class _MarkingTransport:
    """A transport that marks the test's own calls with a header, because the server can't see the caller's frames."""

    def __init__(self, transport: Transport, test_code: TestCode) -> None:
        self._transport = transport
        self._test_code = test_code

    def __repr__(self) -> str:
        return f"_MarkingTransport({self._transport!r})"

    def send(self, request: Request) -> Response:
        return self._transport.send(_mark(request, self._test_code))

    def close(self) -> None:
        self._transport.close()


class _AsyncMarkingTransport:
    """The async version of `_MarkingTransport`."""

    def __init__(self, transport: AsyncTransport, test_code: TestCode) -> None:
        self._transport = transport
        self._test_code = test_code

    def __repr__(self) -> str:
        return f"_AsyncMarkingTransport({self._transport!r})"

    async def send(self, request: Request) -> Response:
        return await self._transport.send(_mark(request, self._test_code))

    async def aclose(self) -> None:
        await self._transport.aclose()


def _mark(request: Request, test_code: TestCode) -> Request:
    if test_code.calls_now() == "test":
        request.headers = [*request.headers, (CALLER_HEADER, b"test")]
    return request


def mark_transports(
    transports: tuple[Transport, AsyncTransport], test_code: TestCode
) -> tuple[Transport, AsyncTransport]:
    """Return transports that mark the test's own calls."""
    return _MarkingTransport(transports[0], test_code), _AsyncMarkingTransport(transports[1], test_code)


def is_in_process() -> bool:
    """Return whether the current call reaches its sandbox without a socket."""
    frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        if frame.f_globals.get("__name__") == InProcessDriver.__module__:
            return True
        frame = frame.f_back
    return False
