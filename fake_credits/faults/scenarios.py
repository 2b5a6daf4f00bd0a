"""Presets and scenario files: named lists of rules, built in or read from TOML."""

import tomllib
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import cast

import msgspec

from fake_credits.contract.types import OperationSelector
from fake_credits.faults.declarations import call_hint, effect_hint, lost_response, rule_from
from fake_credits.faults.effects.base import Effect, FaultError, check_number, invalid_value, suggest_name
from fake_credits.faults.effects.connection import Close, Reset, Truncate
from fake_credits.faults.effects.data import SchemaDrift, StaleRead
from fake_credits.faults.effects.responses import NotJson, RateLimit, Status
from fake_credits.faults.effects.timing import Latency, Lognormal, parse_distribution
from fake_credits.faults.engine import FaultEngine
from fake_credits.faults.rule import DEFAULT_LATENCY_NAME, Rule


def as_conditions(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Return the rules with ``optional`` set, except on default latencies, so that unused ones don't fail the test."""
    return tuple(rule if rule.name == DEFAULT_LATENCY_NAME else replace(rule, optional=True) for rule in rules)


class FaultPreset(msgspec.Struct, frozen=True):
    """A list of optional rules, with a one-sentence description."""

    description: str
    rules: tuple[Rule, ...]

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "rules", as_conditions(self.rules))


FAULT_PRESETS: Mapping[str, FaultPreset] = {
    "flaky": FaultPreset(
        "5% of calls fail: 3% with 503, 1% with a reset before they take effect and 1% with a reset afterwards.",
        (
            Rule(Status(503), probability=0.03),
            Rule(Reset(), probability=0.01),
            Rule(Reset(), phase="after", probability=0.01),
        ),
    ),
    "slow": FaultPreset(
        "Calls take a median of 300 ms, and 1% take 3 s or more.",
        (Rule(Latency(Lognormal(300, 3000))),),
    ),
    "brownout": FaultPreset(
        "Overload: calls take a median of 1 s and at most 10 s; 25% get 503 with Retry-After 5, and 5% get 504.",
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
        "10 calls are allowed in any 10 s; further calls get 429 with Retry-After.",
        (Rule(RateLimit(limit=10, window_s=10)),),
    ),
    "lost_responses": FaultPreset(
        "20% of writes take effect but lose their responses: 10% to a reset, 5% to a close and 5% to a 504.",
        (
            rule_from(lost_response(), probability=0.1),
            rule_from(lost_response(Close()), probability=0.05),
            rule_from(lost_response(Status(504)), probability=0.05),
        ),
    ),
    "stale_replica": FaultPreset(
        "The balance and history lack the writes from the last 2 s.",
        (Rule(StaleRead(by_ms=2000)),),
    ),
    "bad_proxy": FaultPreset(
        "A proxy breaks 10% of responses: 5% HTML with 502, 2% empty, 1% with a BOM, 1% cut off and 1% missing.",
        (
            Rule(NotJson(), probability=0.05),
            Rule(NotJson(502, "empty"), probability=0.02),
            Rule(NotJson(502, "bom"), probability=0.01),
            Rule(Truncate(), probability=0.01),
            Rule(Close(), probability=0.01),
        ),
    ),
    "version_ahead": FaultPreset(
        "Responses have new members and reasons, null for absent members, and no createdAt.",
        (
            Rule(SchemaDrift("extra_field"), stack=True),
            Rule(SchemaDrift("unknown_reason"), stack=True),
            Rule(SchemaDrift("null_for_absent"), stack=True),
            Rule(SchemaDrift("missing_optional"), stack=True),
        ),
    ),
}
"""The built-in presets, by name."""


