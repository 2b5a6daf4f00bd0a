"""Presets and scenario files: named lists of rules, and reading them from TOML."""

import tomllib
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import cast

from fake_credits.errors import did_you_mean
from fake_credits.faults.declarations import lost_response, rule_from
from fake_credits.faults.effects.base import Effect, FaultError, check_number
from fake_credits.faults.effects.connection import Close, Reset, Truncate
from fake_credits.faults.effects.data import SchemaDrift, StaleRead
from fake_credits.faults.effects.responses import NotJson, RateLimit, Status
from fake_credits.faults.effects.timing import Latency, Lognormal, parse_distribution
from fake_credits.faults.engine import DEFAULT_LATENCY_NAME, FaultEngine
from fake_credits.faults.rule import Rule, RuleOperation

__all__ = [
    "FAULT_PRESETS",
    "FaultPreset",
    "latency_rules",
    "load_scenario",
    "parse_rules",
    "parse_scenario",
    "preset_rules",
]


@dataclass(frozen=True)
class FaultPreset:
    """A named list of rules, with one sentence about what goes wrong."""

    description: str
    rules: tuple[Rule, ...]


FAULT_PRESETS: Mapping[str, FaultPreset] = {
    "flaky": FaultPreset(
        "5 calls in 100 fail: 3 with 503, 1 with a reset before the call took effect, 1 with a reset after it.",
        (
            Rule(Status(503), probability=0.03),
            Rule(Reset(), probability=0.01),
            Rule(Reset(), phase="after", probability=0.01),
        ),
    ),
    "slow": FaultPreset(
        "Every call takes 300 ms in the middle, and 1 in 100 takes 3 s or more.",
        (Rule(Latency(Lognormal(300, 3000))),),
    ),
    "brownout": FaultPreset(
        "Overload: calls take 1 s in the middle and 10 s at worst; 25 in 100 get 503 with Retry-After 5, 5 get 504.",
        (
            Rule(Latency(Lognormal(1000, 8000, 10_000))),
            Rule(Status(503, retry_after_s=5), probability=0.25),
            Rule(Status(504), probability=0.05),
        ),
    ),
    "outage": FaultPreset(
        "Every call gets 503 with Retry-After 30.",
        (Rule(Status(503, retry_after_s=30)),),
    ),
    "rate_limited": FaultPreset(
        "10 calls in any 10 s; further ones get 429 with Retry-After.",
        (Rule(RateLimit(limit=10, window_s=10)),),
    ),
    "lost_responses": FaultPreset(
        "20 writes in 100 take effect and their answers are lost: 10 reset, 5 closed, 5 turned into 504.",
        (
            rule_from(lost_response(), probability=0.1),
            rule_from(lost_response(Close()), probability=0.05),
            rule_from(lost_response(Status(504)), probability=0.05),
        ),
    ),
    "stale_replica": FaultPreset(
        "Balance and history lack what was written in the last 2 s.",
        (Rule(StaleRead(by_ms=2000)),),
    ),
    "bad_proxy": FaultPreset(
        "10 answers in 100 are a proxy's: 5 pages of HTML with 502, 2 empty ones, 1 behind a BOM, 1 cut, 1 closed.",
        (
            Rule(NotJson(), probability=0.05),
            Rule(NotJson(502, "empty"), probability=0.02),
            Rule(NotJson(502, "bom"), probability=0.01),
            Rule(Truncate(), probability=0.01),
            Rule(Close(), probability=0.01),
        ),
    ),
    "version_ahead": FaultPreset(
        "Answers have new members and reasons, null where there was nothing, and no createdAt.",
        (
            Rule(SchemaDrift("extra_field"), stack=True),
            Rule(SchemaDrift("unknown_reason"), stack=True),
            Rule(SchemaDrift("null_for_absent"), stack=True),
            Rule(SchemaDrift("missing_optional"), stack=True),
        ),
    ),
}
"""Every preset by its name."""


