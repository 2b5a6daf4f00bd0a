"""The reduction of orders, compared with brute force on small programs that run without an event loop."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_credits.explore.orders import Access, OrderSearch, Step

Operation = tuple[str, str]
Program = Mapping[str, Sequence[Operation]]
"""The operations of each task; a task named `a.1` is started and awaited by the task `a`."""

CHECK_THEN_ACT: Sequence[Operation] = (("read", "ada"), ("write_if_new", "ada"))


@dataclass
class Machine:
    """A run of a program in a given order."""

    program: Program
    steps: list[Step] = field(default_factory=list[Step])
    seen: list[tuple[str, str, int]] = field(default_factory=list[tuple[str, str, int]])

    def __post_init__(self) -> None:
        self.positions = dict.fromkeys(self.program, 0)
        self.histories: dict[str, list[str]] = {}
        self.last_reads: dict[tuple[str, str], int] = {}
        self.last_ids: dict[str, int] = {}
        self.names = {name: number for number, name in enumerate(self.program)}

    def held(self) -> list[str]:
        """Return the tasks whose next exchange can be released."""
        return [name for name in self.program if self._has_started(name) and self._next(name) is not None]

    def _children(self, name: str) -> list[str]:
        return [other for other in self.program if other.startswith(f"{name}.")]

    def _has_started(self, name: str) -> bool:
        if any(self._next(child) is not None for child in self._children(name)):
            return not self.positions[name]  # after its first exchange, it awaits its children
        parent = name.rpartition(".")[0]
        return not parent or self.positions[parent] > 0

    def _next(self, name: str) -> Operation | None:
        operations = self.program[name]
        while self.positions[name] < len(operations):
            kind, user = operations[self.positions[name]]
            if kind != "write_if_new" or not self.last_reads.get((name, user), 0):
                return kind, user
            self.positions[name] += 1
        return None

    def release(self, name: str) -> None:
        """Execute a task's next exchange."""
        operation = self._next(name)
        assert operation is not None
        kind, user = operation
        history = self.histories.setdefault(user, [])
        after = {self.last_ids[other] for other in (name, *self._causes(name)) if other in self.last_ids}
        step_id = 100 * self.names[name] + self.positions[name]
        accesses = [Access("app", user, "read" if kind == "read" else "write")]
        if kind == "create":
            accesses.append(Access("app", "", "add"))
        elif kind == "list":
            accesses = [Access("app", "", "read")]
        self.steps.append(Step(step_id, frozenset(after), frozenset(accesses)))
        if kind == "read":
            self.last_reads[name, user] = len(history)
        elif kind != "list":
            history.append(name)
        created = sum("create" in each for each in self.histories.values()) if kind == "list" else len(history)
        if kind == "create":
            history.append("create")
        self.seen.append((name, f"{self.positions[name]} {kind} {user}", created))
        self.last_ids[name] = step_id
        self.positions[name] += 1

    def _causes(self, name: str) -> list[str]:
        parent = name.rpartition(".")[0]
        is_first = not self.positions[name]
        return [parent] if is_first else self._children(name)

    def outcome(self) -> tuple[object, ...]:
        """Return what the tasks saw and the histories that they left."""
        return tuple(sorted(self.seen)), tuple(sorted((user, tuple(each)) for user, each in self.histories.items()))

    def equivalence_class(self) -> frozenset[object]:
        """Return the order of each pair of exchanges that don't commute; it is the same for equivalent orders."""
        pairs = combinations(self.steps, 2)
        return frozenset([*self.seen, *((a.id, b.id) for a, b in pairs if not a.commutes_with(b))])


def run(program: Program, prefix: Sequence[int]) -> Machine:
    machine = Machine(program)
    for step_id in prefix:
        machine.release(list(program)[step_id // 100])
        assert machine.steps[-1].id == step_id
    while held := machine.held():
        machine.release(held[0])
    return machine


def search(program: Program) -> list[Machine]:
    """Run a program in each order that the search asks for."""
    orders, machines = OrderSearch(), list[Machine]()
    for prefix in orders:
        machine = run(program, prefix)
        assert orders.add(machine.steps), "an order was run twice"
        machines.append(machine)
    return machines


def brute_force(program: Program, names: Sequence[str] = ()) -> Iterator[Machine]:
    machine = Machine(program)
    for name in names:
        machine.release(name)
    held = machine.held()
    if not held:
        yield machine
    for name in held:
        yield from brute_force(program, [*names, name])


def tasks(count: int, operations: Sequence[Operation]) -> dict[str, Sequence[Operation]]:
    return {f"task{number}": operations for number in range(count)}


@pytest.mark.parametrize(("count", "expected"), [(1, 1), (2, 4), (3, 21), (4, 148)])
def test_check_then_act_takes_one_run_for_each_order(count: int, expected: int) -> None:
    assert len(search(tasks(count, CHECK_THEN_ACT))) == expected


def test_buyers_with_their_own_users_take_one_run() -> None:
    assert len(search({f"buyer{user}": (("read", user), ("write_if_new", user)) for user in "abcde"})) == 1


def test_transfers_from_one_account_to_two_others_take_two_runs() -> None:
    program = {"to bob": (("write", "ada"), ("write", "bob")), "to carol": (("write", "ada"), ("write", "carol"))}
    assert len(search(program)) == 2


def test_creating_users_commutes_but_not_with_listing_them() -> None:
    created = {"first": [("create", "bob")], "second": [("create", "carol")]}
    assert len(search(created)) == 1
    assert len(search({**created, "reader": [("list", "")]})) == 4


def test_exchange_after_awaited_tasks_is_ordered_after_theirs() -> None:
    children = {f"main.{user}": [("write", user)] for user in "abcde"}
    assert len(search({"main": [("read", "z"), *(("read", user) for user in "abcde")], **children})) == 1


def test_executed_order_is_not_new() -> None:
    orders = OrderSearch()
    steps = [Step(1), Step(2, frozenset({1}))]
    assert orders.add(steps)
    assert not orders.add(steps)


def programs() -> st.SearchStrategy[Program]:
    kinds = st.sampled_from(["read", "write", "write_if_new", "create", "list"])
    operations = st.lists(st.tuples(kinds, st.sampled_from("ab")), min_size=1, max_size=2)
    names = st.sampled_from([["a", "b"], ["a", "b", "c"], ["a", "a.1", "b"], ["a", "a.1", "a.2"]])
    return names.flatmap(lambda names: st.fixed_dictionaries(dict.fromkeys(names, operations)))


def outcomes(machines: Iterable[Machine]) -> set[object]:
    return {machine.outcome() for machine in machines}


def check_against_brute_force(program: Program) -> None:
    every, found = list(brute_force(program)), search(program)
    assert outcomes(found) == outcomes(every)
    assert len(found) == len({machine.equivalence_class() for machine in every})


@settings(max_examples=40, deadline=None)
@given(program=programs())
def test_outcomes_and_number_of_runs_match_brute_force(program: Program) -> None:
    check_against_brute_force(program)


@pytest.mark.slow
@settings(max_examples=3_000, deadline=None)
@given(program=programs())
def test_outcomes_and_number_of_runs_match_brute_force_for_many_programs(program: Program) -> None:
    check_against_brute_force(program)
