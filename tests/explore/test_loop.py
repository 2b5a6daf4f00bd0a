"""Exploring a block in a loop, a sandbox's schedule, and aside blocks."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytest_fake_credits.factory import Factory

from fake_credits import FakeCredits
from fake_credits.client.server import ServerClient
from tests.explore.applications import charge, charge_carefully, naive_retry
from tests.explore.conftest import Explore


@pytest.fixture(scope="module")
def factory() -> Iterator[Factory]:
    factory = Factory(dict)
    yield factory
    factory.close()


def test_loop_raises_the_report_at_its_end(factory: Factory) -> None:
    runs = 0
    with pytest.raises(AssertionError, match="CHARGED TWICE"):  # noqa: PT012 - the loop is what raises
        for credits in factory.explore(users={"ada": 100}):
            with credits:
                runs += 1
                naive_retry(credits.server_client)
                assert credits.balance("ada") == 90
    assert runs == 3 + 7  # two runs without faults, one run for each schedule, and a final one without faults


def test_loop_over_a_good_application_ends_quietly(factory: Factory) -> None:
    schedules: list[str | None] = []
    for credits in factory.explore(users={"ada": 100}):
        with credits:
            schedules.append(credits.explored)
            charge_carefully(credits.server_client)
            assert credits.balance("ada") == 90
    assert schedules[:3] == ["", "", "2:lost_after"]
    assert schedules[-1] == ""


def test_loop_keeps_no_sandboxes_from_earlier_runs(factory: Factory) -> None:
    shown: set[str] = set()
    for credits in factory.explore(["refused"], users={"ada": 100}):
        with credits:
            shown.add(repr(factory))
            charge_carefully(credits.server_client)
    assert len(shown) == 1


def test_failure_without_a_fault_propagates_out_of_the_loop(factory: Factory) -> None:
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        for credits in factory.explore(users={"ada": 100}):
            with credits:
                charge(credits.server_client)
                print(1 / 0)  # noqa: T201


def test_loop_without_a_with_block_raises_the_first_fault(factory: Factory) -> None:
    with pytest.raises(Exception, match="injected by the fault"):  # noqa: PT012
        for credits in factory.explore(["refused"], users={"ada": 100}):
            charge(credits.server_client)


def test_loop_without_a_call_fails(factory: Factory) -> None:
    with pytest.raises(AssertionError, match="cannot be explored: it makes no calls"):  # noqa: PT012
        for credits in factory.explore(users={"ada": 100}):
            credits.balance("ada")


def test_loop_with_a_schedule_for_a_missing_call_injects_no_faults(factory: Factory) -> None:
    schedules: list[str | None] = []
    explored = {"schedules": ["1:refused", "9:refused"]}
    with pytest.raises(AssertionError, match="'9:refused' names call 9, but the test makes 1 call"):  # noqa: PT012
        for credits in factory.explore(explored, users={"ada": 100}):
            with credits:
                schedules.append(credits.explored)
                charge(credits.server_client)
    assert set(schedules) == {""}


def test_false_success_is_found_in_a_loop(factory: Factory) -> None:
    def swallow(api: ServerClient, *, matters: bool) -> None:
        try:
            charge(api)
        except Exception:
            if matters:
                raise

    with pytest.raises(AssertionError, match="FALSE SUCCESS"):  # noqa: PT012
        for credits in factory.explore(["refused"], users={"ada": 100}):
            with credits:
                swallow(credits.server_client, matters=True)
                swallow(credits.server_client, matters=False)


@settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(price=st.integers(1, 100))
def test_each_hypothesis_example_is_explored(factory: Factory, price: int) -> None:
    for credits in factory.explore(["lost_after"], users={"ada": 100}):
        with credits:
            try:
                charge(credits.server_client, price)
            except Exception:
                assert credits.balance("ada") == 100 - price
                raise


def test_invalid_loop_option_is_rejected_immediately(factory: Factory) -> None:
    with pytest.raises(ValueError, match="'lost_afte' is neither a kind .* did you mean 'lost_after'"):
        factory.explore("lost_afte")
    with pytest.raises(ValueError, match="explore must not be False"):
        factory.explore(False)


def test_sandbox_exposes_its_schedule(explore: Explore) -> None:
    schedules: list[str | None] = []

    def test(credits: FakeCredits) -> None:
        schedules.append(credits.explored)
        charge(credits.server_client)

    explore(test, ["refused", "lost_after"])
    assert schedules == ["", "", "1:lost_after", "1:refused", ""]


def test_calls_in_an_aside_block_receive_no_faults(explore: Explore) -> None:
    def test(credits: FakeCredits) -> None:
        with credits.aside():
            charge_carefully(credits.server_client)
        charge(credits.server_client)

    exploration = explore(test, ["refused"])
    assert [call.number for call in exploration.reference.calls] == [0, 0, 1]
    assert [judged.text for judged in exploration.results] == ["1:refused"]