def preset_rules(name: object) -> tuple[Rule, ...]:
    """Return the rules of a preset; raise FaultError, with all names, where there is none."""
    if not isinstance(name, str) or name not in FAULT_PRESETS:
        raise FaultError(f"there is no preset {name!r}: choose {', '.join(FAULT_PRESETS)}, or a file *.toml")
    return FAULT_PRESETS[name].rules


FORMAT_VERSION = 1
"""The version of the file format; a file may say ``version = 1``."""

_MAX_SCENARIO_BYTES = 1024 * 1024
_MAX_AT_S = 10**9
_SCENARIO_KEYS = frozenset({"version", "latency", "preset", "rules", "changes"})
_CHANGE_KEYS = frozenset({"at_s", "preset", "rules"})
_SourcedRule = tuple[str, Rule]


def parse_rules(value: object, *, source: str = "faults") -> tuple[Rule, ...]:
    """Return the rules that a declaration means, in whatever form.

    A `Rule`, an effect, an object of JSON (a rule or a scenario), the name of a preset, a scenario file (a `Path`, or a
    text that ends in ``.toml``), or a list of those. Raises FaultError, naming ``source``, entry, field and what it
    may be; also for rules that can't be together.
    """
    return _validate_together(_with_source(value, source))


def latency_rules(value: object) -> tuple[Rule, ...]:
    """Return the rules of a default latency, one for all operations or one for each that is named; None is none.

    A latency is milliseconds, a `Distribution` or its text; or a mapping of operations (also ``reads``, ``writes``,
    ``*``) to these. Raises FaultError.
    """
    if value is None:
        return ()
    by_operation = cast("Mapping[str, object]", value if isinstance(value, Mapping) else {"*": value})
    return tuple(
        Rule(
            effect=Latency(
                parse_distribution(
                    value, DEFAULT_LATENCY_NAME if operation == "*" else f"{DEFAULT_LATENCY_NAME} of {operation}"
                )
            ),
            operation=cast("RuleOperation", operation),  # checked by the rule
            name=DEFAULT_LATENCY_NAME,
        )
        for operation, value in by_operation.items()
    )


def _with_source(value: object, source: str) -> Iterator[_SourcedRule]:
    entries = [(source, value)]
    if isinstance(value, list | tuple):
        numbered = enumerate(cast("Sequence[object]", value), 1)
        entries = [(f"{source}, entry {number}", entry) for number, entry in numbered]
    for entry_source, entry in entries:
        with _error_prefix(entry_source):
            yield from ((entry_source, rule) for rule in _parse_entry(entry))


def _parse_entry(value: object) -> tuple[Rule, ...]:
    """Return the rules of anything but a list."""
    if isinstance(value, Path) or (isinstance(value, str) and value.endswith(".toml")):
        return load_scenario(value)
    if isinstance(value, str):
        return preset_rules(value)
    if isinstance(value, Mapping):
        members = cast("Mapping[str, object]", value)
        return parse_scenario(members) if _SCENARIO_KEYS.intersection(members) else (rule_from(members),)
    if not isinstance(value, Rule | Effect):
        expected = "a rule, an effect, an object of JSON, a preset's name, a scenario file, or a list of these"
        raise FaultError(f"{value!r} is a {type(value).__name__}: give {expected}")
    return (rule_from(value),)


def _validate_together(sourced_rules: Iterable[_SourcedRule]) -> tuple[Rule, ...]:
    """Return rules without their sources; raise FaultError if one conflicts with those before it."""
    engine, rules = FaultEngine(0), list[Rule]()
    for source, rule in sourced_rules:
        with _error_prefix(source):
            engine.add(rule)
        rules.append(rule)
    return tuple(rules)


@contextmanager
def _error_prefix(prefix: str) -> Generator[None]:
    """Put a prefix, if there is one, before the message of a FaultError."""
    try:
        yield
    except FaultError as error:
        raise FaultError(f"{prefix}: {error}" if prefix else str(error)) from None


# ------------------------------------------------------------ scenarios


