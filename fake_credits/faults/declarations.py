"""Ready-made rules, and the conversion of rules to and from JSON."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, fields, replace
from datetime import datetime
from typing import Any, cast, get_args

from fake_credits.contract.types import OPERATIONS_BY_NAME, OperationSelector, normalize_operation
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
    invalid_value,
    suggest_name,
)
from fake_credits.faults.effects.connection import Close, CloseMode, Garbage, Hang, Reset, Truncate
from fake_credits.faults.effects.data import SchemaDriftKind
from fake_credits.faults.effects.responses import NotJson, Status, Unauthorized
from fake_credits.faults.effects.timing import Distribution
from fake_credits.faults.rule import SCRIPT_ACTIONS, Rule
from fake_credits.text import short_repr

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
"""The arguments of each effect's catalogue entries; an effect that isn't listed has one entry, without arguments."""


def catalogue(operation: OperationSelector) -> list[Rule]:
    """Return the faults that can hit an operation: each effect, with typical attributes, in each of its phases.

    With ``@pytest.mark.parametrize("rule", catalogue("createTransaction"))``, a test can check that an application
    survives each of them. The order is stable. `HoldAtGate` is left out, because the test must release the gate; a rule
    with `Unauthorized` is optional, because it affects only one kind of client. ``operation`` takes the same values as
    in a rule. Raises FaultError for any other value.
    """
    operation = cast("OperationSelector", normalize_operation(operation))
    check_choice("operation", operation, OPERATIONS_BY_NAME)
    effects = (
        effect_type(*arguments)
        for name, effect_type in EFFECTS.items()
        for arguments in _CATALOGUE_ARGUMENTS.get(name, [()])
    )
    return [
        Rule(effect, operation=operation, phase=phase, optional=isinstance(effect, Unauthorized))
        for effect in effects
        if effect.operations & OPERATIONS_BY_NAME[operation]
        for phase in effect.phases
    ]


def lost_response(then: Effect | CloseMode = "reset") -> Rule:
    """Return the fault that costs real money: the write is committed, but the client gets no usable response.

    ``then`` is ``"reset"``, ``"close"`` or ``"hang"``, the corresponding effect, or another effect that loses the
    response, such as ``Status(502)``, ``NotJson()``, ``Truncate()`` or ``Garbage()``. Raises FaultError for anything
    else.
    """
    effect = SCRIPT_ACTIONS.get(then) if isinstance(then, str) else then
    if not isinstance(effect, _RESPONSE_LOSING_EFFECTS):
        allowed = ", ".join(effect_type.effect_name for effect_type in _RESPONSE_LOSING_EFFECTS)
        raise invalid_value("then", then, f"it must be an effect that loses the response: {allowed}")
    return Rule(effect, operation="writes", phase="after")


# ------------------------------------------------------------ JSON


def rule_to_json(rule: Rule) -> dict[str, Any]:
    """Return a rule as a JSON object; a function is replaced by its name, which `rule_from` rejects."""
    # An effect's attributes and the rule's fields share one object. Only HoldAtGate's `name` could clash, but a rule
    # with that effect can't have a name.
    values = {**(changed_fields(rule.effect) if rule.effect else {}), **changed_fields(rule)}
    effect_name = {"effect": rule.word} if values.pop("effect", None) else {}
    return {**effect_name, **{name: _to_json(value) for name, value in values.items()}}


def _to_json(value: object) -> object:
    if isinstance(value, tuple):
        # The open end of a period is left out, because TOML has no null.
        return [_to_json(item) for item in cast("tuple[object, ...]", value) if item is not None]
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, object]", value))
    if isinstance(value, datetime):
        return value.isoformat()
    if callable(value):
        return getattr(value, "__qualname__", repr(value))
    return str(value) if isinstance(value, Distribution) else value


def describe_match(rule: Rule) -> str:
    """Describe which calls a rule matches."""
    criteria = {name: _to_json(value) for name, value in changed_fields(rule).items() if name in _MATCH_FIELDS}
    operation = criteria.pop("operation", "any call")
    return f"{operation} with {format_kwargs(criteria)}" if criteria else str(operation)


def effect_hint(name: object) -> str:
    """Return a hint on how to write the effect called ``name``, or an empty string if there is no such effect."""
    if not isinstance(name, str) or name not in EFFECTS:
        return ""
    return f"; write the effect as {EFFECTS[name].__name__}(...) or {{'effect': {name!r}}}"


def call_hint(value: object) -> str:
    """Return a hint to call ``value`` if it is the class of an effect, `Rule` or `lost_response`, else ""."""
    is_class = isinstance(value, type) and issubclass(value, Effect | Rule)
    if value is not lost_response and not is_class:
        return ""
    return f"; did you mean {cast('Any', value).__name__}({'...' if is_class else ''})?"


def rule_from(source: object, **rule_fields: Any) -> Rule:
    """Return a rule built from a `Rule`, an effect, a JSON object or None, plus further fields.

    Raises FaultError for an unknown effect or field and for an invalid value.
    """
    _check_field_names(rule_fields, ("effect", *_RULE_FIELDS) if source is None else _RULE_FIELDS)
    _check_not_empty(rule_fields)
    if source is None:
        return Rule(**rule_fields)
    if isinstance(source, Effect):
        return Rule(source, **rule_fields)
    if isinstance(source, Rule):
        _check_conflicts(explicit_fields(source), rule_fields)
        return replace(source, **rule_fields) if rule_fields else source
    if not isinstance(source, Mapping):
        expected = "it must be an effect, a Rule or a JSON object"
        raise invalid_value("the rule", source, f"{expected}{call_hint(source)}")
    members: dict[str, Any] = {str(name): value for name, value in cast("Mapping[object, object]", source).items()}
    effect = _pop_effect(members)
    _check_conflicts(members, rule_fields)
    return Rule(effect, **{**members, **rule_fields})


def _pop_effect(members: dict[str, Any]) -> Effect | None:
    """Remove the effect and its attributes from a JSON object; return the effect, or None if a script replaces it."""
    if "where" in members:
        raise FaultError("'where' is a function, so JSON and TOML can't express it: declare the rule in Python")
    _check_not_empty(members)
    name = members.pop("effect", None)
    if name is None:
        is_missing = not members.get("script")
        # If the object has an attribute of some effect, report the missing effect, not an unknown field.
        known = {attribute for effect_type in EFFECTS.values() for attribute in _attributes(effect_type)}
        _check_field_names(members, ("effect", *_RULE_FIELDS), known if is_missing else ())
        if is_missing:
            raise FaultError(f"effect is missing: add one of {', '.join(EFFECTS)}, or a script")
        return None
    check_choice("effect", name, EFFECTS)
    attributes = _attributes(EFFECTS[name])
    _check_field_names(members, (*attributes, *_RULE_FIELDS), noun=f"a rule with {name}")
    for attribute, default in attributes.items():
        if default is MISSING and attribute not in members:
            raise FaultError(f"{attribute} is missing: the effect {name!r} requires it")
    return EFFECTS[name](**{attribute: members.pop(attribute) for attribute in attributes if attribute in members})


def _attributes(effect_type: type[Effect]) -> dict[str, Any]:
    return {field.name: default_of(field) for field in fields(cast("Any", effect_type))}


def _check_field_names(
    kwargs: Mapping[str, object], known: Sequence[str], ignored: Collection[str] = (), noun: str = "a rule"
) -> None:
    for name in kwargs:
        if name not in known and name not in ignored:
            raise FaultError(f"unknown field {name!r}{suggest_name(name, known)} ({noun} has: {', '.join(known)})")


def _check_not_empty(kwargs: Mapping[str, object]) -> None:
    """Reject an empty criterion, because a variable that is empty by mistake would make the rule match every call."""
    for name, empty in _EMPTY_CRITERIA.items():
        if kwargs.get(name) == empty:
            raise FaultError(f"{name} is empty: omit it to match any {name}")


def _check_conflicts(rule_fields: Mapping[str, object], kwargs: Mapping[str, object]) -> None:
    """Reject keyword arguments that contradict the rule; ``operation`` may narrow the rule's operations."""
    for name in rule_fields.keys() & kwargs.keys():
        inner, outer = rule_fields[name], kwargs[name]
        is_conflict = inner != outer
        if name == "operation":  # unknown operations are ignored here, because Rule rejects them
            inner, outer = normalize_operation(inner), normalize_operation(outer)
            wide, narrow = OPERATIONS_BY_NAME.get(str(inner)), OPERATIONS_BY_NAME.get(str(outer))
            is_conflict = wide is not None and narrow is not None and not narrow <= wide
        if is_conflict:
            raise FaultError(
                f"{name} is set twice: to {short_repr(inner)} in the rule and to {short_repr(outer)} as an argument"
            )
