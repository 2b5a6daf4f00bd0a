"""Which schedules are run, and in which order."""

import contextlib
import itertools
from collections.abc import Callable

import pytest

from fake_credits import FakeCredits
from fake_credits.client.server import ServerClient
from fake_credits.errors import TransportFailure, Unavailable
from fake_credits.explore import exploration as exploration_module
from fake_credits.explore.judge import Colour
from fake_credits.explore.options import ExploreOptions
from fake_credits.explore.schedules import FAULTS, WRITES
from tests.explore.applications import (
    APP,
    FAILED,
    charge,
    checkout,
    deltas,
    give,
    read_before_retry,
)
from tests.explore.conftest import Explore, verdicts

Test = Callable[[FakeCredits], None]


def check_out(credits: FakeCredits) -> None:
    checkout(credits.server_client)


def test_each_default_fault_is_injected_once_at_each_call_it_applies_to(explore: Explore) -> None:
    found = set(verdicts(explore(check_out)))
    every = {f"{number}:{name}" for number in (1, 2, 3) for name in ("refused", "lost_before", "unreadable", "down")}
    assert found == every | {"2:lost_after", "1:silent", "2:silent_after"}


def test_dangerous_schedules_come_first_and_reads_last(explore: Explore) -> None:
    texts = [judged.text for judged in explore(check_out).results]
    assert texts[:6] == ["2:lost_after", "2:unreadable", "2:refused", "2:lost_before", "2:silent_after", "2:down"]
    assert all(text[0] in "13" for text in texts[6:])


def test_order_is_deterministic(explore: Explore) -> None:
    def test(credits: FakeCredits) -> None:
        read_before_retry(credits.server_client)

    first, second = (explore(test) for _ in range(2))
    assert list(verdicts(first).items()) == list(verdicts(second).items())


@pytest.mark.parametrize("budget", [200, 4])
def test_batch_size_does_not_change_the_schedules(explore: Explore, budget: int) -> None:
    def test(credits: FakeCredits) -> None:
        read_before_retry(credits.server_client)

    options = {"depth": 3, "budget": budget}
    one, several = explore(test, options), explore(test, options, batch_size=5)
    assert list(verdicts(several).items()) == list(verdicts(one).items())
    assert several.untried == one.untried


def test_only_first_second_and_last_of_identical_calls_are_tried(explore: Explore) -> None:
    def read_often(api: ServerClient) -> None:
        for _ in range(5):
            api.get_balance(APP, "ada")

    def test(credits: FakeCredits) -> None:
        read_often(credits.server_client)

    exploration = explore(test, ["refused"])
    assert set(verdicts(exploration)) == {"1:refused", "2:refused", "5:refused"}
    assert exploration.untried == {"faults at identical calls other than the first, second and last": 2}


def test_outage_affects_its_call_and_all_later_ones(explore: Explore) -> None:
    def read_all(api: ServerClient) -> int:
        failed = 0
        for read in (api.get_balance, api.get_user, api.list_transactions):
            try:
                read(APP, "ada")
            except FAILED:
                failed += 1
        return failed

    def test(credits: FakeCredits) -> None:
        assert read_all(credits.server_client) == 0

    exploration = explore(test, ["down"])
    faults = {judged.text: [call.fault for call in judged.run.calls] for judged in exploration.results}
    assert faults == {
        "1:down": ["down", "down", "down"],
        "2:down": ["", "down", "down"],
        "3:down": ["", "", "down"],
    }


def second_faults(explore: Explore, test: Test, explored: object = True) -> set[str]:
    return {judged.text for judged in explore(test, explored).results if len(judged.run.schedule) > 1}


def test_second_fault_hits_what_a_lost_committed_write_triggers(explore: Explore) -> None:
    def test(credits: FakeCredits) -> None:
        read_before_retry(credits.server_client)

    read_again = "listTransactions ada #2"
    faults = ("refused", "lost_before", "unreadable")
    assert second_faults(explore, test) == {f"2:lost_after+{read_again}:{fault}" for fault in faults}
    assert second_faults(explore, test, {"depth": 1}) == set()


def test_no_second_fault_follows_a_red_verdict(explore: Explore) -> None:
    def retry(api: ServerClient) -> None:
        for _ in range(3):
            try:
                charge(api)
                break
            except TransportFailure:
                continue

    def test(credits: FakeCredits) -> None:
        retry(credits.server_client)

    exploration = explore(test)
    assert exploration.red
    assert second_faults(explore, test) == set()


@pytest.mark.parametrize("fault", ["down", "stale", "refused", "lost_before"])
def test_no_second_fault_follows_a_lasting_fault_or_one_that_commits_nothing(explore: Explore, fault: str) -> None:
    def test(credits: FakeCredits) -> None:
        read_before_retry(credits.server_client)

    assert second_faults(explore, test, [fault]) == set()


