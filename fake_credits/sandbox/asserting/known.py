"""Own which codes, causes and rules a sandbox's exchanges can have; know neither journal nor comparing.

A misspelt one is refused: a test that asserts its absence would never fail.
"""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from fake_credits.auth.whys import AUTH_WHYS
from fake_credits.errors import ERRORS, did_you_mean
from fake_credits.faults.rule import Rule, script_effect
from fake_credits.journal import Entry
from fake_credits.sandbox.asserting.call import Call

__all__ = ["Declared"]

_DECLARED_LIMIT = 10_000
_CAUSES = frozenset({"", *(error.cause for error in ERRORS.values() if error.cause != "auth")})
_AUTH = frozenset(f"auth:{why}" for why in AUTH_WHYS)


class Declared:
    """Remember the rules that a sandbox has had, the last 10,000, and the codes that they can give."""

    def __init__(self) -> None:
        self._codes: dict[str, frozenset[str]] = {}

    def __repr__(self) -> str:
        return f"<Declared: {len(self._codes)} rules>"

    def add(self, name: str, rule: Rule) -> None:
        """Remember a rule, and its codes."""
        effects = [rule.effect, *map(script_effect, rule.script)]
        self._codes[name] = frozenset(str(getattr(effect, "code", "")) for effect in effects)
        if len(self._codes) > _DECLARED_LIMIT:
            del self._codes[next(iter(self._codes))]

    def check(self, call: Call, entries: Callable[[], Iterable[Entry]]) -> None:
        """Refuse a call with a code, a cause or a rule that no exchange here can have; raise ValueError.

        What one of the entries has is known.
        """
        for criterion in call.criteria:
            known = _KINDS.get(criterion.name, _nothing)(self._codes)
            wanted = str(criterion.wanted)
            parts = {wanted} if criterion.name != "rule" or wanted in known else {*wanted.split("+")}
            if known and not known.issuperset(parts) and not any(map(criterion.holds, entries())):
                raise ValueError(_refusal(criterion.name, min(parts - known), known))


def _codes(rules: Mapping[str, frozenset[str]]) -> frozenset[str]:
    return frozenset(ERRORS).union(("",), *rules.values())


def _causes(rules: Mapping[str, frozenset[str]]) -> frozenset[str]:
    return _CAUSES | _AUTH | {f"fault:{rule}" for rule in rules}


def _nothing(_rules: Mapping[str, frozenset[str]]) -> frozenset[str]:
    return frozenset()


def _rules(rules: Mapping[str, frozenset[str]]) -> frozenset[str]:
    return frozenset(("", *rules))


_KINDS: Mapping[str, Callable[[Mapping[str, frozenset[str]]], frozenset[str]]] = MappingProxyType(
    {"code": _codes, "cause": _causes, "rule": _rules}
)


def _refusal(name: str, wanted: str, known: frozenset[str]) -> str:
    hint = did_you_mean(wanted, known, before=", ")
    there_are = ", ".join(sorted(known - _AUTH - {""})) or "none"
    more = ", auth:<why>" if name == "cause" else ""
    return f"no call here can have the {name} {wanted!r}{hint} (there are: {there_are}{more})"
