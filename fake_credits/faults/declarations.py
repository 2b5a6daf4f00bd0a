"""Declaring rules: ready-made ones, and rules from and to JSON."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, replace
from datetime import datetime
from typing import Any, cast, get_args

from fake_credits.errors import did_you_mean
from fake_credits.faults.effects import EFFECTS
from fake_credits.faults.effects.base import (
    CursorFault,
    Effect,
    FaultError,
    changed_fields,
    check_choice,
    default_of,
    explicit_fields,
    format_kwargs,
)
from fake_credits.faults.effects.connection import Close, CloseMode, Garbage, Hang, Reset, Truncate
from fake_credits.faults.effects.data import SchemaDriftKind
from fake_credits.faults.effects.responses import NotJson, Status
from fake_credits.faults.effects.timing import Distribution
from fake_credits.faults.rule import OPERATIONS_BY_NAME, SCRIPT_ACTIONS, Rule, RuleOperation
from fake_credits.text import short_repr

__all__ = [
    "RULE_SOURCES",
    "catalogue",
    "describe_match",
    "lost_response",
    "rule_from",
    "rule_to_json",
]

RULE_SOURCES = "an effect, a Rule or an object of JSON"
"""What `rule_from` accepts, for error messages."""

_RULE_FIELDS = tuple(spec.name for spec in fields(Rule) if spec.name != "effect")
_EMPTY_CRITERIA: Mapping[str, object] = {"application": "", "user": "", "client": "", "reason": "", "header": {}}
_MATCH_FIELDS = frozenset(_RULE_FIELDS) - {"phase", "script", "stack", "optional", "name"}


# ------------------------------------------------------------ ready-made rules

_RESPONSE_LOSING_EFFECTS = (Reset, Close, Hang, Status, NotJson, Truncate, Garbage)
_CATALOGUE_ARGUMENTS: Mapping[str, Sequence[tuple[Any, ...]]] = {
    "latency": [(1000,)],
    "status": [(500,), (503,)],
    "rate_limit": [(1, 1)],
    "stale_read": [(0, 1)],
    "late_write": [(1000,)],
    "schema_drift": [(kind,) for kind in get_args(SchemaDriftKind)],
    "bad_cursor": [(kind,) for kind in get_args(CursorFault)],
    "hold_at_gate": [],  # held calls need a test that releases them
    "unauthorized": [("revoked",), ("rotated",)],
}
"""The arguments of effects that need some or are listed several times; the others are listed once, without any."""


def catalogue(operation: RuleOperation) -> list[Rule]:
    """Return the faults that an operation can meet: each effect, with sensible attributes, in each of its phases.

    ``@pytest.mark.parametrize("rule", catalogue("createTransaction"))`` checks that an application survives them all.
    The order is stable. `HoldAtGate` is left out, as its test must release the gate; a rule with `Unauthorized`
    touches one kind of client only. ``operation`` is as in a rule. Raises FaultError for an unknown one.
    """
    check_choice("operation", operation, OPERATIONS_BY_NAME)
    effects = (
        effect_type(*arguments)
        for name, effect_type in EFFECTS.items()
        for arguments in _CATALOGUE_ARGUMENTS.get(name, [()])
    )
    return [
        Rule(effect, operation=operation, phase=phase)
        for effect in effects
        if effect.operations & OPERATIONS_BY_NAME[operation]
        for phase in effect.phases
    ]


def lost_response(then: Effect | CloseMode = "reset") -> Rule:
    """Return the fault that costs real money: the write is committed, and its client gets no response, or a wrong one.

    ``then`` is ``reset``, ``close`` or ``hang``, as words or effects, or another effect that loses the response:
    ``Status(502)``, ``NotJson()``, ``Truncate()``, ``Garbage()``. Raises FaultError for one that loses nothing.
    """
    effect = SCRIPT_ACTIONS.get(then) if isinstance(then, str) else then
    if not isinstance(effect, _RESPONSE_LOSING_EFFECTS):
        allowed = ", ".join(effect_type.effect_name for effect_type in _RESPONSE_LOSING_EFFECTS)
        raise FaultError(f"then is {short_repr(then)}, by which no answer is lost: choose {allowed}")
    return Rule(effect, operation="writes", phase="after")


# ------------------------------------------------------------ JSON


def rule_to_json(rule: Rule) -> dict[str, Any]:
    """Return a rule as JSON has it; a function is shown by its name, and `rule_from` refuses that."""
    # An effect's attributes stand beside the rule's. Only a gate's name is also a rule's, and its rule has no name.
    values = {**(changed_fields(rule.effect) if rule.effect else {}), **changed_fields(rule)}
    effect_name = {"effect": rule.word} if values.pop("effect", None) else {}
    return {**effect_name, **{name: _to_json(value) for name, value in values.items()}}


def _to_json(value: object) -> object:
    if isinstance(value, tuple):
        # An open end is left out: TOML has no null.
        return [_to_json(item) for item in cast("tuple[object, ...]", value) if item is not None]
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, object]", value))
    if isinstance(value, datetime):
        return value.isoformat()
    if callable(value):
        return getattr(value, "__qualname__", repr(value))
    return str(value) if isinstance(value, Distribution) else value


def describe_match(rule: Rule) -> str:
    """Return which calls a rule is for, and when, in words."""
    criteria = {name: _to_json(value) for name, value in changed_fields(rule).items() if name in _MATCH_FIELDS}
    operation = criteria.pop("operation", "any call")
    return f"{operation} with {format_kwargs(criteria)}" if criteria else str(operation)


def rule_from(source: object, **rule_fields: Any) -> Rule:
    """Return a rule from itself, an effect, or an object of JSON, with more fields of `Rule`; None is the fields alone.

    Raises FaultError for an effect, a field or a value that there is not.
    """
    if source is None:
        _check_field_names(rule_fields, ("effect", *_RULE_FIELDS))
        return Rule(**rule_fields)
    _check_field_names(rule_fields, _RULE_FIELDS)
    if isinstance(source, Effect):
        return Rule(source, **rule_fields)
    if isinstance(source, Rule):
        _check_conflicts(explicit_fields(source), rule_fields)
        return replace(source, **rule_fields) if rule_fields else source
    if not isinstance(source, Mapping):
        raise FaultError(f"a rule is {source!r}, a {type(source).__name__}: give {RULE_SOURCES}")
    effect, members = _parse_members(
        {str(name): value for name, value in cast("Mapping[object, object]", source).items()}
    )
    _check_conflicts(members, rule_fields)
    return Rule(effect, **{**members, **rule_fields})


def _check_field_names(kwargs: Mapping[str, object], allowed: Sequence[str]) -> None:
    for name in kwargs:
        if name not in allowed:
            hint = did_you_mean(name, allowed)
            raise FaultError(f"{name!r} is not a word of a rule{hint} (it has: {', '.join(allowed)})")
    _check_not_empty(kwargs)


def _check_not_empty(kwargs: Mapping[str, object]) -> None:
    """Refuse an empty criterion: a variable that is empty by mistake would make a rule for every call.

    A word that chooses no calls may be empty: a name, a phase or an effect's code is then the default, written out.
    """
    for name, empty in _EMPTY_CRITERIA.items():
        if kwargs.get(name) == empty:
            raise FaultError(f"{name} is {empty!r}, which is none: leave the word out where it may be any")


def _check_conflicts(rule_fields: Mapping[str, object], kwargs: Mapping[str, object]) -> None:
    """Refuse fields that contradict the rule they are given with; but an operation may narrow the rule's."""
    for name in rule_fields.keys() & kwargs.keys():
        inner, outer = rule_fields[name], kwargs[name]
        if inner != outer and not (name == "operation" and _is_operation_subset(outer, inner)):
            raise FaultError(
                f"{name} is {short_repr(inner)} in the rule and {short_repr(outer)} beside it: say it once"
            )


