"""Checks for tests whose markers would have no effect.

This module imports only pytest and the standard library. PYTEST_DONT_REWRITE
"""

import inspect
from collections.abc import Mapping, Sequence

import pytest


def failure(message: str) -> BaseException:
    """Return an exception that fails a test with this message and without a traceback."""
    return pytest.fail.Exception(message, pytrace=False)


def is_marked_itself(item: pytest.Item, option: str) -> bool:
    """Return whether an option is set by a marker on the function or a parameter, not on a class or module."""
    return any(option in mark.kwargs for mark in item.own_markers if mark.name == "fake_credits")


def fail_on_unused_options(item: pytest.Item, *, is_over: bool) -> None:
    """Fail a test that has a marker on its function or a parameter, but no sandbox to apply it to.

    Markers on a class or a module are ignored, because they may be intended for other tests. ``allow`` may be used with
    the factory, because it also applies to the factory's sandboxes. A test that uses pytest's ``request`` may request
    the fixture while it runs, so such a test is checked only if ``is_over``.
    """
    fixtures: Sequence[str] = getattr(item, "fixturenames", ())
    if "fake_credits" in fixtures:
        return
    options = {name: None for mark in item.own_markers if mark.name == "fake_credits" for name in mark.kwargs}
    if "fake_credits_factory" in fixtures:
        options.pop("allow", None)
    function = getattr(item, "obj", None)
    if options and (is_over or not callable(function) or "request" not in inspect.signature(function).parameters):
        raise failure(
            f"the marker's {', '.join(f'{name}=' for name in options)} can't take effect, because this test does not "
            'use the fake_credits fixture. Add @pytest.mark.usefixtures("fake_credits") or the parameter fake_credits, '
            "or turn on the ini option fake_credits_autouse; pass options for other sandboxes to "
            "fake_credits_factory(...)"
        )


def fail_on_overridden_fixture(item: pytest.Item, options: Mapping[str, object]) -> None:
    """Fail a marked test if its ``fake_credits`` fixture is overridden by one that ignores the marker."""
    fixtures: Sequence[str] = getattr(item, "fixturenames", ())
    if "fake_credits" not in fixtures:
        return
    # ``allow`` also applies to the factory's sandboxes.
    unused = [name for name in options if name != "allow" or "fake_credits_factory" not in fixtures]
    if unused:
        raise failure(
            f"the marker's {', '.join(f'{name}=' for name in unused)} can't take effect, because the "
            "fake_credits fixture is overridden. Request the original fixture in the override "
            "(def fake_credits(fake_credits): ...), or "
            "give the override another name; pass options for other sandboxes to fake_credits_factory(...)"
        )