def load_scenario(path: str | Path) -> tuple[Rule, ...]:
    """Return the rules of a scenario file.

    Raises FaultError, with the file's name in front, for one that can't be read, is no TOML, or is no scenario.
    """
    with _error_prefix(str(path)):
        try:
            with Path(path).open("rb") as file:
                data = file.read(_MAX_SCENARIO_BYTES + 1)
            document = tomllib.loads(data.decode("utf-8")) if len(data) <= _MAX_SCENARIO_BYTES else None
        except OSError as error:
            raise FaultError(f"can't be read: {error.strerror}") from None
        except (ValueError, RecursionError) as error:  # an integer of thousands of digits is no TOMLDecodeError
            raise FaultError(f"is not valid TOML: {error}") from None
        if document is None:
            raise FaultError(f"is over {_MAX_SCENARIO_BYTES} bytes")
        return parse_scenario(document)


def parse_scenario(document: Mapping[str, object]) -> tuple[Rule, ...]:
    """Return the rules of a scenario; raise FaultError, naming entry and field.

    ``preset`` and ``rules`` hold always, ``latency`` is the default's; ``changes`` have a ``preset`` and ``rules`` that
    hold from ``at_s``, in seconds of the sandbox's clock since it started, until the next change.
    """
    _check_keys(document, _SCENARIO_KEYS)
    version = document.get("version", FORMAT_VERSION)
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise FaultError(f"version is {version!r}: it must be {FORMAT_VERSION}")
    latency = [(DEFAULT_LATENCY_NAME, rule) for rule in latency_rules(document.get(DEFAULT_LATENCY_NAME))]
    return _validate_together([*_rules_in_table(document), *_rules_in_changes(document), *latency])


def _rules_in_table(table: Mapping[str, object], prefix: str = "") -> Iterator[_SourcedRule]:
    """Yield the rules of a table, without those of its changes."""
    if "preset" in table:
        with _error_prefix(f"{prefix}preset"):
            rules = preset_rules(table["preset"])
        yield from ((f"{prefix}preset", rule) for rule in rules)
    for source, members in _parse_tables(table, "rules", prefix):
        with _error_prefix(source):
            rule = rule_from(members)
        yield source, rule


def _rules_in_changes(document: Mapping[str, object]) -> Iterator[_SourcedRule]:
    tables = list(_parse_tables(document, "changes"))
    starts = [_parse_at_s(place, table) for place, table in tables]
    for (source, _), earlier, later in zip(tables[1:], starts, starts[1:], strict=False):
        if later <= earlier:
            raise FaultError(f"{source}: at_s is {later:g}: it must be after the {earlier:g} of the change before")
    for (source, table), window in zip(tables, pairwise([*starts, None]), strict=True):
        for rule_source, rule in _rules_in_table(table, f"{source}: "):
            if rule.during is not None:
                raise FaultError(f"{rule_source}: during is {rule.during!r}, but a change says when its rules hold")
            yield rule_source, replace(rule, during=window)


def _parse_at_s(source: str, table: Mapping[str, object]) -> float:
    with _error_prefix(source):
        _check_keys(table, _CHANGE_KEYS)
        if "at_s" not in table:
            raise FaultError("at_s is missing: it is in seconds since the sandbox started")
        check_number("at_s", table["at_s"], 0, _MAX_AT_S)
        return cast("float", table["at_s"])


def _parse_tables(
    table: Mapping[str, object], name: str, prefix: str = ""
) -> Iterator[tuple[str, Mapping[str, object]]]:
    entries = table.get(name, [])
    if not isinstance(entries, list | tuple):
        raise FaultError(f"{prefix}{name} is {entries!r}, a {type(entries).__name__}: it must be a list of tables")
    for number, entry in enumerate(cast("Sequence[object]", entries), 1):
        source = f"{prefix}{name}, entry {number}"
        if not isinstance(entry, Mapping):
            raise FaultError(f"{source}: {entry!r} is a {type(entry).__name__}: it must be a table")
        yield source, cast("Mapping[str, object]", entry)


def _check_keys(table: Mapping[str, object], allowed: Collection[str]) -> None:
    for key in table:
        if key not in allowed:
            raise FaultError(
                f"there is no {key!r} here{did_you_mean(key, allowed)} (there are: {', '.join(sorted(allowed))})"
            )
