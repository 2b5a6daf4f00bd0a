"""Own the way of a rule to JSON and back, and from what else declares one; know nothing of what a word may be."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, replace
from datetime import datetime
from typing import Any, cast

from fake_credits.errors import did_you_mean
from fake_credits.faults.checks import FaultError, check_choice, format_kwargs, short_repr
from fake_credits.faults.effects import EFFECTS, Effect
from fake_credits.faults.effects.timing import Distribution
from fake_credits.faults.rule import OPERATIONS_BY_NAME, Rule

__all__ = ["describe_match", "rule_from", "rule_from_kwargs", "rule_to_json"]


def rule_to_json(rule: Rule) -> dict[str, Any]:
    """Return a rule as JSON has it; a function is told by its name, and `rule_from` refuses that."""
    effect_members = {"effect": rule.word, **_to_dict(rule.effect)} if rule.effect is not None else {}
    rule_members = _to_dict(rule)
    rule_members.pop("effect", None)
    if rule.where is not None:
        rule_members["where"] = getattr(rule.where, "__qualname__", repr(rule.where))
    # An effect's attributes stand beside the rule's. Only the name of a gate has a namesake, and its rule has no name.
    return {**effect_members, **rule_members}


def _to_dict(instance: Any) -> dict[str, Any]:
    return {
        field.name: _to_json(value)
        for field in fields(instance)
        if (value := getattr(instance, field.name)) != _default_of(field)
    }


def _default_of(field: "Field[Any]") -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _to_json(value: object) -> object:
    if isinstance(value, tuple):
        # An open end is left out: TOML has no null.
        return [_to_json(item) for item in cast("tuple[object, ...]", value) if item is not None]
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, object]", value))
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Distribution) else value


def describe_match(rule: Rule) -> str:
    """Return which calls a rule is for, and when, for people."""
    criteria = {name: value for name, value in _to_dict(rule).items() if name in _MATCH_FIELDS}
    operation = criteria.pop("operation", "any call")
    return f"{operation} with {format_kwargs(criteria)}" if criteria else operation


_RULE_FIELDS = tuple(spec.name for spec in fields(Rule) if spec.name != "effect")
_EMPTY_CRITERIA: Mapping[str, object] = {"application": "", "user": "", "client": "", "reason": "", "header": {}}
_MATCH_FIELDS = frozenset(_RULE_FIELDS) - {"phase", "script", "stack", "optional", "name"}


def rule_from(source: object, **rule_fields: Any) -> Rule:
    """Return a rule from itself, an effect, or an object of JSON, with more words of `Rule`.

    Raises FaultError for an effect, an attribute or a value that there is not.
    """
    _check_field_names(rule_fields, _RULE_FIELDS)
    if isinstance(source, Rule):
        _check_conflicts(_explicit_fields(source), rule_fields)
        return replace(source, **rule_fields) if rule_fields else source
    if isinstance(source, Effect):
        return Rule(effect=source, **rule_fields)
    if not isinstance(source, Mapping):
        raise FaultError(
            f"a rule is {source!r}, a {type(source).__name__}: give an effect, a Rule or an object of JSON"
        )
    effect, members = _parse_members(
        {str(name): value for name, value in cast("Mapping[object, object]", source).items()}
    )
    _check_conflicts(members, rule_fields)
    return Rule(effect=effect, **{**members, **rule_fields})


def rule_from_kwargs(kwargs: Mapping[str, Any]) -> Rule:
    """Return a rule from the words of `Rule` alone, such as a script; raise FaultError for one that there is not."""
    _check_field_names(kwargs, ("effect", *_RULE_FIELDS))
    return Rule(**kwargs)


def _check_field_names(kwargs: Mapping[str, object], allowed: Sequence[str]) -> None:
    for name in kwargs:
        if name not in allowed:
            hint = did_you_mean(name, allowed)
            raise FaultError(f"{name!r} is no word of a rule{hint} (it has: {', '.join(allowed)})")
    _check_not_empty(kwargs)


def _check_not_empty(kwargs: Mapping[str, object]) -> None:
    """Refuse a criterion that would say nothing: of a variable that is empty by mistake comes a rule for every call.

    A word that chooses no calls may be empty: a name, a phase or a code of an effect is then the default, written out.
    """
    for name, empty in _EMPTY_CRITERIA.items():
        if kwargs.get(name) == empty:
            raise FaultError(f"{name} is {empty!r}, which is none: leave the word out where it may be any")


def _explicit_fields(rule: Rule) -> dict[str, object]:
    """Return what a rule says by itself, beside what its effect lets it say anyway."""
    defaults = Rule(effect=rule.effect, script=rule.script)
    values = {name: getattr(rule, name) for name in _RULE_FIELDS}
    return {
        name: value
        for name, value in values.items()
        if value != getattr(defaults, name) or (name == "script" and value)
    }


def _check_conflicts(rule_fields: Mapping[str, object], kwargs: Mapping[str, object]) -> None:
    """Refuse words beside a rule that say something else than it does; an operation may be one of its own."""
    for name in rule_fields.keys() & kwargs.keys():
        inner, outer = rule_fields[name], kwargs[name]
        if inner == outer or (name == "operation" and _is_operation_subset(outer, inner)):
            continue
        raise FaultError(f"{name} is {short_repr(inner)} in the rule and {short_repr(outer)} beside it: say it once")


def _is_operation_subset(narrow: object, wide: object) -> bool:
    """Tell whether the operations of a word are among those of another; what is no word is refused elsewhere."""
    are_operations = isinstance(narrow, str) and isinstance(wide, str) and {narrow, wide} <= OPERATIONS_BY_NAME.keys()
    return not are_operations or OPERATIONS_BY_NAME[cast("str", narrow)] <= OPERATIONS_BY_NAME[cast("str", wide)]


def _parse_members(members: dict[str, Any]) -> tuple[Effect | None, dict[str, Any]]:
    """Return an effect and the words of its rule."""
    if "where" in members:
        raise FaultError("where is a function: such a rule can be declared in Python only")
    effect_type = _pop_effect_type(members)
    attributes = () if effect_type is None else _attribute_names(effect_type)
    rule_fields = {name: value for name, value in members.items() if name in _RULE_FIELDS and name not in attributes}
    effect_fields = {name: value for name, value in members.items() if name not in rule_fields}
    for name in effect_fields:
        if name not in attributes:
            hint = did_you_mean(name, (*attributes, "effect", *_RULE_FIELDS))
            raise FaultError(
                f"{name!r} is no attribute of {_describe(effect_type)} nor of a rule ({', '.join(_RULE_FIELDS)}){hint}"
            )
    _check_not_empty(rule_fields)
    return None if effect_type is None else _build_effect(effect_type, effect_fields), rule_fields


def _attribute_names(effect_type: type[Effect]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(cast("Any", effect_type)))


def _describe(effect_type: type[Effect] | None) -> str:
    return (
        "a script"
        if effect_type is None
        else f"{effect_type.effect_name} (it has: {', '.join(_attribute_names(effect_type)) or 'none'})"
    )


def _pop_effect_type(members: dict[str, Any]) -> type[Effect] | None:
    """Take an effect's word from what is told, and return its class, or None for a script."""
    effect_name = members.pop("effect", None)
    if effect_name is not None:
        check_choice("effect", effect_name, EFFECTS)
        return EFFECTS[effect_name]
    if not members.get("script"):
        attributes = {name for effect_type in EFFECTS.values() for name in _attribute_names(effect_type)}
        _check_field_names(
            {name: members[name] for name in members if name not in attributes}, ("effect", *_RULE_FIELDS)
        )
        raise FaultError(f"effect is missing: choose {', '.join(EFFECTS)}, or give a script")
    return None


def _build_effect(effect_type: type[Effect], members: dict[str, Any]) -> Effect:
    for field in fields(cast("Any", effect_type)):
        if _default_of(field) is MISSING and field.name not in members:
            raise FaultError(f"{field.name} is missing: {effect_type.effect_name} needs it")
    return effect_type(**members)
