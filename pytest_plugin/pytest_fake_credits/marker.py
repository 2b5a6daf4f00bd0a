"""Own the words of the marker: which there are, what each may be, how markers merge; know nothing of the fake.

PYTEST_DONT_REWRITE
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import PurePath
from typing import NamedTuple, cast

import pytest

__all__ = [
    "ALLOWABLE_PROBLEMS",
    "MARKER_OPTIONS",
    "MarkerOption",
    "marker_help",
    "marker_options",
    "unused_options",
    "uses_request_fixture",
    "validate_options",
]

ALLOWABLE_PROBLEMS = ("internal_errors", "unused_rules")
"""The end-of-call checks that ``allow=`` can turn off."""


class MarkerOption(NamedTuple):
    """Be one word: what it must be, in a sentence, and a function that returns it in its one form.

    The function raises ValueError for any other value.
    """

    expected: str
    validate: Callable[[object], object]


def _int(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(value)
    return value


def _non_negative_int(value: object) -> int:
    if _int(value) < 0:
        raise ValueError(value)
    return _int(value)


def _non_empty_str(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(value)
    return value


def _api_key(value: object) -> str:
    text = _non_empty_str(value)
    if len(text) > 256 or not all("!" <= char <= "~" for char in text):
        raise ValueError(value)
    return text


def _bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(value)
    return value


def _contract(value: object) -> object:
    # A `Contract` is known by its name: importing it would load the fake for every suite.
    return value if type(value).__name__ == "Contract" else _file_name(value)


def _file_name(value: object) -> str:
    return _non_empty_str(str(value) if isinstance(value, PurePath) else value)


def _faults(value: object) -> object:
    # An effect or a rule is known by where it comes from: the fake, which refuses what is malformed.
    is_ours = type(value).__module__.startswith("fake_credits.")
    if value == "" or not (is_ours or isinstance(value, str | list | tuple | Mapping)):
        raise ValueError(value)
    return value  # pyright: ignore[reportUnknownVariableType] - of what, is the fake's to check


def _latency(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(value)
    return value if isinstance(value, int | float) else _faults(value)


def _delays(value: object) -> str:
    if value not in ("virtual", "real"):
        raise ValueError(value)
    return str(value)


def _gate_timeout(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.001 <= value <= 3600:
        raise ValueError(value)
    return value


def _trust(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ValueError(value)
    files = cast("Mapping[object, object]", value)
    return {_non_empty_str(issuer): _file_name(path) for issuer, path in files.items()}


def _one_or_several(value: object) -> tuple[str, ...]:
    texts = cast("list[object] | tuple[object, ...]", value if isinstance(value, list | tuple) else [value])
    return tuple(map(_non_empty_str, texts))


def _users(value: object) -> dict[str, int]:
    if not isinstance(value, Mapping):
        raise ValueError(value)
    users = cast("Mapping[object, object]", value)
    return {_non_empty_str(user_id): _non_negative_int(balance) for user_id, balance in users.items()}


def _clock(value: object) -> datetime | str:
    if value in ("real", "frozen"):
        return str(value)
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise ValueError(value)
    return moment


def _allow(value: object) -> tuple[str, ...]:
    names = cast("list[object]", value if isinstance(value, list) else [value])
    if any(name not in ALLOWABLE_PROBLEMS for name in names):
        raise ValueError(names)
    return tuple(map(_non_empty_str, names))


MARKER_OPTIONS: Mapping[str, MarkerOption] = {
    "allow": MarkerOption(f"one or a list of {', '.join(ALLOWABLE_PROBLEMS)}", _allow),
    "api_key": MarkerOption("1 to 256 visible ASCII characters: it travels in a header", _api_key),
    "application_id": MarkerOption("text that is not empty", _non_empty_str),
    "balance": MarkerOption("an integer, 0 or more", _non_negative_int),
    "clock": MarkerOption('an aware datetime, its ISO 8601 text, "frozen" or "real"', _clock),
    "contract": MarkerOption("a Contract, or the name of a contract file", _contract),
    "delays": MarkerOption('"virtual" or "real"', _delays),
    "faults": MarkerOption(
        "a rule, or a list of them: Reset(), a Rule, an object of JSON, a preset or scenario file", _faults
    ),
    "intercept": MarkerOption("a base URL such as https://credits.internal, or a list of them", _one_or_several),
    "auth_provider": MarkerOption("the name of a provider's preset", _non_empty_str),
    "keep_headers": MarkerOption("one or a list of names of headers", _one_or_several),
    "latency": MarkerOption('milliseconds, "uniform(10, 50)", "lognormal(20, 200)", or these by operation', _latency),
    "gate_timeout_s": MarkerOption("seconds, from 0.001 to 3600, that a gate holds a call at most", _gate_timeout),
    "live": MarkerOption("True or False", _bool),
    "seed": MarkerOption("an integer", _int),
    "trust": MarkerOption(
        'a mapping of foreign issuers to files of their keys, such as {"https://…/": "jwks.json"}', _trust
    ),
    "user_id": MarkerOption("text that is not empty", _non_empty_str),
    "users": MarkerOption(
        'a mapping of user ids to balances, such as {"ada": 100}; the default user has one number here and in balance=',
        _users,
    ),
    "world": MarkerOption('the name of a world, such as "demo", or of a file of one', _file_name),
}
"""Every word of the marker, which ``fake_credits_settings`` has too."""


def marker_help() -> str:
    """Return the marker's line for ``pytest --markers``."""
    names = ", ".join(f"{name}=" for name in MARKER_OPTIONS)
    return (
        f"fake_credits({names}): how the test's sandbox starts; "
        "markers of module, class, function and parameter merge word by word, the nearest wins"
    )


