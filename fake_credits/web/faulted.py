"""Own the way of an exchange that rules may touch: what fires, before and after the decision, and what it then does.

It implements the `Stage` that effects work on, and waits through the driver's `Line`.
"""

import math
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import Any, cast

import msgspec

from fake_credits.clock import LATEST_MS
from fake_credits.contract import Operation
from fake_credits.errors import ApiError, GatewayTimeout, ServerError, Unavailable
from fake_credits.faults.incoming import IncomingCall, WhereError
from fake_credits.faults.plan import Shot
from fake_credits.faults.stage import Cut, PageTrick, Wire
from fake_credits.web.answer import Answer
from fake_credits.web.exchange import Exchange, Line, Met
from fake_credits.web.operations import Bent
from fake_credits.web.routing import Matched

__all__ = ["conduct", "meet"]


def meet(exchange: Exchange, body: bytes) -> Met | None:
    """Return which of its sandbox's rules fire for an exchange, None for none; raise ApiError where one fails."""
    if not isinstance(exchange.credential, ApiError):
        exchange.client = exchange.credential.kind
    sandbox = exchange.sandbox
    with sandbox.lock:  # a reset waits for it
        shots = _shots(exchange, body)
        return Met(shots, sandbox.ledger) if shots else None


async def conduct(exchange: Exchange, line: Line, met: Met, body: bytes) -> None:
    """Decide an exchange as the rules that it has met want; raise ApiError for a refusal that no fault has touched."""
    stage = _Stage(exchange, line, met, body)
    for shot in met.shots:
        if shot.rule.rule.phase != "after" and not stage.is_over:
            await stage.play(shot)
    if not stage.is_over:
        stage.decide()
    for shot in met.shots:
        if shot.rule.rule.phase == "after" and exchange.wire is None:
            await stage.play(shot)


def _shots(exchange: Exchange, body: bytes) -> list[Shot]:
    """Return what a call meets; refuse it where a rule's own function fails, which fails the test too."""
    try:
        return exchange.sandbox.faults.decide(_call(exchange, body))
    except WhereError as failed:
        exchange.sandbox.complain(failed.told)
        error = ServerError(failed.problem)
        error.fault = failed.rule
        raise error from None


def _call(exchange: Exchange, body: bytes) -> IncomingCall:
    operation, application_id, user_id = cast("Matched", exchange.matched)[:3]
    sandbox, credential = exchange.sandbox, exchange.credential
    return IncomingCall(
        exchange.ordinal - sandbox.faults.ordinal_base,
        operation,
        application_id,
        user_id,
        "" if isinstance(credential, ApiError) else credential.kind,
        _reason(exchange, body) if sandbox.faults.reads_reason else "",
        exchange.fields,
        sandbox.clock.now_ms(),
    )


def _reason(exchange: Exchange, body: bytes) -> str:
    if cast("Matched", exchange.matched).operation is not Operation.CREATE_TRANSACTION:
        return ""
    try:
        return exchange.service.codec.order(body).reason.value
    except ApiError:
        return ""


