"""The exploration of one test: its fault-free runs, the runs with faults and their verdicts, and what was not tried.

An exploration runs nothing itself. `Exploration.runs` yields a `Recorder` for each run; the caller attaches the
recorder to a fresh sandbox, runs the test and records the outcome before asking for the next recorder.
"""

import math
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from types import CodeType

from fake_credits.clock import monotonic_s
from fake_credits.explore.judge import COLOURS, Colour, Judgement, Verdict, apply_strictness, judge, judge_order
from fake_credits.explore.loop_tasks import unshuffled_trio
from fake_credits.explore.options import ExploreOptions
from fake_credits.explore.order_scheduler import GatePlan, OrderScheduler
from fake_credits.explore.orders import OrderSearch, StepIds
from fake_credits.explore.ownership import TestCode
from fake_credits.explore.planning import Plan
from fake_credits.explore.recorder import MIN_STORM_CALLS, Recorder
from fake_credits.explore.runs import KeyAssigner, Run, common_ids, count_nets
from fake_credits.explore.schedules import (
    FAULTS,
    UNSENT_TWINS,
    CallKey,
    Injection,
    Schedule,
    ScheduleError,
    format_schedule,
    parse_schedule,
)
from fake_credits.text import pluralize

OWN_FAULTS_REASON = "it declares its own faults, gates or latency"
"""The reason for not exploring a test that injects its own faults, unless its marker requests exploration."""

_STORM_FACTOR = 5


@dataclass(frozen=True, slots=True)
class JudgedRun:
    """A run and its verdict.

    ``text`` is the run's schedule or the name of its order. ``gate_plan`` says how to reproduce a red order.
    """

    run: Run
    judgement: Judgement
    text: str
    gate_plan: GatePlan | None = None


@dataclass(frozen=True, slots=True)
class ExploredCommand:
    """A command that is explored instead of a test, and the `fake-credits explore` flags to rerun it with."""

    arguments: tuple[str, ...]
    flags: tuple[str, ...] = ()

    def replay(self, schedule: str) -> str:
        """Return the command line that reruns the command under a schedule."""
        return shlex.join(["fake-credits", "explore", *self.flags, "--schedule", schedule, "--", *self.arguments])


