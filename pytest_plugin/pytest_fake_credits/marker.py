"""Own the words of the marker: which there are, what each may be, how markers merge; know nothing of the fake.

PYTEST_DONT_REWRITE
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import PurePath
from typing import NamedTuple, cast

import pytest

__all__ = ["ALLOWED", "WORDS", "Word", "checked_words", "describe", "idle_words", "may_ask_later", "words_of"]

ALLOWED = ("internal_errors", "unused_rules")
"""The end-of-call checks that ``allow=`` can turn off."""


class Word(NamedTuple):
    """Be one word: what it must be, in a sentence, and a function that returns it in its one form.

    The function raises ValueError for any other value.
    """

    rule: str
    check: Callable[[object], object]


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(value)
    return value


def _credits(value: object) -> int:
    if _whole(value) < 0:
        raise ValueError(value)
    return _whole(value)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(value)
    return value


def _key(value: object) -> str:
    text = _text(value)
    if len(text) > 256 or not all("!" <= char <= "~" for char in text):
        raise ValueError(value)
    return text


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(value)
    return value


def _contract(value: object) -> object:
    # A `Contract` is known by its name: importing it would load the fake for every suite.
    return value if type(value).__name__ == "Contract" else _file(value)


def _file(value: object) -> str:
    return _text(str(value) if isinstance(value, PurePath) else value)


def _faults(value: object) -> object:
    # An effect or a rule is known by where it comes from: the fake, which refuses what is malformed.
    if value == "" or not (_is_the_fakes(value) or isinstance(value, str | list | tuple | Mapping)):
        raise ValueError(value)
    return value  # pyright: ignore[reportUnknownVariableType] - of what, is the fake's to check


def _is_the_fakes(value: object) -> bool:
    return type(value).__module__.startswith("fake_credits.")


def _latency(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(value)
    return value if isinstance(value, int | float) else _faults(value)


def _delays(value: object) -> str:
    if value not in ("virtual", "real"):
        raise ValueError(value)
    return str(value)


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.001 <= value <= 3600:
        raise ValueError(value)
    return value


def _trust(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ValueError(value)
    files = cast("Mapping[object, object]", value)
    return {_text(issuer): _file(path) for issuer, path in files.items()}


def _names(value: object) -> tuple[str, ...]:
    names = cast("list[object] | tuple[object, ...]", value if isinstance(value, list | tuple) else [value])
    return tuple(map(_text, names))


def _users(value: object) -> dict[str, int]:
    if not isinstance(value, Mapping):
        raise ValueError(value)
    users = cast("Mapping[object, object]", value)
    return {_text(user_id): _credits(balance) for user_id, balance in users.items()}


def _clock(value: object) -> datetime | str:
    if value in ("real", "frozen"):
        return str(value)
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise ValueError(value)
    return moment


def _urls(value: object) -> tuple[str, ...]:
    return tuple(map(_text, cast("list[object]", value) if isinstance(value, list | tuple) else [value]))


def _allow(value: object) -> tuple[str, ...]:
    names = cast("list[object]", value if isinstance(value, list) else [value])
    if any(name not in ALLOWED for name in names):
        raise ValueError(names)
    return tuple(map(_text, names))


WORDS: Mapping[str, Word] = {
    "allow": Word(f"one or a list of {', '.join(ALLOWED)}", _allow),
    "api_key": Word("1 to 256 visible ASCII characters: it travels in a header", _key),
    "application_id": Word("text that is not empty", _text),
    "balance": Word("an integer, 0 or more", _credits),
    "clock": Word('an aware datetime, its ISO 8601 text, "frozen" or "real"', _clock),
    "contract": Word("a Contract, or the name of a contract file", _contract),
    "delays": Word('"virtual" or "real"', _delays),
    "faults": Word("a rule, or a list of them: Reset(), a Rule, an object of JSON, a preset or scenario file", _faults),
    "intercept": Word("a base URL such as https://credits.internal, or a list of them", _urls),
    "jwt": Word("the name of a provider's preset", _text),
    "keep_headers": Word("one or a list of names of headers", _names),
    "latency": Word('milliseconds, "uniform(10, 50)", "lognormal(20, 200)", or these by operation', _latency),
    "limit_s": Word("seconds, from 0.001 to 3600, that a gate holds a call at most", _seconds),
    "live": Word("True or False", _flag),
    "seed": Word("an integer", _whole),
    "trust": Word('a mapping of foreign issuers to files of their keys, such as {"https://…/": "jwks.json"}', _trust),
    "user_id": Word("text that is not empty", _text),
    "users": Word(
        'a mapping of user ids to balances, such as {"ada": 100}; the default user has one number here and in balance=',
        _users,
    ),
    "world": Word('the name of a world, such as "demo", or of a file of one', _file),
}
"""Every word of the marker, which ``fake_credits_settings`` has too."""


def describe() -> str:
    """Return the marker's line for ``pytest --markers``."""
    words = ", ".join(f"{name}=" for name in WORDS)
    return (
        f"fake_credits({words}): how the test's sandbox starts; "
        "markers of module, class, function and parameter merge word by word, the nearest wins"
    )


