"""Own how a sandbox ends: what is awaited, and what makes a test that passed prove nothing; know no test."""

import threading

from fake_credits.clock import monotonic_s
from fake_credits.faults.desk import unused_text
from fake_credits.ledger import Inconsistency
from fake_credits.sandbox.sandbox import Sandbox

__all__ = ["last_exchanges", "problems_beside_bugs", "problems_of"]

_LAST_EXCHANGES_S = 1.0


def problems_of(sandbox: Sandbox) -> list[str]:
    """Return what makes a test that passed prove nothing.

    A ledger that contradicts itself, a bug that answered 500, a call that would have hung for ever, a gate that nobody
    released, a scripted rule that stayed unused.
    """
    return [f"a bug of fake-credits answered 500: {bug!r}" for bug in sandbox.bugs] + problems_beside_bugs(sandbox)


def problems_beside_bugs(sandbox: Sandbox) -> list[str]:
    """Return the same without the bugs, for whoever has told them already."""
    found = list(sandbox.problems)
    with sandbox.lock:
        found += [unused_text(active) for active in sandbox.faults.unused()]
    try:
        sandbox.verify()
    except Inconsistency as error:
        found.append(f"the ledger is inconsistent: {error}")
    return found


def last_exchanges(sandbox: Sandbox) -> list[str]:
    """Let go what waits in a sandbox, wait a second for its exchanges, and return what was still under way then."""
    sandbox.release_gates()
    sandbox.end_waits()
    pause = threading.Event()
    limit_s = monotonic_s() + _LAST_EXCHANGES_S
    while sandbox.journal.under_way and monotonic_s() < limit_s:
        pause.wait(0.001)
        sandbox.end_waits()  # again: one may only now wait, or its client be known to have gone
    count = sandbox.journal.under_way
    return [f"{count} exchanges were still under way a second after the end"] if count else []
