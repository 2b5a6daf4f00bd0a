"""Own what an exchange in process awaits: objects that whoever steps it interprets; know nothing of time or threads.

A foreign ``await`` is a TypeError that names it.
"""

import itertools
import math
from collections.abc import Coroutine, Generator
from dataclasses import dataclass
from typing import Any, Literal

from fake_credits.api.exchange import Exchange
from fake_credits.faults.context import Abort, Delivery, RawBytes
from fake_credits.faults.gates import Gate
from fake_credits.http_message import AsgiMessage, RawHeaders, Response
from fake_credits.sandbox import Sandbox

__all__ = [
    "CHECKPOINT",
    "AtGate",
    "ExchangeCoroutine",
    "Forever",
    "InProcessConnection",
    "Outcome",
    "Sleep",
    "Suspend",
    "resume",
    "split_evenly",
]

Outcome = Literal["whole", "closed", "reset", "timeout", "garbage"]
"""How an answer ends: whole; by a FIN; by an RST; with the client's patience; as bytes that are no HTTP."""

ExchangeCoroutine = Coroutine[Any, Any, None]


class Suspend:
    """Be something that an exchange awaits; it resumes with whether that came about."""

    def __await__(self) -> Generator["Suspend", bool, bool]:
        return (yield self)


@dataclass(frozen=True, slots=True, eq=False)
class Sleep(Suspend):
    """Be a delay in milliseconds; ``after_byte``: the client's patience begins anew with it."""

    ms: float
    exchange: Exchange
    after_byte: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class AtGate(Suspend):
    """Be the wait at a gate; it resumes with False at the gate's limit."""

    gate: Gate
    exchange: Exchange


@dataclass(frozen=True, slots=True, eq=False)
class Forever(Suspend):
    """Be the wait for nothing: only the client can end it."""

    exchange: Exchange
    after_byte: bool = False

    @property
    def ms(self) -> float:
        """Return how long it is."""
        return math.inf


CHECKPOINT = Suspend()
"""The moment before an answer's first byte; it resumes with whether the client still waits."""


class InProcessConnection:
    """Be one request's receive, send and connection: the sandbox is the transport's own, and no Host is checked."""

    __slots__ = ("_body", "body_chunks", "headers", "outcome", "sandbox", "status")

    def __init__(self, sandbox: Sandbox, body: bytes) -> None:
        self.sandbox: Sandbox | None = sandbox
        self._body = body
        self.status = 0
        self.headers: RawHeaders = []
        self.body_chunks: list[bytes] = []
        self.outcome: Outcome = "whole"

    def host_error(self, _raw_path: bytes, _headers: RawHeaders) -> None:
        """Refuse nothing."""

    def body(self) -> bytes:
        """Return the whole body."""
        return self._body

    async def sleep(self, ms: float, exchange: Exchange) -> None:
        """Wait as the stepper lets time pass."""
        await Sleep(ms, exchange)

    async def wait_at_gate(self, gate: Gate, exchange: Exchange) -> bool:
        """Wait at a gate."""
        return await AtGate(gate, exchange)

    def schedule_run_due(self, ms: float, sandbox: Sandbox) -> None:
        """Do nothing: whoever moves the clock or comes next runs what is due."""

    async def is_client_connected(self) -> bool:
        """Tell whether the client still waits after the checkpoint."""
        return await CHECKPOINT

    async def send(self, response: Response, request_id: str) -> None:
        """Keep a whole answer."""
        self._set_head(response, request_id)
        self._add_chunk(response.body)

    async def abort(self, delivery: Delivery, exchange: Exchange) -> None:
        """Keep as much of an answer as a fault lets through."""
        response = exchange.response
        if isinstance(delivery, RawBytes):
            self._add_chunk(delivery.data)
            self.end_with("garbage")
        elif isinstance(delivery, Abort):
            await self._abort_after(delivery, exchange)
        elif response is not None:
            self._set_head(response, exchange.request_id)
            for chunk in split_evenly(response.body, delivery.chunk_count):
                await Sleep(delivery.interval_ms, exchange, after_byte=True)
                self._add_chunk(chunk)

    async def _abort_after(self, delivery: Abort, exchange: Exchange) -> None:
        response = exchange.response
        if response is not None and delivery.sent_body_bytes is not None:
            self._set_head(response, exchange.request_id)
            self._add_chunk(response.body[: delivery.sent_body_bytes])
            if not response.body:
                return  # its head was all of it: its client has the answer, however the connection ends
        if delivery.close_mode == "hang":
            await Forever(exchange, after_byte=bool(self.status))  # whoever ends it says how
        else:
            self.end_with("closed" if delivery.close_mode == "close" else "reset")

    def end_with(self, outcome: Outcome) -> None:
        """End the answer here, unless its client was told of an end before."""
        if self.outcome == "whole":
            self.outcome = outcome

    def _add_chunk(self, chunk: bytes) -> None:
        if self.outcome == "whole":
            self.body_chunks.append(chunk)

    def _set_head(self, response: Response, request_id: str) -> None:
        if self.outcome == "whole":  # else the client has gone
            self.status, self.headers = response.status, response.full_headers(request_id)

    async def asgi_receive(self) -> AsgiMessage:
        """Return the body, as ASGI has it."""
        return {"type": "http.request", "body": self._body, "more_body": False}

    async def asgi_send(self, message: AsgiMessage) -> None:
        """Keep a part of an answer, as ASGI has it."""
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], message["headers"]
        else:
            self.body_chunks.append(message["body"])


def split_evenly(body: bytes, count: int) -> list[bytes]:
    """Return a body in so many pieces, as even as can be; fewer where it is shorter, and none where there is none."""
    count = min(count, len(body))
    if not count:
        return []
    offsets = [len(body) * number // count for number in range(count + 1)]
    return [body[start:end] for start, end in itertools.pairwise(offsets)]


def resume(coroutine: ExchangeCoroutine, value: bool | None) -> Suspend | None:
    """Run to the next wait and return it, None at the end; a wait for anything but ours is a TypeError."""
    try:
        wait = coroutine.send(value)
    except StopIteration:
        return None
    if not isinstance(wait, Suspend):
        coroutine.close()
        awaited = "a bare yield, as of asyncio.sleep(0)" if wait is None else repr(wait)
        raise TypeError(f"the application awaits {awaited}, which no event loop drives in process")
    return wait