def _is_operation_subset(narrow: object, wide: object) -> bool:
    if not (isinstance(narrow, str) and isinstance(wide, str) and {narrow, wide} <= OPERATIONS_BY_NAME.keys()):
        return True  # refused where the rule is made
    return OPERATIONS_BY_NAME[narrow] <= OPERATIONS_BY_NAME[wide]


def _parse_members(members: dict[str, Any]) -> tuple[Effect | None, dict[str, Any]]:
    """Return the effect and the fields of the rule that a JSON object has."""
    if "where" in members:
        raise FaultError("where is a function: such a rule can be declared in Python only")
    effect_type = _pop_effect_type(members)
    if effect_type is None:
        _check_members(members, "a script", ())
        _check_not_empty(members)
        return None, members
    defaults = _attributes(effect_type)
    _check_members(members, f"{effect_type.effect_name} (it has: {', '.join(defaults) or 'none'})", defaults)
    attributes = {name: members.pop(name) for name in defaults if name in members}
    _check_not_empty(members)
    for name, default in defaults.items():
        if default is MISSING and name not in attributes:
            raise FaultError(f"{name} is missing: {effect_type.effect_name} needs it")
    return effect_type(**attributes), members


def _check_members(members: Iterable[str], noun: str, attributes: Iterable[str]) -> None:
    for name in members:
        if name not in (*attributes, *_RULE_FIELDS):
            hint = did_you_mean(name, (*attributes, "effect", *_RULE_FIELDS))
            raise FaultError(f"{name!r} is not an attribute of {noun} nor of a rule ({', '.join(_RULE_FIELDS)}){hint}")


def _pop_effect_type(members: dict[str, Any]) -> type[Effect] | None:
    """Remove the effect's name from the members of an object and return its class, or None for a script."""
    effect_name = members.pop("effect", None)
    if effect_name is not None:
        check_choice("effect", effect_name, EFFECTS)
        return EFFECTS[effect_name]
    if not members.get("script"):
        attributes = {name for effect_type in EFFECTS.values() for name in _attributes(effect_type)}
        others = {name: value for name, value in members.items() if name not in attributes}
        _check_field_names(others, ("effect", *_RULE_FIELDS))
        raise FaultError(f"effect is missing: choose {', '.join(EFFECTS)}, or give a script")
    return None


def _attributes(effect_type: type[Effect]) -> dict[str, Any]:
    return {field.name: default_of(field) for field in fields(cast("Any", effect_type))}
