"""Own the way of a rule to JSON and back, and from what else declares one; know nothing of what a word may be."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, replace
from datetime import datetime
from typing import Any, cast

from fake_credits.errors import did_you_mean
from fake_credits.faults.checks import FaultError, as_words, choice, shown
from fake_credits.faults.effects import EFFECTS, Effect
from fake_credits.faults.latency import Distribution
from fake_credits.faults.rule import OPERATION_WORDS, Rule

__all__ = ["rule_from", "rule_of_words", "rule_to_json", "waited_for"]


def rule_to_json(rule: Rule) -> dict[str, Any]:
    """Return a rule as JSON has it; a function is told by its name, and `rule_from` refuses that."""
    told = {"effect": rule.word, **_told(rule.effect)} if rule.effect is not None else {}
    own = _told(rule)
    own.pop("effect", None)
    if rule.where is not None:
        own["where"] = getattr(rule.where, "__qualname__", repr(rule.where))
    # An effect's attributes stand beside the rule's. Only the name of a gate has a namesake, and its rule has no name.
    return {**told, **own}


def _told(thing: Any) -> dict[str, Any]:
    return {
        spec.name: _jsonable(value) for spec in fields(thing) if (value := getattr(thing, spec.name)) != _default(spec)
    }


def _default(spec: "Field[Any]") -> Any:
    return spec.default_factory() if spec.default_factory is not MISSING else spec.default


def _jsonable(value: object) -> object:
    if isinstance(value, tuple):
        # An open end is left out: TOML has no null.
        return [_jsonable(part) for part in cast("tuple[object, ...]", value) if part is not None]
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, object]", value))
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Distribution) else value


def waited_for(rule: Rule) -> str:
    """Return which calls a rule is for, and when, for people."""
    told = {name: value for name, value in _told(rule).items() if name in _WAITED}
    operation = told.pop("operation", "any call")
    return f"{operation} with {as_words(told)}" if told else operation


_WORDS = tuple(spec.name for spec in fields(Rule) if spec.name != "effect")
_NOT_EMPTY: Mapping[str, object] = {"application": "", "user": "", "client": "", "reason": "", "header": {}}
_WAITED = frozenset(_WORDS) - {"phase", "script", "stack", "optional", "name"}


def rule_from(told: object, **words: Any) -> Rule:
    """Return a rule from itself, an effect, or an object of JSON, with more words of `Rule`.

    Raises FaultError for an effect, an attribute or a value that there is not.
    """
    _check_words(words, _WORDS)
    if isinstance(told, Rule):
        _check_once(_said(told), words)
        return replace(told, **words) if words else told
    if isinstance(told, Effect):
        return Rule(effect=told, **words)
    if not isinstance(told, Mapping):
        raise FaultError(f"a rule is {told!r}, a {type(told).__name__}: give an effect, a Rule or an object of JSON")
    effect, own = _read({str(name): value for name, value in cast("Mapping[object, object]", told).items()})
    _check_once(own, words)
    return Rule(effect=effect, **{**own, **words})


def rule_of_words(words: Mapping[str, Any]) -> Rule:
    """Return a rule from the words of `Rule` alone, such as a script; raise FaultError for one that there is not."""
    _check_words(words, ("effect", *_WORDS))
    return Rule(**words)


def _check_words(words: Mapping[str, object], known: Sequence[str]) -> None:
    for name in words:
        if name not in known:
            near = did_you_mean(name, known)
            raise FaultError(f"{name!r} is no word of a rule{near} (it has: {', '.join(known)})")
    _check_not_empty(words)


def _check_not_empty(words: Mapping[str, object]) -> None:
    """Refuse a criterion that would say nothing: of a variable that is empty by mistake comes a rule for every call.

    A word that chooses no calls may be empty: a name, a phase or a code of an effect is then the default, written out.
    """
    for name, empty in _NOT_EMPTY.items():
        if words.get(name) == empty:
            raise FaultError(f"{name} is {empty!r}, which is none: leave the word out where it may be any")


def _said(rule: Rule) -> dict[str, object]:
    """Return what a rule says by itself, beside what its effect lets it say anyway."""
    plain = Rule(effect=rule.effect, script=rule.script)
    own = {name: getattr(rule, name) for name in _WORDS}
    return {name: value for name, value in own.items() if value != getattr(plain, name) or (name == "script" and value)}


def _check_once(told: Mapping[str, object], words: Mapping[str, object]) -> None:
    """Refuse words beside a rule that say something else than it does; an operation may be one of its own."""
    for name in told.keys() & words.keys():
        inner, outer = told[name], words[name]
        if inner == outer or (name == "operation" and _is_part(outer, inner)):
            continue
        raise FaultError(f"{name} is {shown(inner)} in the rule and {shown(outer)} beside it: say it once")


def _is_part(narrow: object, wide: object) -> bool:
    """Tell whether the operations of a word are among those of another; what is no word is refused elsewhere."""
    known = isinstance(narrow, str) and isinstance(wide, str) and {narrow, wide} <= OPERATION_WORDS.keys()
    return not known or OPERATION_WORDS[cast("str", narrow)] <= OPERATION_WORDS[cast("str", wide)]


def _read(members: dict[str, Any]) -> tuple[Effect | None, dict[str, Any]]:
    """Return an effect and the words of its rule."""
    if "where" in members:
        raise FaultError("where is a function: such a rule can be declared in Python only")
    kind = _kind(members)
    known = () if kind is None else _attributes(kind)
    own = {name: value for name, value in members.items() if name in _WORDS and name not in known}
    rest = {name: value for name, value in members.items() if name not in own}
    for name in rest:
        if name not in known:
            near = did_you_mean(name, (*known, "effect", *_WORDS))
            raise FaultError(f"{name!r} is no attribute of {_shown(kind)} nor of a rule ({', '.join(_WORDS)}){near}")
    _check_not_empty(own)
    return None if kind is None else _effect(kind, rest), own


def _attributes(kind: type[Effect]) -> tuple[str, ...]:
    return tuple(spec.name for spec in fields(cast("Any", kind)))


def _shown(kind: type[Effect] | None) -> str:
    return "a script" if kind is None else f"{kind.word} (it has: {', '.join(_attributes(kind)) or 'none'})"


def _kind(members: dict[str, Any]) -> type[Effect] | None:
    """Take an effect's word from what is told, and return its class, or None for a script."""
    word = members.pop("effect", None)
    if word is not None:
        choice("effect", word, EFFECTS)
        return EFFECTS[word]
    if not members.get("script"):
        attributes = {name for each in EFFECTS.values() for name in _attributes(each)}
        _check_words({name: members[name] for name in members if name not in attributes}, ("effect", *_WORDS))
        raise FaultError(f"effect is missing: choose {', '.join(EFFECTS)}, or give a script")
    return None


def _effect(kind: type[Effect], members: dict[str, Any]) -> Effect:
    for spec in fields(cast("Any", kind)):
        if _default(spec) is MISSING and spec.name not in members:
            raise FaultError(f"{spec.name} is missing: {kind.word} needs it")
    return kind(**members)
