"""The verdict on a run, based mainly on the ledger. Writes made by the test itself don't count."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from fake_credits.explore.options import ExploreOptions
from fake_credits.explore.runs import NetKey, ObservedCall, Run, count_nets, count_totals
from fake_credits.explore.schedules import READS
from fake_credits.text import redact


class Colour(StrEnum):
    """The colour of a verdict: red fails the test, amber fails it only with ``strict``, and grey is inconclusive."""

    RED = "red"
    AMBER = "amber"
    GREEN = "green"
    NOTE = "note"
    GREY = "grey"


class Verdict(StrEnum):
    """The possible verdicts on a run."""

    LEDGER_BROKEN = "ledger invariant broken"
    INVARIANT_BROKEN = "invariant broken"
    RACE = "race"
    FAILED_READ = "failed read mistaken for a failed write"
    CHARGED_TWICE = "charged twice"
    GIVEN_TWICE = "given twice"
    HANG = "hang"
    STORM = "storm"
    KEY_MISUSE = "key misuse"
    FALSE_SUCCESS = "false success"
    PASSES_WITHOUT = "passes without the write"
    UNSETTLED = "unsettled"
    SILENT_REFUSAL = "silent refusal"
    RETRIED_REFUSAL = "retried a refusal"
    RETRY_AFTER = "Retry-After ignored"
    SECRET = "secret in the exception"  # noqa: S105 - not one
    OK = "ok"
    RAISED = "raised"
    ASSERTION = "assertion"
    PARTIAL = "partial"
    UNCONFIRMED = "unconfirmed"
    NOT_MET = "not met"
    SKIPPED = "skipped"


COLOURS: Mapping[Verdict, Colour] = {
    **dict.fromkeys(
        (
            Verdict.LEDGER_BROKEN,
            Verdict.INVARIANT_BROKEN,
            Verdict.RACE,
            Verdict.FAILED_READ,
            Verdict.CHARGED_TWICE,
            Verdict.GIVEN_TWICE,
            Verdict.HANG,
            Verdict.STORM,
            Verdict.KEY_MISUSE,
            Verdict.FALSE_SUCCESS,
        ),
        Colour.RED,
    ),
    **dict.fromkeys(
        (
            Verdict.PASSES_WITHOUT,
            Verdict.UNSETTLED,
            Verdict.SILENT_REFUSAL,
            Verdict.RETRIED_REFUSAL,
            Verdict.RETRY_AFTER,
            Verdict.SECRET,
        ),
        Colour.AMBER,
    ),
    **dict.fromkeys((Verdict.OK, Verdict.RAISED, Verdict.ASSERTION), Colour.GREEN),
    Verdict.PARTIAL: Colour.NOTE,
    Verdict.UNCONFIRMED: Colour.NOTE,
    Verdict.NOT_MET: Colour.GREY,
    Verdict.SKIPPED: Colour.GREY,
}
"""The initial colour of each verdict; some options and faults change it."""


_FINAL_STATUSES = (400, 401, 402, 403, 404)


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on a run, with the ``calls`` concerned and an explanation in ``detail``.

    ``lost_writes`` means that the test passed although the application's writes don't add up to the same totals as in
    the fault-free run. Only further runs can show whether that is a false success.
    """

    verdict: Verdict
    colour: Colour
    calls: tuple[ObservedCall, ...] = ()
    detail: str = ""
    lost_writes: bool = False


def judge(run: Run, reference: Run, options: ExploreOptions) -> Judgement:
    """Return the verdict on a run with faults, based on a comparison with the fault-free run."""
    found = next(_findings(run, reference), None) or _judge_result(run, reference)
    return _recolour(found, run, options)


def _recolour(judgement: Judgement, run: Run, options: ExploreOptions) -> Judgement:
    colour, names = judgement.colour, [fault.name for _, fault in run.schedule]
    if options.kind == "same" and run.outcome.status == "failed" and colour is not Colour.GREY:
        colour = Colour.RED
    if judgement.verdict in (Verdict.STORM, Verdict.HANG) and "down" in names:
        colour = Colour.AMBER
    if "stale" in names and colour in (Colour.RED, Colour.GREEN) and judgement.verdict is not Verdict.OK:
        colour = Colour.RED if any(fault.name == "stale" for fault in options.faults) else Colour.AMBER
    colour = apply_strictness(colour, options)
    return Judgement(judgement.verdict, colour, judgement.calls, judgement.detail, judgement.lost_writes)


def apply_strictness(colour: Colour, options: ExploreOptions) -> Colour:
    """Return the colour, or red if it is amber and the ``strict`` option is set."""
    return Colour.RED if options.strict and colour is Colour.AMBER else colour


def _new(verdict: Verdict, calls: Sequence[ObservedCall] = (), detail: str = "") -> Judgement:
    return Judgement(verdict, COLOURS[verdict], tuple(calls), detail)


