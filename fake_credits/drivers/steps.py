"""Own what an exchange in process awaits: objects that whoever steps it interprets; know nothing of time or threads.

A foreign ``await`` is a TypeError that names it.
"""

import itertools
import math
from collections.abc import Coroutine, Generator
from dataclasses import dataclass
from typing import Any, Literal

from fake_credits.faults.gates import Hold
from fake_credits.faults.stage import Cut, Noise, Wire
from fake_credits.sandbox import Sandbox
from fake_credits.web.answer import Answer, Headers, Message
from fake_credits.web.exchange import Exchange

__all__ = ["CHECKPOINT", "Call", "End", "Never", "Pause", "Steps", "Wait", "Waiting", "pieces", "step"]

End = Literal["whole", "closed", "reset", "timeout", "garbage"]
"""How an answer ends: whole; by a FIN; by an RST; with the client's patience; as bytes that are no HTTP."""

Steps = Coroutine[Any, Any, None]


class Wait:
    """Be something that an exchange awaits; it resumes with whether that came about."""

    def __await__(self) -> Generator["Wait", bool, bool]:
        return (yield self)


@dataclass(frozen=True, slots=True, eq=False)
class Pause(Wait):
    """Be a delay in milliseconds; ``after_byte``: the client's patience begins anew with it."""

    ms: float
    exchange: Exchange
    after_byte: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Waiting(Wait):
    """Be the wait at a gate; it resumes with False at the gate's limit."""

    gate: Hold
    exchange: Exchange


@dataclass(frozen=True, slots=True, eq=False)
class Never(Wait):
    """Be the wait for nothing: only the client can end it."""

    exchange: Exchange
    after_byte: bool = False

    @property
    def ms(self) -> float:
        """Return how long it is."""
        return math.inf


CHECKPOINT = Wait()
"""The moment before an answer's first byte; it resumes with whether the client still waits."""


class Call:
    """Be one request's receive and send, and its line: the sandbox is the transport's own, and no Host is checked."""

    __slots__ = ("_body", "chunks", "end", "headers", "sandbox", "status")

    def __init__(self, sandbox: Sandbox, body: bytes) -> None:
        self.sandbox: Sandbox | None = sandbox
        self._body = body
        self.status = 0
        self.headers: Headers = []
        self.chunks: list[bytes] = []
        self.end: End = "whole"

    def refusal(self, _raw_path: bytes, _headers: Headers) -> None:
        """Refuse nothing."""

    def body(self) -> bytes:
        """Return the whole body."""
        return self._body

    async def sleep(self, ms: float, exchange: Exchange) -> None:
        """Wait as the stepper lets time pass."""
        await Pause(ms, exchange)

    async def hold(self, gate: Hold, exchange: Exchange) -> bool:
        """Wait at a gate."""
        return await Waiting(gate, exchange)

    def remind(self, ms: float, sandbox: Sandbox) -> None:
        """Do nothing: whoever moves the clock or comes next runs what is due."""

    async def deliverable(self) -> bool:
        """Tell whether the client still waits after the checkpoint."""
        return await CHECKPOINT

    async def deliver(self, answer: Answer, request_id: str) -> None:
        """Keep a whole answer."""
        self._head(answer, request_id)
        self._add(answer.body)

    async def break_off(self, wire: Wire, exchange: Exchange) -> None:
        """Keep as much of an answer as a fault lets through."""
        answer = exchange.answer
        if isinstance(wire, Noise):
            self._add(wire.data)
            self.break_at("garbage")
        elif isinstance(wire, Cut):
            await self._cut(wire, exchange)
        elif answer is not None:
            self._head(answer, exchange.request_id)
            for piece in pieces(answer.body, wire.pieces):
                await Pause(wire.gap_ms, exchange, after_byte=True)
                self._add(piece)

    async def _cut(self, cut: Cut, exchange: Exchange) -> None:
        answer = exchange.answer
        if answer is not None and cut.body_bytes is not None:
            self._head(answer, exchange.request_id)
            self._add(answer.body[: cut.body_bytes])
            if not answer.body:
                return  # its head was all of it: its client has the answer, however the connection ends
        if cut.ending == "hang":
            await Never(exchange, after_byte=bool(self.status))  # whoever ends it says how
        else:
            self.break_at("closed" if cut.ending == "close" else "reset")

    def break_at(self, end: End) -> None:
        """End the answer here, unless its client was told of an end before."""
        if self.end == "whole":
            self.end = end

    def _add(self, piece: bytes) -> None:
        if self.end == "whole":
            self.chunks.append(piece)

    def _head(self, answer: Answer, request_id: str) -> None:
        if self.end == "whole":  # else the client has gone
            self.status, self.headers = answer.status, answer.all_headers(request_id)

    async def receive(self) -> Message:
        """Return the body, as ASGI has it."""
        return {"type": "http.request", "body": self._body, "more_body": False}

    async def send(self, message: Message) -> None:
        """Keep a part of an answer, as ASGI has it."""
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], message["headers"]
        else:
            self.chunks.append(message["body"])


def pieces(body: bytes, count: int) -> list[bytes]:
    """Return a body in so many pieces, as even as can be; fewer where it is shorter, and none where there is none."""
    count = min(count, len(body))
    if not count:
        return []
    edges = [len(body) * number // count for number in range(count + 1)]
    return [body[start:end] for start, end in itertools.pairwise(edges)]


def step(steps: Steps, value: bool | None) -> Wait | None:
    """Run to the next wait and return it, None at the end; a wait for anything but ours is a TypeError."""
    try:
        wait = steps.send(value)
    except StopIteration:
        return None
    if not isinstance(wait, Wait):
        steps.close()
        shown = "a bare yield, as of asyncio.sleep(0)" if wait is None else repr(wait)
        raise TypeError(f"the application awaits {shown}, which no event loop drives in process")
    return wait