def unused_options(item: pytest.Item) -> list[str]:
    """Return the words on a test's own function, or its parameter, that no sandbox will start from.

    Those of a class or a module may be for other tests of it. ``allow`` is for the factory's sandboxes too.
    """
    fixtures = cast("Sequence[str]", getattr(item, "fixturenames", ()))
    options = {word: None for mark in item.own_markers if mark.name == "fake_credits" for word in mark.kwargs}
    if "fake_credits" in fixtures:
        return []
    return [word for word in options if word != "allow" or "fake_credits_factory" not in fixtures]


def uses_request_fixture(item: pytest.Item) -> bool:
    """Tell whether a test's function can ask for a fixture as it runs: it takes pytest's ``request``."""
    function = getattr(item, "obj", None)
    return callable(function) and "request" in inspect.signature(function).parameters


def marker_options(item: pytest.Item, *, with_test_name: bool = True) -> dict[str, object]:
    """Return the merged words of a test's markers; raise UsageError, with the test's name, for one that can't be.

    Without ``with_test_name`` the error leaves the test's name out: where it fails that test, pytest names it.
    On one object the marker added last wins: a parameter's over the function's, a subclass's over its base's.
    """
    where = f"{item.nodeid + ': ' if with_test_name else ''}the marker fake_credits"
    options: dict[str, object] = {}
    for node in item.listchain():
        for mark in node.own_markers:
            if mark.name != "fake_credits":
                continue
            if mark.args:
                raise pytest.UsageError(f"{where} takes words only, such as balance=100, not {mark.args[0]!r}")
            options.update(validate_options(mark.kwargs, where))
    return options


def validate_options(options: Mapping[str, object], where: str) -> dict[str, object]:
    """Return words in their one form; raise UsageError for an unknown one and for a value that can't be."""
    if not isinstance(options, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] a person's fixture may say anything
        raise pytest.UsageError(f"{where} must be a mapping of words to values, not {type(options).__name__}")
    return {name: _validate_option(name, value, where) for name, value in options.items()}


def _validate_option(name: str, value: object, where: str) -> object:
    option = MARKER_OPTIONS.get(name)
    if option is None and not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise pytest.UsageError(f"{where} has {name!r}, which must be a word, not {type(name).__name__}")
    if option is None:
        raise pytest.UsageError(
            f"{where} has no word {name!r}{_suggestion(name)} (it has: {', '.join(MARKER_OPTIONS)})"
        )
    try:
        return option.validate(value)
    except ValueError:
        raise pytest.UsageError(f"{where} has {name}={value!r}: that must be {option.expected}") from None


def _suggestion(name: str) -> str:
    from fake_credits.errors import did_you_mean  # for those who misspell: the module's suites load no fake

    return did_you_mean(name, MARKER_OPTIONS, prefix=", ")