class Exploration:
    """The exploration of the test called ``name``.

    ``skip_reason`` says why the test can't be explored, or is empty; it may be set before the first run. ``error`` says
    what is wrong with the requested schedules, or is empty. ``command``, if set, is explored instead of a test.
    ``notes`` are added to the report. ``untried`` counts the schedules and orders that were not run, by reason.
    ``orders`` are the fault-free runs with calls in different orders, and ``diverged_count`` is the number of runs that
    lacked a planned call because the test varies from run to run. ``leaks`` means that the final fault-free run failed,
    so the findings are unreliable. In a replay, the final run repeats the last requested schedule. ``code`` is the code
    object of the test or, if ``is_loop``, of the function whose ``for`` loop is explored. If ``keeps_exchanges`` is
    true, the calls made in every run are kept for the report, not only those that findings need.
    """

    def __init__(self, name: str, options: ExploreOptions, test_code: TestCode) -> None:
        self.name = name
        self.options = options
        self.skip_reason = ""
        self.error = ""
        self.command: ExploredCommand | None = None
        self.notes: list[str] = []
        self.is_replay = False
        self.is_loop = False
        self.code: CodeType | None = None
        self.keeps_exchanges = True
        self.leaks = False
        self.results: list[JudgedRun] = []
        self.orders: list[JudgedRun] = []
        self.diverged_count = 0
        self.untried: dict[str, int] = {}
        self.duration_s = 0.0
        self.sleeps: list[tuple[float, str]] = []
        self.reference = Run(())
        self._test_code = test_code
        self._stable_ids: frozenset[str] = frozenset()
        self._default_application = ""
        self._started_s = 0.0
        self._running_count = 0
        self._plan: Plan | None = None
        self._search: OrderSearch | None = None

    def __repr__(self) -> str:
        return f"<Exploration of {self.name}: schedules={len(self.results)}>"

    @property
    def red(self) -> list[JudgedRun]:
        """Return the runs whose verdicts fail the test."""
        results = [] if self.leaks else [*self.results, *self.orders]
        return [each for each in results if each.judgement.colour is Colour.RED]

    @property
    def numbers(self) -> dict[CallKey, int]:
        """Return each application call's number in the first fault-free run, by key."""
        return {call.key: call.number for call in self.reference.application_calls}

    @property
    def remaining(self) -> int:
        """Return how many planned schedules and orders are running or still to be run within the budget."""
        planned = self._running_count + len(self._plan or ()) + len(self._search or ())
        return min(planned, self.options.budget - len(self.results) - len(self.orders))

    def describe_progress(self, elapsed_s: float | None = None) -> str:
        """Return the progress as text, such as ``3 of 10 runs, 12 s left``.

        The estimate is omitted if ``elapsed_s``, the time so far in seconds, is None, or if no run is done yet.
        """
        done, remaining = len(self.results) + len(self.orders), self.remaining
        left = f", {elapsed_s / done * remaining:.0f} s left" if done and elapsed_s is not None else ""
        return f"{done} of {pluralize(done + remaining, 'run')}{left}"

    def runs(self) -> Iterator[Recorder]:
        """Yield a recorder for each run; the last run is fault-free, except in a replay."""
        for batch in self.batches(1):
            yield from batch

    def batches(self, size: int) -> Iterator[list[Recorder]]:
        """Yield the recorders of `runs` in batches of up to ``size`` runs that may be executed concurrently.

        The size affects neither which schedules are run nor their order.
        """
        self._started_s = monotonic_s()
        if not self.skip_reason:
            for reference in self._reference_runs():
                yield [reference]
        if not self.skip_reason:
            try:
                yield from self._fault_runs(size)
                for recorder in chain(self._confirm_false_successes(), self._order_runs()):
                    yield [recorder]
            except ScheduleError as error:
                self.error = str(error)
        final = self._new_recorder(self.results[-1].run.schedule if self.is_replay and self.results else ())
        final.is_final = True
        yield [final]
        if self.results + self.orders and not self.is_replay and final.run.outcome.status != "passed":
            self.leaks = True
        self.duration_s = monotonic_s() - self._started_s

    # ------------------------------------------------------------ the runs without faults

    def _reference_runs(self) -> Iterator[Recorder]:
        runs: list[Run] = []
        for _ in range(2):
            recorder = Recorder((), self._test_code)
            yield recorder
            runs.append(recorder.run)
            self.skip_reason = self.skip_reason or _reason_to_skip(recorder.run, is_required=self.options.is_required)
            if self.skip_reason:
                return
            if recorder.sandbox is not None:
                self._default_application = recorder.sandbox.options.application_id
        self.reference, self._stable_ids = runs[0], common_ids(runs)
        for run in runs:
            assigner = KeyAssigner(self._default_application, self._stable_ids)
            for call in run.calls:
                assigner.assign(call)
        if _nets_by_amount(runs[0]) != _nets_by_amount(runs[1]):
            self.skip_reason = "two fault-free runs wrote different transactions"

    # ------------------------------------------------------------ the runs with faults

    def _fault_runs(self, size: int) -> Iterator[list[Recorder]]:
        for schedules in self._schedules(size):
            recorders = [self._new_recorder(schedule) for schedule in schedules]
            self._running_count = len(recorders)
            yield recorders
            self._running_count = 0
            for recorder in recorders:
                judgement = judge(recorder.run, self.reference, self.options)
                self.results.append(JudgedRun(recorder.run, judgement, recorder.label))

    def _schedules(self, size: int) -> Iterator[list[Schedule]]:
        if self.options.schedules:
            for schedule in [self._resolve(text) for text in self.options.schedules]:
                yield [schedule]
            return
        plan = self._plan = Plan(self.options, self.reference, over_socket=self.reference.uses_socket)
        if not len(plan) and not self.options.orders:
            self.skip_reason = "no fault applies to its calls"
        while len(plan):
            if limit := self._reached_limit():
                self._count_untried(f"{limit} was reached", len(plan))
                break
            batch = plan.take(min(size, self.options.budget - len(self.results)))
            yield batch
            for judged in self.results[-len(batch) :]:
                if judged.judgement.colour is not Colour.RED:
                    plan.expand(judged.run, self.reference)
                if not (self.keeps_exchanges or _is_shown(judged)):
                    judged.run.calls.clear()
        self._count_untried("faults at identical calls other than the first, second and last", plan.pruned_count)
        self._count_untried("further faults after the application reacted as in an earlier run", plan.repeated_count)
        self._count_untried(
            "faults that withhold the response, because waiting for timeouts takes real time", plan.real_time_count
        )

    def _reached_limit(self) -> str:
        if len(self.results) + len(self.orders) >= self.options.budget:
            return f"the budget of {pluralize(self.options.budget, 'schedule')}"
        is_late = monotonic_s() - self._started_s > self.options.seconds
        return f"the time limit of {self.options.seconds:g} s" if is_late else ""

    def _count_untried(self, reason: str, count: int) -> None:
        if count:
            self.untried[reason] = self.untried.get(reason, 0) + count

    def _resolve(self, text: str) -> Schedule:
        calls = self.reference.application_calls
        subject = "the test" if self.command is None else "the command"
        schedule: list[Injection] = []
        for call, fault in parse_schedule(text):
            key = call
            if isinstance(call, int):
                if call > len(calls):
                    made = pluralize(len(calls), "call")
                    raise ScheduleError(f"schedule {text!r} names call {call}, but {subject} makes {made}")
                key = calls[call - 1].key
            elif not schedule and not any(call.matches(each.key) for each in calls):
                raise ScheduleError(f"schedule {text!r} names the call {call}, which {subject} does not make")
            if isinstance(key, CallKey) and not fault.applies_to(key.operation):
                raise ScheduleError(f"schedule {text!r}: {fault.name} does not apply to {key.operation}")
            schedule.append(Injection(key, fault))
        return tuple(schedule)

    def _new_recorder(self, schedule: Schedule, scheduler: OrderScheduler | None = None) -> Recorder:
        expected_calls = len(self.reference.application_calls)
        return Recorder(
            schedule,
            self._test_code,
            stable_ids=self._stable_ids,
            max_calls=max(MIN_STORM_CALLS, _STORM_FACTOR * expected_calls) if schedule or scheduler else math.inf,
            label=f"order {len(self.orders) + 1}" if scheduler else format_schedule(schedule, self.numbers),
            scheduler=scheduler,
        )

    # ------------------------------------------------------------ the runs in other orders

    def _order_runs(self) -> Iterator[Recorder]:
        if self.is_replay or not self.options.orders:
            return
        search, ids = OrderSearch(), StepIds()
        self._search = search
        for prefix in search:
            if limit := self._reached_limit():
                self._count_untried(f"known orders still pending when {limit} was reached", 1 + len(search))
                break
            scheduler = OrderScheduler(prefix, ids)
            recorder = self._new_recorder((), scheduler)
            with unshuffled_trio():
                yield recorder
            judgement, is_new = judge_order(recorder.run), search.add(scheduler.steps)
            self.diverged_count += scheduler.diverged
            is_red = judgement.colour is Colour.RED
            if is_new or is_red:
                gate_plan = scheduler.gate_plan() if is_red else None
                self.orders.append(JudgedRun(recorder.run, judgement, recorder.label, gate_plan))
            scheduler.close()
            if not self.keeps_exchanges and not is_red:
                recorder.run.calls.clear()
            if not scheduler.released and not self.results:
                self.skip_reason = "it makes no in-process calls from an event loop"

    # ------------------------------------------------------------ false successes

    def _confirm_false_successes(self) -> Iterator[Recorder]:
        """Rerun the schedules under which the test passed despite a missing write, to identify false successes."""
        suspects = [index for index, each in enumerate(self.results) if each.judgement.lost_writes]
        if not suspects:
            return
        outage = self._new_recorder((Injection(self.reference.application_calls[0].key, FAULTS["down"]),))
        yield outage
        schedules = (), (), *(self.results[index].run.schedule for index in suspects)
        recorders = [self._new_recorder(schedule) for schedule in schedules]
        if self.command is None:
            for recorder in recorders:
                recorder.traces_test = True
                yield recorder
        expected, other, *traces = (recorder.run.outcome.trace for recorder in recorders)
        random_results = expected.differing_results(other)
        for index, trace in zip(suspects, traces, strict=True):
            judged = self.results[index]
            verdict = Verdict.OK
            if trace.lines == expected.lines:
                if outage.run.outcome.status != "failed":
                    verdict = Verdict.PASSES_WITHOUT
                elif expected.differing_results(trace) <= random_results:
                    verdict = Verdict.FALSE_SUCCESS
            calls = tuple(judged.run.faulted_calls)
            self.results[index] = replace(judged, judgement=Judgement(verdict, self._colour_of(verdict), calls))

    def _colour_of(self, verdict: Verdict) -> Colour:
        """Return the colour of a rerun's verdict.

        For a command, problems are amber, because a command can't be traced and may have handled the failure correctly.
        """
        colour = COLOURS[verdict] if self.command is None or verdict is Verdict.OK else Colour.AMBER
        return apply_strictness(colour, self.options)