def preset_rules(name: object) -> tuple[Rule, ...]:
    """Return the rules of a preset; for an unknown name, raise FaultError, which lists all names."""
    if not isinstance(name, str) or name not in FAULT_PRESETS:
        hint = effect_hint(name) or suggest_name(str(name), FAULT_PRESETS, prefix="; ")
        raise FaultError(f"unknown preset {name!r}: use {', '.join(FAULT_PRESETS)} or a *.toml file{hint}")
    return FAULT_PRESETS[name].rules


FORMAT_VERSION = 1
"""The version of the file format; a file may declare ``version = 1``."""

_MAX_SCENARIO_BYTES = 1024 * 1024
_MAX_AT_S = 10**9
_SCENARIO_KEYS = frozenset({"version", "latency", "preset", "rules", "changes"})
_CHANGE_KEYS = frozenset({"at_s", "preset", "rules"})
_SourcedRule = tuple[str, Rule]


def parse_rules(value: object, *, source: str = "faults") -> tuple[Rule, ...]:
    """Return the rules declared by ``value``, which may have any of several forms.

    The forms are a `Rule`, an effect, a JSON object (a rule or a scenario), the name of a preset, a scenario file (a
    `Path`, or a string that ends in ``.toml``), and a list of these. Rules of presets and scenarios are optional.
    Raises FaultError, which names the source, entry and field, for an invalid rule and for rules that conflict.
    """
    return _validate_together(_with_source(value, source))


def latency_rules(value: object) -> tuple[Rule, ...]:
    """Return the rules that apply a default latency: one for all operations, or one for each key of a mapping.

    ``value`` is a number of milliseconds, a `Distribution`, a string that describes one, or a mapping from operations
    (or ``reads``, ``writes``, ``*``) to any of these. None means no latency. Raises FaultError for anything else.
    """
    if value is None:
        return ()
    rules: list[Rule] = []
    by_operation = cast("Mapping[OperationSelector, object]", value if isinstance(value, Mapping) else {"*": value})
    for operation, delay in by_operation.items():
        field = DEFAULT_LATENCY_NAME if operation == "*" else f"{DEFAULT_LATENCY_NAME} of {operation}"
        effect = Latency(parse_distribution(delay, field))
        with _error_prefix(DEFAULT_LATENCY_NAME):
            rules.append(Rule(effect, operation=operation, name=DEFAULT_LATENCY_NAME))
    return tuple(rules)


def _with_source(value: object, source: str) -> Iterator[_SourcedRule]:
    entries = [(source, value)]
    if isinstance(value, list | tuple):
        numbered = enumerate(cast("Sequence[object]", value), 1)
        entries = [(f"{source}, entry {number}", entry) for number, entry in numbered]
    for entry_source, entry in entries:
        with _error_prefix(entry_source):
            yield from ((entry_source, rule) for rule in _parse_entry(entry))


def _parse_entry(value: object) -> tuple[Rule, ...]:
    """Return the rules declared by a value that is not a list."""
    if isinstance(value, Path) or (isinstance(value, str) and value.endswith(".toml")):
        return load_scenario(value)
    if isinstance(value, str):
        return preset_rules(value)
    if isinstance(value, Mapping) and _SCENARIO_KEYS.intersection(cast("Mapping[str, object]", value)):
        return parse_scenario(cast("Mapping[str, object]", value))
    if not isinstance(value, Rule | Effect | Mapping):
        expected = "an effect, a rule, a JSON object, the name of a preset, a scenario file or a list of these"
        raise invalid_value("the fault", value, f"it must be {expected}{call_hint(value)}")
    return (rule_from(cast("object", value)),)


def _validate_together(sourced_rules: Iterable[_SourcedRule]) -> tuple[Rule, ...]:
    """Return the rules without their sources; raise FaultError if one conflicts with an earlier one."""
    engine, rules = FaultEngine(0), list[Rule]()
    for source, rule in sourced_rules:
        with _error_prefix(source):
            engine.add(rule)
        rules.append(rule)
    return tuple(rules)