def test_third_fault_needs_depth_3(explore: Explore) -> None:
    def reconcile(api: ServerClient) -> None:
        before = len(deltas(api))
        try:
            return charge(api)
        except TransportFailure:
            for _ in range(4):
                try:
                    if len(deltas(api)) > before:
                        give(api, 10, "refund")
                    return None
                except FAILED:
                    continue

    def test(credits: FakeCredits) -> None:
        reconcile(credits.server_client)

    def depths(depth: int) -> set[int]:
        return {len(judged.run.schedule) for judged in explore(test, {"depth": depth}).results}

    assert (depths(1), depths(2), depths(3)) == ({1}, {1, 2}, {1, 2, 3})


def test_budget_is_respected_and_untried_schedules_are_counted(explore: Explore) -> None:
    exploration = explore(check_out, {"budget": 4})
    assert [judged.text for judged in exploration.results] == [
        "2:lost_after",
        "2:unreadable",
        "2:refused",
        "2:lost_before",
    ]
    assert exploration.untried == {"the budget of 4 schedules was reached": 11}


def test_time_left_is_estimated_from_the_runs_so_far(explore: Explore) -> None:
    exploration = explore(check_out, {"budget": 4})
    del exploration.results[1:]
    assert exploration.describe_progress(2) == "1 of 4 runs, 6 s left"
    exploration.results.clear()
    assert exploration.describe_progress(2) == "0 of 4 runs"


def test_default_limits_are_200_schedules_and_10_s_at_depth_2() -> None:
    options = ExploreOptions()
    assert (options.budget, options.seconds, options.depth) == (200, 10, 2)


def test_time_limit_starts_with_the_first_fault_free_run(explore: Explore, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([0.0, *[5.0] * 100])
    monkeypatch.setattr(exploration_module, "monotonic_s", lambda: next(seconds))
    assert explore(check_out, {"seconds": 4}).untried == {"the time limit of 4 s was reached": 15}


def test_fault_hits_its_call_whatever_the_order_of_calls(explore: Explore) -> None:
    """Each run reverses the order of the calls, as can happen with concurrent calls."""
    runs = itertools.count()

    def read_both(api: ServerClient) -> None:
        reads = [api.get_balance, api.get_user]
        for read in reads if next(runs) % 2 else reversed(reads):
            read(APP, "ada")

    def test(credits: FakeCredits) -> None:
        read_both(credits.server_client)

    exploration = explore(test, ["refused"])
    hit = [judged.run.faulted_calls[0].operation for judged in exploration.results]
    assert hit == [call.operation for call in exploration.reference.application_calls]


@pytest.mark.parametrize(("calls", "limit"), [(1, 20), (5, 25)])
def test_storm_exceeds_20_calls_and_five_times_the_fault_free_calls(explore: Explore, calls: int, limit: int) -> None:
    def read_for_ever(api: ServerClient) -> None:
        done = 0
        while done < calls:
            with contextlib.suppress(Unavailable):
                api.get_balance(APP, "ada")
                done += 1

    def test(credits: FakeCredits) -> None:
        read_for_ever(credits.server_client)

    (judged, *_) = explore(test, ["down"]).results
    assert (judged.run.is_storm, len(judged.run.calls)) == (True, limit + 1)


def test_time_is_limited_and_untried_schedules_are_counted(explore: Explore) -> None:
    exploration = explore(check_out, {"seconds": 0.001})
    assert len(exploration.results) + exploration.untried["the time limit of 0.001 s was reached"] == 15


def test_only_writes_are_faulted_on_request(explore: Explore) -> None:
    exploration = explore(check_out, "writes")
    assert {judged.run.schedule[0].call.operation for judged in exploration.results} <= WRITES  # type: ignore[union-attr]


def test_all_tries_every_effect_of_an_operation(explore: Explore) -> None:
    def read_balance(api: ServerClient) -> None:
        api.get_balance(APP, "ada")

    def test(credits: FakeCredits) -> None:
        read_balance(credits.server_client)

    exploration = explore(test, "all")
    effects = {type(judged.run.schedule[0].fault.rule.effect).__name__ for judged in exploration.results}
    assert {"Status", "Reset", "Close", "Hang", "Truncate", "Drip", "Garbage", "NotJson", "Latency"} <= effects
    assert not effects & {"RateLimit", "HoldAtGate", "DuplicateWrite"}
    assert not [each.text for each in exploration.results if each.judgement.colour is Colour.GREY]


def test_stale_is_only_injected_on_request(explore: Explore) -> None:
    assert not any("stale" in text for text in verdicts(explore(check_out)))
    assert set(verdicts(explore(check_out, "stale"))) == {"1:stale", "3:stale"}
    assert "stale" in FAULTS


def test_random_users_are_numbered_by_first_appearance(explore: Explore) -> None:
    numbers = iter(range(1000))

    def sign_up(api: ServerClient, user: str) -> None:
        api.create_user(APP, user)
        api.get_balance(APP, user)

    def test(credits: FakeCredits) -> None:
        for _ in range(2):
            sign_up(credits.server_client, f"user-{next(numbers)}")

    exploration = explore(test, {"schedules": ["createUser id#2:refused"]})
    (judged,) = exploration.results
    assert (judged.text, judged.judgement.verdict.value) == ("3:refused", "raised")
    labels = [call.key.label for call in exploration.reference.application_calls]
    assert labels == ["createUser id#1", "getBalance id#1", "createUser id#2", "getBalance id#2"]