class _Stage:
    """Be an exchange as its effects see it."""

    def __init__(self, exchange: Exchange, line: Line, met: Met, body: bytes) -> None:
        self._exchange = exchange
        self._line = line
        self._body = body
        self._world = met.world
        self._shot: Shot | None = None
        self._noted_before = "", ""
        self._bent: Bent | None = None
        self._skew_s = 0
        self._writes = 1

    @property
    def is_over(self) -> bool:
        """Tell whether the exchange has its answer, or will have none."""
        return self._exchange.answer is not None or self._exchange.wire is not None

    async def play(self, shot: Shot) -> None:
        """Let one effect work, and note that its rule has fired."""
        self._shot = shot
        exchange = self._exchange
        self._noted_before = exchange.rule, exchange.phase
        exchange.rule = f"{exchange.rule}+{shot.rule.name}".lstrip("+")
        exchange.phase = f"{exchange.phase}+{shot.rule.rule.phase}".lstrip("+")
        await shot.effect.apply(self)

    def decide(self) -> None:
        """Decide, and keep a refusal as an answer that effects can touch."""
        exchange = self._exchange
        try:
            with exchange.sandbox.lock:
                self._check_world()
                exchange.decide(self._body, bent=self._bent, skew_s=self._skew_s)
        except ApiError as error:
            exchange.refuse(error.with_traceback(None))
        self._repeat()

    def _check_world(self) -> None:
        """Refuse a call that has waited, in real time, while its sandbox was reset: its world is no more."""
        if self._exchange.sandbox.ledger is not self._world:
            raise Unavailable("the sandbox was reset while a fault of fake-credits held this call up")

    def _repeat(self) -> None:
        """Apply a write that stands again, where it is to come twice; the outcome of the second is nobody's."""
        exchange = self._exchange
        if self._writes == 1 or not exchange.committed:
            return
        first, refusal, number = exchange.answer, exchange.refusal, exchange.transaction
        self._operate(None)
        exchange.answer, exchange.refusal, exchange.transaction = first, refusal, number
        exchange.committed = True

    def _operate(self, bent: Bent | None) -> None:
        exchange = self._exchange
        with exchange.sandbox.lock:
            try:
                exchange.operate(self._body, bent)
            except ApiError as error:
                exchange.refuse(error.with_traceback(None))

    # ------------------------------------------------------------ what effects do

    def draw(self) -> float:
        """Return the next number of the rule that works now."""
        return cast("Shot", self._shot).draw()

    async def sleep(self, ms: float) -> None:
        """Let time pass."""
        await self._line.sleep(ms, self._exchange)

    async def hold(self, name: str) -> None:
        """Wait at a gate."""
        exchange = self._exchange
        gate = exchange.sandbox.gates.get(name)
        if gate is None or await self._line.hold(gate, exchange):
            return
        problem = f"gate {name!r} held {exchange.shown} for {gate.limit_s:g} s, and nobody released it"
        exchange.sandbox.complain(f"{problem}; it holds {gate.waiters() or 'nobody else'}")
        exchange.fault, error = "", GatewayTimeout(problem)
        error.fault = cast("Shot", self._shot).rule.name
        raise error

    def refuse(self, error: ApiError, *, status: int | None = None, retry_after: str = "") -> None:
        """Answer with a refusal."""
        name = error.fault = cast("Shot", self._shot).rule.name
        self._exchange.fault = ""  # that of an answer before this one
        error.message = f"{error.message} (the fault {name!r} of fake-credits)"
        answer = self._exchange.refuse(error, status=status)
        if retry_after:
            # A date means something beside the Date of the same clock only.
            date = formatdate(self._exchange.sandbox.clock.now_ms() / 1000, usegmt=True)
            answer.headers += [(b"retry-after", retry_after.encode("ascii")), (b"date", date.encode("ascii"))]

    def answer(self, status: int, body: bytes, media_type: str) -> None:
        """Answer with bytes."""
        cause = f"fault:{cast('Shot', self._shot).rule.name}"
        headers = [(b"x-fake-credits-cause", cause.encode("ascii"))]
        exchange = self._exchange
        exchange.answer = Answer(status, body, headers, media_type.encode("ascii"))
        exchange.refusal, exchange.fault = None, cause

    def edit(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the members of a success's body."""
        answer = self._exchange.answer
        if answer is None or not (200 <= answer.status < 300 and answer.body):
            return
        try:
            members = msgspec.json.decode(answer.body, type=dict[str, Any])
        except msgspec.DecodeError:
            return  # another fault has made a proxy's page of it
        change(members)
        answer.body = msgspec.json.encode(members)

    def name_of(self, member: str) -> str:
        """Return how the contract calls a member."""
        return self._exchange.service.contract.name_of(member)

    def body_size(self) -> int:
        """Return the size of the body."""
        answer = self._exchange.answer
        return 0 if answer is None else len(answer.body)

    def retry_after(self, seconds: float, form: str) -> str:
        """Return the value of Retry-After (RFC 9110, section 10.2.3), rounded up to whole seconds."""
        form = form or self._exchange.service.contract.retry_after
        at_s = min(math.ceil(self._exchange.sandbox.clock.now_ms() / 1000 + seconds), LATEST_MS // 1000)
        forms: Mapping[str, str] = {
            "seconds": str(math.ceil(seconds)),
            "date": formatdate(at_s, usegmt=True),
            "garbage": "soon",
        }
        return forms.get(form, "")

    def leave(self, wire: Wire) -> None:
        """Say how the answer leaves."""
        exchange, shot = self._exchange, cast("Shot", self._shot)
        exchange.wire, exchange.fault = wire, f"fault:{shot.rule.name}"

    def read_as_of(self, *, by_ms: int, by_writes: int) -> None:
        """Read the past, as far back as the rule reaches."""
        bent = self._bent = self._bent or Bent()
        bent.by_ms, bent.by_writes, bent.baseline = by_ms, by_writes, cast("Shot", self._shot).rule.baseline

    def write_again(self) -> None:
        """Apply the write twice."""
        self._writes = 2

    def turn_pages(self, trick: PageTrick) -> None:
        """Play a trick with the cursor."""
        bent = self._bent = self._bent or Bent()
        bent.trick = trick

    def check_credential_at(self, skew_s: int) -> None:
        """Judge the token by a fast clock."""
        self._skew_s = skew_s

    def defer(self, after_ms: int) -> None:
        """Check the write now, and apply it later."""
        exchange = self._exchange
        with exchange.sandbox.lock:
            self._bent = Bent(rehearsal=True)
            self.decide()
            if exchange.refusal is not None:
                cast("Shot", self._shot).take_back()
                exchange.rule, exchange.phase = self._noted_before
                return
            exchange.answer = None
            self.leave(Cut("hang"))
            clock = exchange.sandbox.clock
            clock.schedule(clock.now_ms() + after_ms, self._land, label=exchange.shown, ordinal=exchange.ordinal)
        self._line.remind(after_ms, exchange.sandbox)

    def _land(self) -> None:
        sandbox = self._exchange.sandbox
        try:
            self._operate(None)
            self._repeat()
        except Exception as bug:  # noqa: BLE001 - whoever moved the clock has nothing to do with it
            sandbox.remember(bug)
        self._exchange.record(delivered=False)