def _is_shown(judged: JudgedRun) -> bool:
    """Return whether a run's calls may be needed later, for a finding or for comparison with a lost-response run."""
    if judged.judgement.colour in (Colour.RED, Colour.AMBER) or judged.judgement.lost_writes:
        return True
    return len(judged.run.schedule) == 1 and judged.run.schedule[0].fault.name in UNSENT_TWINS.values()


def _nets_by_amount(run: Run) -> list[tuple[int, int]]:
    """Return sorted (amount, net writes) pairs, without the application and user ids, which may be random."""
    return sorted((amount, net) for (_, _, amount), net in count_nets(run.writes).items())


def _reason_to_skip(run: Run, *, is_required: bool) -> str:
    """Return why the test can't be explored, judging by a fault-free run, or an empty string if it can."""
    if run.outcome.status in ("skipped", "xfailed"):
        return "it is skipped" if run.outcome.status == "skipped" else "it is expected to fail"
    if run.outcome.status == "failed":
        return "it fails even without a fault"
    if not run.has_sandbox:
        return "its sandbox is not from the fixture, or outlives the test"
    if run.was_reset:
        return "it resets its sandbox"
    if run.has_own_rules and not is_required:
        return OWN_FAULTS_REASON
    if not run.calls:
        return "it makes no calls"
    return "" if run.application_calls else "only the test itself makes calls"
