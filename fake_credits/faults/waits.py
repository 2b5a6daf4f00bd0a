"""Waits: values that a request's coroutine yields to the transport, so that the pipeline itself does no I/O."""

import math
from collections.abc import Coroutine, Generator
from typing import Any

import msgspec

from fake_credits.errors import PayloadTooLarge
from fake_credits.faults.gates import Gate

ExchangeCoroutine = Coroutine["Wait", Any, None]


class ServerStopping(BaseException):
    """Raised in a waiting request when its server stops or its sandbox closes; the request ends without a response."""


class Wait:
    """The base class of waits."""

    def __await__(self) -> Generator["Wait", Any, Any]:
        return (yield self)


class Body(Wait, msgspec.Struct, frozen=True, eq=False):
    """A wait whose result is the complete body. Raises PayloadTooLarge if the body exceeds ``limit_bytes``."""

    limit_bytes: int

    def too_large(self) -> PayloadTooLarge:
        """Return the error for a body over the limit."""
        size = f"{self.limit_bytes >> 20} MiB" if self.limit_bytes >= 1 << 20 else f"{self.limit_bytes >> 10} KiB"
        return PayloadTooLarge(f"the body must be at most {self.limit_bytes} bytes long ({size})")


class Sleep(Wait, msgspec.Struct, frozen=True, eq=False):
    """A delay of at least ``ms`` milliseconds.

    ``after_byte`` says whether a byte was just sent, which restarts the client's timeout.
    """

    ms: float
    after_byte: bool = False


class AtGate(Wait, msgspec.Struct, frozen=True, eq=False):
    """A wait at a gate; the result is False if the gate is not released within its time limit."""

    gate: Gate


class Drain(Wait, msgspec.Struct, frozen=True, eq=False):
    """A wait until the peer's kernel has received everything written so far, or a time limit is reached."""


class Forever(Wait, msgspec.Struct, frozen=True, eq=False):
    """A wait that ends only when the client disconnects, the sandbox is closed or reset, or a time limit is reached."""

    after_byte: bool = False

    @property
    def ms(self) -> float:
        """Return infinity, the length of the wait in milliseconds."""
        return math.inf


CHECKPOINT = Wait()
"""The wait just before the response's first byte; its result is whether the client is still connected."""


def resume(coroutine: ExchangeCoroutine, value: object) -> Wait | None:
    """Run a coroutine to its next wait; return the wait, or None if the coroutine has finished.

    Raises TypeError if it awaits anything other than a `Wait`.
    """
    try:
        wait = coroutine.send(value)
    except StopIteration:
        return None
    if not isinstance(wait, Wait):  # pyright: ignore[reportUnnecessaryIsInstance]
        coroutine.close()
        awaited = "a bare yield, as in asyncio.sleep(0)" if wait is None else repr(wait)
        raise TypeError(f"the application awaits {awaited}, but in-process requests run without an event loop")
    return wait


def run_to_wait(coroutine: ExchangeCoroutine, value: object) -> Wait | None:
    """Run a coroutine as `resume` does, but skip each `Drain`, because in memory there is nothing to drain."""
    wait = resume(coroutine, value)
    while isinstance(wait, Drain):
        wait = resume(coroutine, None)
    return wait


def throw(coroutine: ExchangeCoroutine, error: BaseException) -> Wait | None:
    """Throw an error into a coroutine at its current wait; return its next wait, or None if it has finished."""
    try:
        return coroutine.throw(error)
    except StopIteration:
        return None
