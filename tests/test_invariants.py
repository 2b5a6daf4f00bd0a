"""Test the exploration API in an ordinary test run: invariants, `aside` and `explored`."""

import inspect
from typing import Any

import pytest

from fake_credits import FakeCredits
from fake_credits.faults import LateWrite


def spend(credits: FakeCredits, amount: int) -> None:
    credits.server_client.create_transaction("app-id", "ada", delta=-amount, reason="consume")


@pytest.fixture
def credits() -> FakeCredits:
    return FakeCredits(users={"ada": 100})


def test_invariant_is_checked_after_each_commit(credits: FakeCredits) -> None:
    seen: list[int] = []

    def is_never_low() -> bool:
        seen.append(credits.balance("ada"))
        return seen[-1] >= 80

    credits.always(is_never_low)
    spend(credits, 15)
    credits.server_client.get_balance("app-id", "ada")
    assert (seen, credits.problems()) == ([85], [])
    spend(credits, 15)
    assert credits.problems() == [
        "invariant is_never_low returned False after createTransaction for ada",
    ]


def test_failed_assertion_of_an_invariant_is_quoted(credits: FakeCredits) -> None:
    def has_plenty() -> None:
        assert credits.balance("ada") > 90, "too little"

    credits.always(has_plenty)
    spend(credits, 50)
    (problem,) = credits.problems()
    assert problem.startswith("invariant has_plenty failed after createTransaction for ada: too little")


def test_eventual_invariant_is_checked_once_all_writes_are_applied(credits: FakeCredits) -> None:
    credits.faults.add(LateWrite(after_ms=60_000), "createTransaction")
    credits.eventually(lambda: credits.balance("ada") == 90)
    line = inspect.stack()[0].lineno + 1
    credits.eventually(lambda: credits.balance("ada") == 100)
    client = credits.server_client
    with pytest.raises(Exception, match="no response"):
        client.create_transaction("app-id", "ada", delta=-10, reason="consume")
    assert credits.problems() == [f"invariant at test_invariants.py:{line} returned False at the end of the test"]


def test_without_commits_only_eventual_invariants_are_checked(credits: FakeCredits) -> None:
    seen: list[str] = []
    credits.always(lambda: seen.append("always"))
    credits.eventually(lambda: seen.append("eventually"))
    credits.user("bob", balance=5)
    credits.server_client.get_balance("app-id", "ada")
    assert (credits.problems(), seen) == ([], ["eventually"])


@pytest.mark.parametrize("method", ["always", "eventually"])
def test_check_that_is_not_a_function_is_rejected_immediately(credits: FakeCredits, method: str) -> None:
    async def check() -> bool:
        return True

    declare: Any = getattr(credits, method)
    with pytest.raises(TypeError, match=rf"^{method}\(\) takes a function, not bool: write {method}\(lambda: ...\)$"):
        declare(credits.balance("ada") >= 0)
    with pytest.raises(TypeError, match=rf"^{method}\(\) takes a function, not a coroutine function: write def"):
        declare(check)
    assert credits.problems() == []


def test_outside_an_exploration_there_is_no_schedule_and_aside_does_nothing(credits: FakeCredits) -> None:
    assert credits.explored is None
    with credits.aside():
        spend(credits, 1)
    assert credits.balance("ada") == 99
