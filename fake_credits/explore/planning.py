"""The selection and order of the schedules to run."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from heapq import heappop, heappush

from fake_credits.contract import Operation
from fake_credits.explore.options import DEFAULT_FAULTS, ExploreOptions
from fake_credits.explore.runs import ObservedCall, Run
from fake_credits.explore.schedules import FAULTS, WRITES, CallFault, CallKey, Injection, Schedule, parse_fault
from fake_credits.faults.declarations import catalogue

_DANGER = {name: rank for rank, name in enumerate(("lost_after", "unreadable", "refused", "lost_before"))}
_OTHER_DANGER = len(_DANGER)
_LATE_FAULTS = ("silent", "silent_after", "down", "stale")
_SECOND_FAULTS = ("refused", "lost_before", "lost_after", "unreadable")
_MAX_TRIED_OCCURRENCES = 3


class Plan:
    """The schedules still to be run: shorter ones first and, among equally long ones, more dangerous ones first.

    Three counts say how many were omitted: ``pruned_count`` because other occurrences of the same call are tried,
    ``repeated_count`` because the application reacted to the earlier faults as in another run, and ``real_time_count``
    because they would take real time.
    """

    def __init__(self, options: ExploreOptions, reference: Run, *, over_socket: bool = False) -> None:
        self._options = options
        self._queue: list[tuple[tuple[int, ...], int, Schedule]] = []
        self._planned: set[tuple[tuple[CallKey | int, str], ...]] = set()
        self._reactions: set[tuple[object, ...]] = set()
        self.pruned_count = 0
        self.repeated_count = 0
        self.real_time_count = 0
        self._over_socket = over_socket
        calls = reference.application_calls
        tried = set(_tried_calls(calls))
        first_write = next((call.key for call in calls if call.operation in WRITES), None)
        for position, call in enumerate(calls):
            for fault in self._faults_at(call, is_first=position == 0, is_first_write=call.key == first_write):
                if call.key not in tried:
                    self.pruned_count += 1
                else:
                    self._add(((call, fault),), position)

    def __len__(self) -> int:
        return len(self._queue)

    def take(self, count: int) -> list[Schedule]:
        """Remove and return up to ``count`` schedules that don't depend on each other's results."""
        batch: list[Schedule] = []
        depth = len(self._queue[0][2]) if self._queue else 0
        while self._queue and len(batch) < count and len(self._queue[0][2]) == depth:
            batch.append(heappop(self._queue)[2])
        return batch

    def _faults_at(self, call: ObservedCall, *, is_first: bool, is_first_write: bool) -> Iterator[CallFault]:
        if call.has_own_rule or (self._options.kind == "writes" and call.operation not in WRITES):
            return
        faults = _catalogue_of(call) if self._options.kind == "all" else self._options.faults
        is_tried = {"silent": is_first, "silent_after": is_first_write}
        for fault in faults:
            if not fault.applies_to(call.operation) or not is_tried.get(fault.name, True):
                continue
            if self._over_socket and self._options.faults == DEFAULT_FAULTS and fault.name.startswith("silent"):
                self.real_time_count += 1
            else:
                yield fault

    def _add(self, injections: Sequence[tuple[ObservedCall, CallFault]], position: int) -> None:
        call, fault = injections[-1]
        schedule = tuple(Injection(call.key, fault) for call, fault in injections)
        identity = tuple((injection.call, injection.fault.name) for injection in schedule)
        if identity in self._planned:
            return
        self._planned.add(identity)
        danger = _DANGER.get(fault.name, _OTHER_DANGER + (fault.name in _LATE_FAULTS))
        rank = (len(schedule), call.operation not in WRITES, danger, position, len(self._planned))
        heappush(self._queue, (rank, len(self._planned), schedule))

    def expand(self, run: Run, reference: Run) -> None:
        """Plan further faults at the calls that the loss of a committed write's response may have triggered."""
        if len(run.schedule) >= self._options.depth or not _can_be_expanded(run):
            return
        fault_by_name = {fault.name: fault for _, fault in run.schedule}
        injections = [(call, fault_by_name[call.fault]) for call in run.faulted_calls]
        candidates = list(_second_faults(run, reference))
        reaction = run.schedule[0].call, tuple(call.request for call in run.application_calls), run.outcome.error_type
        if reaction in self._reactions:
            self.repeated_count += len(candidates)
            return
        self._reactions.add(reaction)
        for candidate in candidates:
            self._add([*injections, candidate], candidate[0].number)


def _can_be_expanded(run: Run) -> bool:
    """Return whether all faults were injected, none is lasting or ``stale``, and at least one hid a committed write."""
    if any(fault.lasts or fault.name == "stale" for _, fault in run.schedule):
        return False
    return len(run.faulted_calls) == len(run.schedule) and any(call.is_suppressed for call in run.faulted_calls)


def _second_faults(run: Run, reference: Run) -> Iterator[tuple[ObservedCall, CallFault]]:
    for call in triggered_calls(run, reference):
        for fault in map(FAULTS.__getitem__, _SECOND_FAULTS):
            if fault.applies_to(call.operation) and not call.has_own_rule:
                yield call, fault


def triggered_calls(run: Run, reference: Run) -> list[ObservedCall]:
    """Return the calls that follow the last fault and are absent from the fault-free run.

    The reads of the two runs are compared backwards from the end. If the test failed, all later reads are returned,
    because the fault may have triggered any of them.
    """
    faulted = run.faulted_calls
    expected_calls = reference.application_calls
    expected_writes = {call.key for call in expected_calls if call.operation in WRITES}
    later = [call for call in run.application_calls[faulted[-1].number :] if call.key not in expected_writes]
    if run.outcome.status != "passed":
        return later
    first_number = next((call.number for call in expected_calls if call.key == faulted[0].key), 0)
    expected = [call.request for call in expected_calls[first_number:] if call.operation not in WRITES]
    while later and expected and later[-1].request == expected[-1]:
        later.pop()
        expected.pop()
    return later


def _tried_calls(calls: Sequence[ObservedCall]) -> Iterator[CallKey]:
    """Yield the keys of the calls to inject faults at: of identical calls, only the first, the second and the last."""
    groups: defaultdict[CallKey, list[CallKey]] = defaultdict(list)
    for call in calls:
        groups[call.key._replace(occurrence=0)].append(call.key)
    for keys in groups.values():
        yield from (keys if len(keys) <= _MAX_TRIED_OCCURRENCES else [*keys[:2], keys[-1]])


def _catalogue_of(call: ObservedCall) -> Iterator[CallFault]:
    """Yield a fault for each effect that applies to a call, except rate limits, which need several calls."""
    for rule in catalogue(Operation(call.operation).value):
        effect = rule.effect
        if effect is not None and not effect.counts_passes and effect.only_client in ("", call.client):
            yield parse_fault(replace(rule, operation="*", client="", optional=False))
