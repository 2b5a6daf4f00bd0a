"""Own what every declaration of faults shares: rules, presets, scenario files in TOML; know nothing of who declares.

A scenario is rules that hold always, and changes: rules that hold from a moment of the sandbox's clock to the next.
"""

import tomllib
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import cast

from fake_credits.errors import did_you_mean
from fake_credits.faults.checks import FaultError, number_in
from fake_credits.faults.effects import Effect, Latency
from fake_credits.faults.latency import distribution
from fake_credits.faults.plan import LATENCY, Plan
from fake_credits.faults.presets import preset_rules
from fake_credits.faults.reading import rule_from
from fake_credits.faults.rule import Rule

__all__ = ["latency_rules", "load_scenario", "rules_of", "scenario_from"]

VERSION = 1
"""The version of the file format; a file may say ``version = 1``."""

_SIZE_LIMIT_BYTES = 1024 * 1024
_LAST_S = 10**9
_SCENARIO = frozenset({"version", "latency", "preset", "rules", "changes"})
_CHANGE = frozenset({"at_s", "preset", "rules"})
_Placed = tuple[str, Rule]


def rules_of(value: object, *, word: str = "faults") -> tuple[Rule, ...]:
    """Return the rules that a declaration means, in whatever form.

    A `Rule`, an effect, an object of JSON (a rule or a scenario), the name of a preset, a scenario file (a `Path`, or a
    text that ends in ``.toml``), or a list of those. Raises FaultError, naming ``word``, entry, field and what it
    may be; also for rules that can't be together.
    """
    return _together(_placed(value, word))


def latency_rules(value: object) -> tuple[Rule, ...]:
    """Return the rules of a default latency, one for all operations or one for each that is named; None is none.

    A latency is milliseconds, a `Distribution` or its text; or a mapping of operations (also ``reads``, ``writes``,
    ``*``) to these. Raises FaultError.
    """
    if value is None:
        return ()
    by_operation = cast("Mapping[str, object]", value if isinstance(value, Mapping) else {"*": value})
    return tuple(
        Rule(effect=Latency(distribution(each, _latency_field(operation))), operation=operation, name=LATENCY)
        for operation, each in by_operation.items()
    )


def _latency_field(operation: str) -> str:
    return LATENCY if operation == "*" else f"{LATENCY} of {operation}"


def _placed(value: object, word: str) -> Iterator[_Placed]:
    if isinstance(value, list | tuple):
        for number, entry in enumerate(cast("Sequence[object]", value), 1):
            with _named(f"{word}, entry {number}"):
                yield from ((f"{word}, entry {number}", rule) for rule in _rules(entry))
    else:
        with _named(word):
            yield from ((word, rule) for rule in _rules(value))


def _rules(value: object) -> tuple[Rule, ...]:
    """Return the rules of anything but a list."""
    if isinstance(value, Path) or (isinstance(value, str) and value.endswith(".toml")):
        return load_scenario(value)
    if isinstance(value, str):
        return preset_rules(value)
    if isinstance(value, Mapping):
        members = cast("Mapping[str, object]", value)
        return scenario_from(members) if _SCENARIO.intersection(members) else (rule_from(members),)
    if not isinstance(value, Rule | Effect):
        forms = "a rule, an effect, an object of JSON, a preset's name, a scenario file, or a list of these"
        raise FaultError(f"{value!r} is a {type(value).__name__}: give {forms}")
    return (rule_from(value),)


def _together(placed: Iterable[_Placed]) -> tuple[Rule, ...]:
    """Return rules without their places; raise FaultError where one can't stand beside those before it."""
    plan, rules = Plan(0), list[Rule]()
    for place, rule in placed:
        with _named(place):
            plan.add(rule)
        rules.append(rule)
    return tuple(rules)


@contextmanager
def _named(place: str) -> Generator[None]:
    """Put a place, if there is one, in front of what is refused."""
    try:
        yield
    except FaultError as error:
        raise FaultError(f"{place}: {error}" if place else str(error)) from None


