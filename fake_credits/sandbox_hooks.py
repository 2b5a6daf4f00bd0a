"""The problems that a sandbox reports, and the hooks through which exploration observes and controls it."""

from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec

from fake_credits.http_message import AsyncTransport, Transport

Transports = tuple[Transport, AsyncTransport]


ProblemKind = Literal["calls", "internal_errors", "ledger", "unrouted", "unused_rules"]


class SandboxProblem(msgspec.Struct, frozen=True, eq=False):
    """A problem that should fail an otherwise passing test; ``source`` is the exception or rule behind it, if any."""

    kind: ProblemKind
    text: str
    source: object = None


class SandboxHooks:
    """The hooks of one sandbox, most of which are set by exploration; by default, they do nothing.

    ``explored`` is the schedule or order of the current run. ``final_checks`` are called once, before the sandbox's
    problems are reported. ``on_inspection`` is called when the ledger or the journal is read without an API call.
    ``wrap_live_transports`` wraps the transports of live clients. ``hold_exchange`` is awaited before each in-process
    exchange made from an event loop.
    """

    def __init__(self, run_due: Callable[[], object]) -> None:
        self._run_due = run_due
        self.explored: str | None = None
        self.final_checks: list[Callable[[], object]] = []
        self.on_inspection: Callable[[], object] | None = None
        self.wrap_live_transports: Callable[[Transports], Transports] = lambda transports: transports
        self.hold_exchange: Callable[[], Awaitable[None]] | None = None

    def __repr__(self) -> str:
        return f"<SandboxHooks: final_checks={len(self.final_checks)}>"

    def prepare_read(self) -> None:
        """Run due timers and call ``on_inspection``, before the sandbox's state is read without an API call."""
        self._run_due()
        if self.on_inspection is not None:
            self.on_inspection()

    def run_final_checks(self) -> None:
        """Call the final checks, and forget them."""
        checks, self.final_checks = self.final_checks, []
        for check in checks:
            check()
