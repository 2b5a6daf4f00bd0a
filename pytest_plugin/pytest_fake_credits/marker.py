"""The options of the marker and of `fake_credits_settings`: those of a sandbox, and a few that only the plugin has.

This module imports the fake, so it is imported only when a marker, a fixture or ``--markers`` is used.
PYTEST_DONT_REWRITE
"""

from collections.abc import Iterable, Mapping

import pytest

from fake_credits.faults.rule import Rule
from fake_credits.faults.scenarios import as_conditions, parse_rules
from fake_credits.sandbox_options import OPTION_RULES, OptionError, OptionRule, parse_options, parse_texts

ALLOWABLE_PROBLEMS = ("internal_errors", "unrouted", "unused_rules")
"""The checks, made after a test's call phase, that ``allow=`` can turn off."""


def _parse_allow(value: object) -> tuple[str, ...]:
    names = parse_texts(value)
    if not set(names) <= set(ALLOWABLE_PROBLEMS):
        raise ValueError(value)
    return names


def _parse_live(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(value)
    return value


def _keep(value: object) -> object:
    return value  # `parse_marks` checks the value and gives a more detailed message


_PLUGIN_RULES = {
    "explore": OptionRule("True, False, a kind, a fault, a list of faults or a mapping", _keep),
    "allow": OptionRule(f"one or more of {', '.join(ALLOWABLE_PROBLEMS)}", _parse_allow, ALLOWABLE_PROBLEMS),
    "intercept": OptionRule("a base URL such as https://credits.internal, or a list of them", parse_texts),
    "live": OptionRule("True or False", _parse_live),
}

MARKER_OPTIONS: Mapping[str, OptionRule] = dict(sorted({**OPTION_RULES, **_PLUGIN_RULES}.items()))
"""The options of the marker; ``fake_credits_settings`` takes all of them except ``explore``."""

_EXPLORE_ONLY = ("budget", "depth", "orders", "schedules", "seconds", "strict", "what")
_ELSEWHERE_HINTS = {
    **{name: f'use explore={{"{name}": ...}}' for name in _EXPLORE_ONLY},
    "mode": "use live=True",
    "schedule": 'use explore={"schedules": [...]}',
}


def marker_help() -> str:
    """Return the marker's line for ``pytest --markers``."""
    names = ", ".join(f"{name}=" for name in MARKER_OPTIONS)
    return (
        f"fake_credits({names}): initial options of the test's sandbox; "
        "markers on the module, class, function and parameter are merged option by option, and the nearest wins (of "
        "several decorators on one function, the uppermost)"
    )


def parse_marks(marks: Iterable[pytest.Mark]) -> dict[str, object]:
    """Merge the options of markers, with later ones taking precedence; raise OptionError for an invalid marker."""
    options: dict[str, object] = {}
    for mark in marks:
        if mark.args:
            text = f"the fake_credits marker takes keyword arguments such as balance=100, not {mark.args[0]!r}"
            raise OptionError(text, "")
        options |= parse_options(mark.kwargs, MARKER_OPTIONS, "the fake_credits marker", _ELSEWHERE_HINTS)
    if "explore" in options:
        options["explore"] = _check_explore(options["explore"])
    return options


def _check_explore(value: object) -> object:
    from fake_credits.explore.options import ExploreOptions, parse_explore  # needed only for explore=

    try:
        parse_explore(value, ExploreOptions())
    except ValueError as error:
        raise OptionError(f"the fake_credits marker has explore={value!r:.200}: {error}", "explore") from None
    return value


def as_outer_faults(faults: object) -> tuple[Rule, ...]:
    """Return the rules in ``faults``, marked as optional because they are declared outside the test.

    Raises FaultError for an invalid rule.
    """
    return as_conditions(parse_rules(faults))


def parse_settings(settings: object) -> dict[str, object]:
    """Return the options from the ``fake_credits_settings`` fixture; raise OptionError for an invalid one."""
    where = "the fake_credits_settings fixture"
    if not isinstance(settings, Mapping):
        raise OptionError(f"{where} must return a mapping of options to values, got {type(settings).__name__}", "")
    if "explore" in settings:
        raise OptionError(f"{where} must not include 'explore', which only a marker or a flag can set", "explore")
    return parse_options(settings, MARKER_OPTIONS, where)  # pyright: ignore[reportUnknownArgumentType]
