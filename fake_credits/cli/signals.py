"""The signals that stop a command, and their handlers. This module imports little, so that Ctrl-C is handled early."""

import os
import signal
from collections.abc import Callable, Iterable

INTERRUPTED_EXIT_CODE = 130
"""The exit code after Ctrl-C, as in a shell."""


def signal_numbers(*names: str) -> frozenset[int]:
    """Return the numbers of the named signals that the platform has; Windows has only a few."""
    return frozenset(getattr(signal, name) for name in names if hasattr(signal, name))


STOP_SIGNALS = signal_numbers("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")


def handle_signals(numbers: Iterable[int], handler: Callable[[int], object]) -> None:
    """Install a handler that is called with the number of each signal that arrives.

    Signals that are already ignored, such as SIGHUP under nohup, stay ignored. The exception is SIGINT, because shells
    start background commands with SIGINT ignored.
    """
    for number in numbers:
        if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _frame: handler(number))


def exit_at_signals(exit_code: Callable[[int], int]) -> None:
    """Exit on any stop signal until the command installs its own handlers; nothing needs cleaning up before then.

    Python's default SIGINT handler raises KeyboardInterrupt, which Python ignores in some callbacks during an import.
    """
    handle_signals(STOP_SIGNALS, lambda number: os._exit(exit_code(number)))


def exit_at_interrupt() -> None:
    """Exit silently on Ctrl-C instead of raising KeyboardInterrupt, unless SIGINT is ignored or already handled."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda _number, _frame: os._exit(INTERRUPTED_EXIT_CODE))
