"""One run of an explored test: its calls, their results, and how the test ended."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from fake_credits.contract import Operation
from fake_credits.explore.schedules import CallKey, Schedule, anonymous_id
from fake_credits.journal import JournalEntry

CREATE_TRANSACTION = Operation.CREATE_TRANSACTION.value
_BALANCE_READS = (Operation.GET_BALANCE.value, Operation.LIST_TRANSACTIONS.value)

NetKey = tuple[str, str, int]
"""An application and a user, as in a `CallKey`, and the absolute value of a delta."""


@dataclass(slots=True)
class ObservedCall:
    """A call to the sandbox.

    ``fault`` is the injected fault, and ``has_own_rule`` says whether one of the test's own rules fired for the call.
    ``number`` is the call's position among the application's calls, starting at 1, or 0 for a call made by the test
    itself. ``at_ms`` is the time at which the call arrived.
    """

    ordinal: int
    number: int
    operation: str
    application: str
    user: str
    delta: int | None
    reason: str
    at_ms: int
    client: str = ""
    fault: str = ""
    has_own_rule: bool = False
    retry_after_ms: float = 0
    entry: JournalEntry | None = None
    key: CallKey = field(default_factory=lambda: CallKey(""))

    @property
    def is_write(self) -> bool:
        """Return whether the call is meant to change a balance."""
        return self.operation == CREATE_TRANSACTION and self.delta is not None

    @property
    def is_committed(self) -> bool:
        """Return whether the call changed a balance."""
        return self.is_write and self.entry is not None and self.entry.committed

    @property
    def is_acknowledged(self) -> bool:
        """Return whether the application received a successful response."""
        return self.entry is not None and self.entry.delivered and 200 <= self.entry.status < 300

    @property
    def is_suppressed(self) -> bool:
        """Return whether the call changed a balance and a fault hid this from the application."""
        return bool(self.fault) and self.is_committed and not self.is_acknowledged

    @property
    def shows_balance(self) -> bool:
        """Return whether the call reads the user's balance or history."""
        return self.operation in _BALANCE_READS

    @property
    def is_undisturbed(self) -> bool:
        """Return whether the call received a successful response and was not affected by any fault."""
        return not (self.fault or self.has_own_rule) and self.is_acknowledged

    @property
    def net_key(self) -> NetKey:
        """Return the key that this write shares with the writes that can cancel it out."""
        return self.key.application, self.key.user, abs(self.delta or 0)

    @property
    def request(self) -> CallKey:
        """Return the key without its occurrence, so that identical requests compare equal, even in different runs."""
        return self.key._replace(occurrence=0)


@dataclass(frozen=True, slots=True)
class RunTrace:
    """What a test saw: the lines that ran and their results.

    ``results`` contains the return values and exceptions of the functions that each line called, and the values of
    variables when the test returned.
    """

    lines: frozenset[tuple[str, int]] = frozenset()
    results: frozenset[tuple[str, int, str]] = frozenset()

    def differing_results(self, other: "RunTrace") -> set[tuple[str, int]]:
        """Return the functions and lines where the test got different results in another run."""
        return {(function, line) for function, line, _ in self.results ^ other.results}


@dataclass(slots=True)
class Outcome:
    """How a run ended.

    ``error`` is the error message, and ``failed_in_test`` says whether one of the test's own assertions failed.
    ``trace`` is what the test saw, if it was traced.
    """

    status: Literal["passed", "failed", "skipped", "xfailed"] = "passed"
    error: str = ""
    error_type: str = ""
    failed_in_test: bool = False
    trace: RunTrace = RunTrace()


@dataclass(slots=True)
class Run:
    """One run of a test.

    ``not_met`` is the number of faults in the schedule that had no matching call. ``inspected_after`` is the number of
    calls made before the test last inspected the ledger. ``hang`` says why a command had to be stopped, unless a call
    storm was the reason.
    """

    schedule: Schedule
    calls: list[ObservedCall] = field(default_factory=list[ObservedCall])
    outcome: Outcome = field(default_factory=Outcome)
    not_met: int = 0
    problems: list[str] = field(default_factory=list[str])
    ledger_error: str = ""
    is_storm: bool = False
    hang: str = ""
    was_reset: bool = False
    has_own_rules: bool = False
    inspected_after: int = 0
    balances: Mapping[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    sleeps: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])
    secrets: tuple[str, ...] = ()
    has_sandbox: bool = False
    uses_socket: bool = False

    @property
    def application_calls(self) -> list[ObservedCall]:
        """Return the application's calls in order of arrival."""
        return [call for call in self.calls if call.number]

    def balance_of(self, call: ObservedCall) -> int:
        """Return the final balance of a call's user, whose id may differ if the call is from another run."""
        wanted = call.net_key[:2]
        accounts = {each.net_key[:2]: (each.application, each.user) for each in self.application_calls}
        return self.balances.get(accounts.get(wanted, wanted), 0)

    @property
    def writes(self) -> list[ObservedCall]:
        """Return the application's calls that are meant to change a balance."""
        return [call for call in self.application_calls if call.is_write]

    @property
    def faulted_calls(self) -> list[ObservedCall]:
        """Return the calls into which a fault was injected."""
        return [call for call in self.calls if call.fault]


def count_totals(writes: Iterable[ObservedCall]) -> Counter[tuple[str, str]]:
    """Return, for each application and user, the sum of the committed writes."""
    totals: Counter[tuple[str, str]] = Counter()
    for call in writes:
        if call.is_committed:
            totals[call.net_key[:2]] += call.delta or 0
    return totals


def count_nets(writes: Iterable[ObservedCall]) -> Counter[NetKey]:
    """Return, for each application, user and amount, how many more committed writes add the amount than subtract it."""
    nets: Counter[NetKey] = Counter()
    for call in writes:
        if call.is_committed:
            nets[call.net_key] += 1 if (call.delta or 0) > 0 else -1
    return nets


def common_ids(runs: Sequence[Run]) -> frozenset[str]:
    """Return the user and application ids that occur in every run; all others are treated as random."""
    ids = [{name for call in run.calls for name in (call.application, call.user)} for run in runs]
    return frozenset(set[str].intersection(*ids)) if ids else frozenset()


class KeyAssigner:
    """The assignment of keys to the calls of one run, in order of arrival.

    Ids that are not in ``stable_ids`` are replaced by numbered placeholders, in order of first appearance. If
    ``stable_ids`` is None, all ids are kept.
    """

    def __init__(self, default_application: str, stable_ids: frozenset[str] | None) -> None:
        self._default_application = default_application
        self._stable_ids = stable_ids
        self._anonymous: dict[str, str] = {}
        self._occurrences: Counter[tuple[str, str, str, int | None, str]] = Counter()

    def assign(self, call: ObservedCall) -> None:
        """Set a call's key. A call made by the test itself gets none, but its ids are numbered too."""
        application = "" if call.application == self._default_application else self._name(call.application)
        user = self._name(call.user)
        if call.number:
            base = (call.operation, application, user, call.delta, call.reason)
            self._occurrences[base] += 1
            call.key = CallKey(*base, self._occurrences[base])

    def _name(self, value: str) -> str:
        if not value or self._stable_ids is None or value in self._stable_ids:
            return value
        return self._anonymous.setdefault(value, anonymous_id(len(self._anonymous) + 1))