def _findings(run: Run, reference: Run) -> Iterator[Judgement]:
    """Yield a judgement for each problem found in a run, in order of precedence."""
    if run.ledger_error:
        yield _new(Verdict.LEDGER_BROKEN, detail=run.ledger_error)
    hangs = [run.hang] if run.hang else [problem for problem in run.problems if "would hang forever" in problem]
    if hangs:
        yield _new(Verdict.HANG, run.faulted_calls, hangs[0])
    if run.not_met:
        yield _new(Verdict.NOT_MET, detail=f"faults without a matching call: {run.not_met} of {len(run.schedule)}")
    yield from _repeated_writes(run, reference)
    if run.is_storm:
        yield _new(Verdict.STORM, detail=f"{len(run.application_calls)} calls")
    yield from _broken_invariants(run)
    yield from _misused_keys(run, reference)
    if run.outcome.status in ("skipped", "xfailed"):
        yield _new(Verdict.SKIPPED, detail=run.outcome.error)
    yield from _warnings(run, reference)


def _broken_invariants(run: Run) -> Iterator[Judgement]:
    violations = [problem for problem in run.problems if problem.startswith("invariant ")]
    if violations:
        yield _new(Verdict.INVARIANT_BROKEN, detail=violations[0])


def judge_order(run: Run) -> Judgement:
    """Return the verdict on a fault-free run whose concurrent calls were made in a different order."""
    if run.ledger_error:
        return _new(Verdict.LEDGER_BROKEN, detail=run.ledger_error)
    verdicts = {"passed": Verdict.OK, "failed": Verdict.RACE}
    return next(_broken_invariants(run), None) or _new(verdicts.get(run.outcome.status, Verdict.SKIPPED))


def _warnings(run: Run, reference: Run) -> Iterator[Judgement]:
    """Yield a judgement for each bug that cost no credits, unless the verdict on the run's result is already amber."""
    result = _judge_result(run, reference)
    if result.colour is Colour.AMBER:
        return
    is_exposed = any(redact(run.outcome.error, secret) != run.outcome.error for secret in run.secrets)
    if is_exposed and not run.outcome.failed_in_test:  # pytest may show any object in a test's assertion message
        yield _new(Verdict.SECRET, detail=run.outcome.error_type)
    refusals = _retried_refusals(run)
    if refusals and not _retried_refusals(reference):
        yield _new(Verdict.RETRIED_REFUSAL, refusals[0])
    for first, second in _repeated_requests(run):
        wait_ms = first.retry_after_ms
        if wait_ms and second.at_ms - first.at_ms < wait_ms:
            waited_s = (second.at_ms - first.at_ms) / 1000
            detail = f"the retry came {waited_s:g} s later, but Retry-After was {wait_ms / 1000:g} s"
            yield _new(Verdict.RETRY_AFTER, (first, second), detail)


def _retried_refusals(run: Run) -> list[tuple[ObservedCall, ObservedCall]]:
    return [
        (first, second)
        for first, second in _repeated_requests(run)
        if first.is_write and first.entry is not None and first.entry.status in _FINAL_STATUSES
    ]


def _repeated_requests(run: Run) -> Iterator[tuple[ObservedCall, ObservedCall]]:
    """Yield each call together with the next call that sends the same request."""
    previous: dict[object, ObservedCall] = {}
    for call in run.application_calls:
        if call.request in previous:
            yield previous[call.request], call
        previous[call.request] = call


# ------------------------------------------------------------ money


def _repeated_writes(run: Run, reference: Run) -> Iterator[Judgement]:
    nets, expected_nets = count_nets(run.writes), count_nets(reference.writes)
    for key in nets:
        if _is_compensated(key, run, reference):
            continue
        net, expected = nets[key], expected_nets[key]
        charges, expected_charges = _committed(run, key, -1), _committed(reference, key, -1)
        gifts, expected_gifts = _committed(run, key, 1), _committed(reference, key, 1)
        if net < min(0, expected) and len(charges) > len(expected_charges):
            yield _money_finding(Verdict.CHARGED_TWICE, charges, run)
        elif net > max(0, expected) and len(gifts) > len(expected_gifts):
            yield _money_finding(Verdict.GIVEN_TWICE, gifts, run)


def _is_compensated(key: NetKey, run: Run, reference: Run) -> bool:
    """Return whether extra writes, of any amount, have corrected a user's account.

    Extra writes are those that are not in the reference run. An account is correct if its writes add up to zero or to
    their sum in the reference run. It also counts as correct if the writes of all users together add up to their sum in
    the reference run, because credits may have been moved between users.
    """
    expected_writes = {(call.net_key, call.delta) for call in reference.writes if call.is_committed}
    new_writes = [
        call for call in run.writes if call.is_committed and (call.net_key, call.delta) not in expected_writes
    ]
    if not any(call.net_key[:2] == key[:2] for call in new_writes):
        return False
    totals, expected_totals = count_totals(run.writes), count_totals(reference.writes)
    return totals[key[:2]] in (0, expected_totals[key[:2]]) or totals.total() == expected_totals.total()


