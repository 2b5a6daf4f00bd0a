"""Helpers for exploring a function without pytest's machinery: a hundred schedules take a tenth of a second."""

from collections.abc import Callable
from itertools import chain
from typing import Any

import pytest

from fake_credits import FakeCredits
from fake_credits.explore.exploration import Exploration
from fake_credits.explore.options import ExploreOptions, parse_explore
from fake_credits.explore.ownership import TestCode
from fake_credits.explore.recorder import outcome_of, traced_test
from fake_credits.transports.shared_resources import SharedResources
from tests.explore.applications import fresh_user

Explore = Callable[..., Exploration]


@pytest.fixture(scope="session")
def shared() -> SharedResources:
    return SharedResources()


@pytest.fixture(scope="session")
def explore(shared: SharedResources) -> Explore:
    """Return a function that explores a test; the test takes a sandbox in which ada has 100 credits."""

    def run(
        test: Callable[[FakeCredits], None],
        explore: object = True,
        *,
        batch_size: int = 1,
        keeps_exchanges: bool = True,
        **sandbox: Any,
    ) -> Exploration:
        options = parse_explore(explore, ExploreOptions())
        assert options is not None
        test_code = TestCode([test.__code__, fresh_user.__code__])
        exploration = Exploration(f"test_app.py::{test.__name__}", options, test_code)
        exploration.code = test.__code__
        exploration.keeps_exchanges = keeps_exchanges
        for recorder in chain.from_iterable(exploration.batches(batch_size)):
            with FakeCredits(shared=shared, users={"ada": 100}, **sandbox) as credits:
                recorder.attach(credits.sandbox)
                error: BaseException | None = None
                with traced_test(test_code, is_wanted=recorder.traces_test) as trace:
                    try:
                        test(credits)
                    except BaseException as caught:  # noqa: BLE001 - whatever ends a run
                        error = caught
                credits.sandbox.hooks.run_final_checks()
                recorder.finish()
                recorder.run.outcome = outcome_of(error, test_code)
                recorder.run.outcome.trace = trace()
                if error is None and credits.sandbox.problems:
                    recorder.run.outcome.status = "failed"
        return exploration

    return run


def verdicts(exploration: Exploration) -> dict[str, str]:
    """Return the verdict of each schedule."""
    return {judged.text: judged.judgement.verdict.value for judged in exploration.results}
