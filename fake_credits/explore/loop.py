"""Exploration of the body of a ``for`` loop, for use without pytest."""

import sys
from collections.abc import Callable, Iterator
from types import CodeType, TracebackType

from fake_credits.explore.exploration import Exploration
from fake_credits.explore.options import ExploreOptions
from fake_credits.explore.ownership import TestCode
from fake_credits.explore.recorder import Recorder, outcome_of, traced_test
from fake_credits.explore.report import render_report
from fake_credits.fake import FakeCredits


class ExploredCredits(FakeCredits):
    """A sandbox for one run of an explored block; leaving its ``with`` block ends the run.

    An exception in the block becomes the run's outcome. If the run has faults or a prescribed order, the exception is
    suppressed, unless it is a KeyboardInterrupt.
    """

    recorder: Recorder
    test_code: TestCode

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> bool:  # type: ignore[override]
        run_error = error if isinstance(error, BaseException) else None
        self.end_run(run_error)
        super().__exit__(kind, error, traceback)
        is_varied = bool(self.recorder.run.schedule) or self.recorder.scheduler is not None
        return is_varied and not isinstance(run_error, KeyboardInterrupt)

    def end_run(self, error: BaseException | None = None) -> None:
        """Record how the run ended, unless the sandbox is already closed."""
        if self.sandbox.is_closed:
            return
        self.sandbox.hooks.run_final_checks()
        self.recorder.finish()
        outcome = self.recorder.run.outcome = outcome_of(error, self.test_code)
        if error is None and self.sandbox.problems:
            outcome.status, outcome.error = "failed", self.sandbox.problems[0].text


def explore_loop(
    make: Callable[[], ExploredCredits], options: ExploreOptions, code: CodeType
) -> Iterator[ExploredCredits]:
    """Yield a fresh sandbox, created by ``make``, for each run of the loop's body.

    ``code`` is the code object of the function that contains the loop. After the last run, raises AssertionError with
    the report if a finding is red, or with the reason if the block can't be explored.
    """
    test_code = TestCode([code])
    exploration = Exploration(code.co_qualname, options, test_code)
    exploration.code, exploration.is_loop = code, True
    exploration.keeps_exchanges = False
    for recorder in exploration.runs():
        credits = make()
        credits.recorder, credits.test_code = recorder, test_code
        recorder.attach(credits.sandbox)
        caller = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
        with traced_test(test_code, is_wanted=recorder.traces_test, running=caller) as trace:
            yield credits
            traced = trace()
        credits.end_run()
        recorder.run.outcome.trace = traced
        credits.close()
    _check_exploration(exploration)


def _check_exploration(exploration: Exploration) -> None:
    """Raise AssertionError if an exploration has a red finding or could not run."""
    if exploration.error or exploration.skip_reason:
        raise AssertionError(
            f"fake-credits: {exploration.error or f'the block cannot be explored: {exploration.skip_reason}'}"
        )
    if exploration.red:
        raise AssertionError(render_report(exploration))