def _committed(run: Run, key: NetKey, sign: int) -> list[ObservedCall]:
    return [call for call in run.writes if call.is_committed and call.net_key == key and (call.delta or 0) * sign > 0]


def _money_finding(verdict: Verdict, writes: Sequence[ObservedCall], run: Run) -> Judgement:
    reads = [call for call in run.faulted_calls[1:] if call.operation in READS]
    return _new(Verdict.FAILED_READ, (*writes, *reads), verdict.value) if reads else _new(verdict, writes)


def _misused_keys(run: Run, reference: Run) -> Iterator[Judgement]:
    by_key: defaultdict[str, list[ObservedCall]] = defaultdict(list)
    for call in run.writes:
        if call.entry is not None and call.entry.idempotency_key:
            by_key[call.entry.idempotency_key].append(call)
    for calls in by_key.values():
        if len({call.request for call in calls}) > 1:
            yield _new(Verdict.KEY_MISUSE, calls, "one Idempotency-Key for two different writes")
    keys, expected = _keys_by_request(run), _keys_by_request(reference)
    for request, used in keys.items():
        if len(used) > max(1, len(expected.get(request, ()))) and any(call.fault for call in used.values()):
            yield _new(Verdict.KEY_MISUSE, tuple(used.values()), "a new Idempotency-Key for a retry of the same write")


def _keys_by_request(run: Run) -> dict[object, dict[str, ObservedCall]]:
    """Map each write request to its idempotency keys, and each key to the first call that sent it."""
    keys: dict[object, dict[str, ObservedCall]] = {}
    for call in run.writes:
        if call.entry is not None and call.entry.idempotency_key:
            keys.setdefault(call.request, {}).setdefault(call.entry.idempotency_key, call)
    return keys


# ------------------------------------------------------------ how the test ended


def _judge_result(run: Run, reference: Run) -> Judgement:
    nets, expected = count_nets(run.writes), count_nets(reference.writes)
    if run.outcome.status != "failed":
        is_lost = count_totals(run.writes) != count_totals(reference.writes)
        return Judgement(Verdict.OK, Colour.GREEN, lost_writes=is_lost)
    remaining = remaining_writes(run)
    if unsettled := _unsettled(remaining, run):
        return unsettled
    is_complete = _nonzero(nets) == _nonzero(expected)
    if remaining and not is_complete:
        return _new(Verdict.PARTIAL, remaining)
    if run.outcome.failed_in_test:
        is_silent = not remaining and bool(expected) and _has_inspected(run)
        return _new(Verdict.SILENT_REFUSAL if is_silent else Verdict.ASSERTION)
    return _new(Verdict.RAISED)


def _unsettled(remaining: Sequence[ObservedCall], run: Run) -> Judgement | None:
    """Return a judgement if a committed write's response was lost and the application never learned of the commit."""
    lost_writes = [call for call in remaining if call.is_suppressed]
    if unread := [call for call in lost_writes if not _later_reads(call, run)]:
        return _new(Verdict.UNSETTLED, unread)
    unconfirmed = [call for call in lost_writes if not any(read.is_undisturbed for read in _later_reads(call, run))]
    detail = "the application tried to look up the write, but that read failed too"
    return _new(Verdict.UNCONFIRMED, unconfirmed, detail) if unconfirmed else None


def remaining_writes(run: Run) -> list[ObservedCall]:
    """Return the committed writes, omitting each pair in which the later write reverses the earlier one."""
    remaining: list[ObservedCall] = []
    for call in run.writes:
        if not call.is_committed:
            continue
        opposite = (call.net_key, -(call.delta or 0))
        reversed_call = next((other for other in remaining if (other.net_key, other.delta) == opposite), None)
        if reversed_call is None:
            remaining.append(call)
        else:
            remaining.remove(reversed_call)
    return remaining


def _nonzero(nets: Counter[NetKey]) -> dict[NetKey, int]:
    return {key: net for key, net in nets.items() if net}


def _later_reads(write: ObservedCall, run: Run) -> list[ObservedCall]:
    """Return all reads of the user's balance or history after a write, including failed ones."""
    later = run.application_calls[write.number :]
    account = write.application, write.user
    return [call for call in later if call.shows_balance and (call.application, call.user) == account]


def _has_inspected(run: Run) -> bool:
    """Return whether the test inspected the ledger after the application's last call."""
    last = max((position for position, call in enumerate(run.calls, start=1) if call.number), default=0)
    own_reads = any(not call.number and call.operation in READS for call in run.calls[last:])
    return own_reads or run.inspected_after >= max(last, 1)