# ------------------------------------------------------------ scenarios


def load_scenario(path: str | Path) -> tuple[Rule, ...]:
    """Return the rules of a scenario file.

    Raises FaultError, with the file's name in front, for one that can't be read, is no TOML, or is no scenario.
    """
    with _named(str(path)):
        try:
            with Path(path).open("rb") as file:
                data = file.read(_SIZE_LIMIT_BYTES + 1)
            document = tomllib.loads(data.decode("utf-8")) if len(data) <= _SIZE_LIMIT_BYTES else None
        except OSError as error:
            raise FaultError(f"can't be read: {error.strerror}") from None
        except (ValueError, RecursionError) as error:  # an integer of thousands of digits is no TOMLDecodeError
            raise FaultError(f"is no TOML: {error}") from None
        if document is None:
            raise FaultError(f"is over {_SIZE_LIMIT_BYTES} bytes")
        return scenario_from(document)


def scenario_from(document: Mapping[str, object]) -> tuple[Rule, ...]:
    """Return the rules of a scenario; raise FaultError, naming entry and field.

    ``preset`` and ``rules`` hold always, ``latency`` is the default's; ``changes`` have a ``preset`` and ``rules`` that
    hold from ``at_s``, in seconds of the sandbox's clock since it started, until the next change.
    """
    _check_keys(document, _SCENARIO)
    version = document.get("version", VERSION)
    if version != VERSION or isinstance(version, bool):
        raise FaultError(f"version is {version!r}: it must be {VERSION}")
    latency = [(LATENCY, rule) for rule in latency_rules(document.get(LATENCY))]
    return _together([*_holding(document), *_changes(document), *latency])


def _holding(table: Mapping[str, object], where: str = "") -> Iterator[_Placed]:
    """Return the rules that a table has by itself."""
    if "preset" in table:
        with _named(f"{where}preset"):
            rules = preset_rules(table["preset"])
        yield from ((f"{where}preset", rule) for rule in rules)
    for place, told in _tables(table, "rules", where):
        with _named(place):
            rule = rule_from(told)
        yield place, rule


def _changes(document: Mapping[str, object]) -> Iterator[_Placed]:
    tables = list(_tables(document, "changes"))
    starts = [_start(place, table) for place, table in tables]
    for (place, _), earlier, later in zip(tables[1:], starts, starts[1:], strict=False):
        if later <= earlier:
            raise FaultError(f"{place}: at_s is {later:g}: it must be after the {earlier:g} of the change before")
    for (place, table), window in zip(tables, pairwise([*starts, None]), strict=True):
        for inner, rule in _holding(table, f"{place}: "):
            if rule.during is not None:
                raise FaultError(f"{inner}: during is {rule.during!r}, but a change says when its rules hold")
            yield inner, replace(rule, during=window)


def _start(place: str, table: Mapping[str, object]) -> float:
    with _named(place):
        _check_keys(table, _CHANGE)
        if "at_s" not in table:
            raise FaultError("at_s is missing: it is in seconds since the sandbox started")
        number_in("at_s", table["at_s"], 0, _LAST_S)
        return cast("float", table["at_s"])


def _tables(table: Mapping[str, object], name: str, where: str = "") -> Iterator[tuple[str, Mapping[str, object]]]:
    told = table.get(name, [])
    if not isinstance(told, list | tuple):
        raise FaultError(f"{where}{name} is {told!r}, a {type(told).__name__}: it must be a list of tables")
    for number, entry in enumerate(cast("Sequence[object]", told), 1):
        place = f"{where}{name}, entry {number}"
        if not isinstance(entry, Mapping):
            raise FaultError(f"{place}: {entry!r} is a {type(entry).__name__}: it must be a table")
        yield place, cast("Mapping[str, object]", entry)


def _check_keys(table: Mapping[str, object], known: Collection[str]) -> None:
    for key in table:
        if key not in known:
            raise FaultError(
                f"there is no {key!r} here{did_you_mean(key, known)} (there are: {', '.join(sorted(known))})"
            )