@contextmanager
def _error_prefix(prefix: str) -> Generator[None]:
    """Prefix the message of a FaultError raised in the block, unless the prefix is empty."""
    try:
        yield
    except FaultError as error:
        raise FaultError(f"{prefix}: {error}" if prefix else str(error)) from None


# ------------------------------------------------------------ scenarios


def load_scenario(path: str | Path) -> tuple[Rule, ...]:
    """Return the rules of a scenario file.

    Raises FaultError, with a message that starts with the path, if the file can't be read, is not TOML or is not a
    valid scenario.
    """
    with _error_prefix(str(path)):
        try:
            with Path(path).open("rb") as file:
                data = file.read(_MAX_SCENARIO_BYTES + 1)
            document = tomllib.loads(data.decode("utf-8")) if len(data) <= _MAX_SCENARIO_BYTES else None
        except OSError as error:
            raise FaultError(f"the file can't be read: {error.strerror}") from None
        except (ValueError, RecursionError) as error:  # ValueError: also raised for an integer with thousands of digits
            raise FaultError(f"not valid TOML: {error}") from None
        if document is None:
            raise FaultError(f"the file is larger than {_MAX_SCENARIO_BYTES} bytes")
        return parse_scenario(document)


def parse_scenario(document: Mapping[str, object]) -> tuple[Rule, ...]:
    """Return the rules of a scenario; if it is invalid, raise FaultError, which names the entry and field.

    ``preset`` and ``rules`` always apply, and ``latency`` is the default latency. Each of the ``changes`` can have a
    ``preset`` and ``rules``, which apply from ``at_s``, in seconds since the sandbox started, until the next change.
    """
    _check_keys(document, _SCENARIO_KEYS)
    version = document.get("version", FORMAT_VERSION)
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise invalid_value("version", version, f"it must be {FORMAT_VERSION}")
    latency = [(DEFAULT_LATENCY_NAME, rule) for rule in latency_rules(document.get(DEFAULT_LATENCY_NAME))]
    return as_conditions(_validate_together([*_rules_in_table(document), *_rules_in_changes(document), *latency]))


def _rules_in_table(table: Mapping[str, object], prefix: str = "") -> Iterator[_SourcedRule]:
    """Yield the rules of a table, except those of its changes."""
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
            raise FaultError(
                f"{source}: at_s is {later:g}: it must be greater than the previous change's at_s ({earlier:g})"
            )
    for (source, table), window in zip(tables, pairwise([*starts, None]), strict=True):
        for rule_source, rule in _rules_in_table(table, f"{source}: "):
            if rule.during is not None:
                raise FaultError(
                    f"{rule_source}: during can't be used in a change, because at_s says when its rules apply"
                )
            yield rule_source, replace(rule, during=window)


def _parse_at_s(source: str, table: Mapping[str, object]) -> float:
    with _error_prefix(source):
        _check_keys(table, _CHANGE_KEYS)
        if "at_s" not in table:
            raise FaultError("at_s is missing: add it, in seconds since the sandbox started")
        check_number("at_s", table["at_s"], 0, _MAX_AT_S)
        return cast("float", table["at_s"])


def _parse_tables(
    table: Mapping[str, object], name: str, prefix: str = ""
) -> Iterator[tuple[str, Mapping[str, object]]]:
    entries = table.get(name, [])
    if not isinstance(entries, list | tuple):
        raise invalid_value(f"{prefix}{name}", entries, "it must be a list")
    for number, entry in enumerate(cast("Sequence[object]", entries), 1):
        source = f"{prefix}{name}, entry {number}"
        if not isinstance(entry, Mapping):
            raise invalid_value(source, entry, "it must be a table or an object")
        yield source, cast("Mapping[str, object]", entry)


def _check_keys(table: Mapping[str, object], allowed: Collection[str]) -> None:
    for key in table:
        if key not in allowed:
            known = ", ".join(sorted(allowed))
            raise FaultError(f"unknown key {key!r}{suggest_name(key, allowed)} (known: {known})")
