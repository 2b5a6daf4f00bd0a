"""The problems of a sandbox that should fail a test that passed otherwise."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

ProblemKind = Literal["calls", "internal_errors", "ledger", "unrouted", "unused_rules"]


@dataclass(frozen=True, eq=False, slots=True)
class SandboxProblem:
    """A problem that should fail a test that passed otherwise; ``source`` is its exception or its rule, if any."""

    kind: ProblemKind
    text: str
    source: object = None


def problem_texts(problems: Iterable[SandboxProblem]) -> list[str]:
    """Return the problems as text."""
    return [problem.text for problem in problems]