def idle_words(item: pytest.Item) -> list[str]:
    """Return the words on a test's own function, or its parameter, that no sandbox will start from.

    Those of a class or a module may be for other tests of it. ``allow`` is for the factory's sandboxes too.
    """
    fixtures = cast("Sequence[str]", getattr(item, "fixturenames", ()))
    own = {word: None for mark in item.own_markers if mark.name == "fake_credits" for word in mark.kwargs}
    if "fake_credits" in fixtures:
        return []
    return [word for word in own if word != "allow" or "fake_credits_factory" not in fixtures]


def may_ask_later(item: pytest.Item) -> bool:
    """Tell whether a test's function can ask for a fixture as it runs: it takes pytest's ``request``."""
    function = getattr(item, "obj", None)
    return callable(function) and "request" in inspect.signature(function).parameters


def words_of(item: pytest.Item, *, named: bool = True) -> dict[str, object]:
    """Return the merged words of a test's markers; raise UsageError, with the test's name, for one that can't be.

    Where what is raised fails that test, its name stands there already: then it is not to be ``named``.
    On one object the marker added last wins: a parameter's over the function's, a subclass's over its base's.
    """
    where = f"{item.nodeid + ': ' if named else ''}the marker fake_credits"
    words: dict[str, object] = {}
    for node in item.listchain():
        for mark in node.own_markers:
            if mark.name != "fake_credits":
                continue
            if mark.args:
                raise pytest.UsageError(f"{where} takes words only, such as balance=100, not {mark.args[0]!r}")
            words.update(checked_words(mark.kwargs, where))
    return words


def checked_words(words: Mapping[str, object], where: str) -> dict[str, object]:
    """Return words in their one form; raise UsageError for an unknown one and for a value that can't be."""
    if not isinstance(words, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] a person's fixture may say anything
        raise pytest.UsageError(f"{where} must be a mapping of words to values, not {type(words).__name__}")
    return {name: _checked(name, value, where) for name, value in words.items()}


def _checked(name: str, value: object, where: str) -> object:
    word = WORDS.get(name)
    if word is None and not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise pytest.UsageError(f"{where} has {name!r}, which must be a word, not {type(name).__name__}")
    if word is None:
        raise pytest.UsageError(f"{where} has no word {name!r}{_nearest(name)} (it has: {', '.join(WORDS)})")
    try:
        return word.check(value)
    except ValueError:
        raise pytest.UsageError(f"{where} has {name}={value!r}: that must be {word.rule}") from None


def _nearest(name: str) -> str:
    from fake_credits.errors import did_you_mean  # for those who misspell: the module's suites load no fake

    return did_you_mean(name, WORDS, before=", ")
