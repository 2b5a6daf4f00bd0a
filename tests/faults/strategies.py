"""Hypothesis strategies for effects and rules, and a TOML writer."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast, get_args

from hypothesis import strategies as st

from fake_credits.contract.types import OPERATIONS_BY_NAME
from fake_credits.faults import (
    EFFECTS,
    BadCursor,
    Close,
    Drip,
    DuplicateWrite,
    Effect,
    FaultError,
    Fixed,
    Garbage,
    Hang,
    HoldAtGate,
    Latency,
    LateWrite,
    Lognormal,
    NotJson,
    RateLimit,
    Reset,
    Rule,
    SchemaDrift,
    StaleRead,
    Status,
    Truncate,
    Unauthorized,
    Uniform,
)
from fake_credits.faults.effects.base import CursorFault
from fake_credits.faults.effects.connection import CloseMode
from fake_credits.faults.effects.data import SchemaDriftKind

__all__ = ["EFFECT_STRATEGIES", "distributions", "effects", "rules", "to_toml"]

_ms = st.floats(0, 60_000) | st.integers(0, 60_000)
_endings = st.sampled_from(get_args(CloseMode))

distributions = (
    st.builds(Fixed, _ms)
    | st.tuples(_ms, _ms).map(lambda ends: Uniform(min(ends), max(ends)))
    | st.lists(st.floats(0.001, 60_000), min_size=3, max_size=3).map(lambda values: Lognormal(*sorted(values)))
)

EFFECT_STRATEGIES: Mapping[str, st.SearchStrategy[Effect]] = {
    "latency": st.builds(Latency, distributions),
    "status": st.builds(
        Status,
        st.integers(400, 599),
        code=st.sampled_from(["", "rate_limited", "forbidden", "teapot"]),
        retry_after_s=st.integers(0, 86_400) | st.floats(0, 86_400),
        retry_after_form=st.sampled_from(["", "seconds", "date", "garbage", "absent"]),
    ),
    "rate_limit": st.builds(RateLimit, st.integers(0, 1_000_000), st.floats(0.001, 86_400)),
    "reset": st.just(Reset()),
    "close": st.just(Close()),
    "hang": st.just(Hang()),
    "truncate": st.builds(Truncate, at_bytes=st.integers(0, 2**31), then=_endings)
    | st.builds(Truncate, fraction=st.floats(0, 1), then=_endings),
    "drip": st.builds(Drip, st.integers(1, 1000), _ms),
    "garbage": st.just(Garbage()),
    "not_json": st.builds(
        NotJson, st.sampled_from([200, 502]), st.sampled_from(["html", "empty", "wrong_content_type", "bom"])
    ),
    "stale_read": st.builds(StaleRead, by_ms=st.integers(1, 86_400_000))
    | st.builds(StaleRead, by_writes=st.integers(1, 1_000_000)),
    "duplicate_write": st.just(DuplicateWrite()),
    "late_write": st.builds(LateWrite, st.integers(0, 86_400_000)),
    "schema_drift": st.builds(SchemaDrift, st.sampled_from(get_args(SchemaDriftKind))),
    "bad_cursor": st.builds(BadCursor, st.sampled_from(get_args(CursorFault))),
    "hold_at_gate": st.builds(HoldAtGate, st.text(st.characters(codec="utf-8"), min_size=1, max_size=64)),
    "unauthorized": st.builds(Unauthorized, st.sampled_from(["revoked", "rotated"]))
    | st.builds(Unauthorized, clock_skew_s=st.integers(1, 86_400)),
}
"""The strategy for each effect, by name."""

effects = st.sampled_from(list(EFFECTS)).flatmap(EFFECT_STRATEGIES.__getitem__)

_counts = st.none() | st.integers(1, 10**9)
_texts = st.just("") | st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
_moments = st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
_windows = (
    st.none()
    | st.tuples(st.none() | st.integers(0, 99), st.none() | st.floats(100, 10**9))
    | _moments.map(lambda start: (start, start + timedelta(hours=1)))
    | _moments.map(lambda end: (5, end))
)
_scripts = st.lists(st.sampled_from([400, 503, 599, "ok", "reset", "close", "hang"]), min_size=1, max_size=5)

_OPTIONAL_FIELDS: Mapping[str, st.SearchStrategy[Any]] = {
    "operation": st.sampled_from(list(OPERATIONS_BY_NAME)),
    "application": _texts,
    "user": _texts,
    "client": st.sampled_from(["", "server", "user"]),
    "reason": st.sampled_from(["", "grant", "consume", "refund"]),
    "header": st.dictionaries(st.sampled_from(["X-Run", "traceparent"]), st.text("az \t\xe9~", max_size=5)),
    "at": _counts,
    "nth": _counts,
    "first": _counts,
    "every": _counts,
    "after": st.none() | st.integers(0, 10**9),
    "times": _counts,
    "per": st.sampled_from(["", "user"]),
    "probability": st.none() | st.floats(0, 1) | st.sampled_from([0, 1]),
    "during": _windows,
    "stack": st.none() | st.booleans(),
    "optional": st.booleans(),
    "name": st.just("") | st.text("az09#-!~", min_size=1, max_size=64),
}
"""The strategies for the serializable fields of a rule, except effect, script and phase."""

_COUNTS = ("at", "nth", "first", "every", "after", "times")


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    """Draw a valid rule, without the fields that do not fit its effect."""
    fields = {name: draw(strategy) for name, strategy in _OPTIONAL_FIELDS.items() if draw(st.booleans())}
    effect = draw(st.none() | effects)
    phases = ("before", "after") if effect is None else effect.phases
    effect_fields: dict[str, Any] = {"script": draw(_scripts)} if effect is None else {"effect": effect}
    effect_fields["phase"] = draw(st.sampled_from(["", *phases]))
    for name in ("", "operation", "client", "name", "reason", "user", "per", *_COUNTS):
        fields.pop(name, None)
        try:
            return Rule(**effect_fields, **fields)
        except FaultError:
            continue
    raise AssertionError(fields)


def to_toml(value: object) -> str:
    """Return a JSON value as TOML on one line."""
    if isinstance(value, Mapping):
        members = cast("Mapping[str, object]", value).items()
        return f"{{{', '.join(f'{_text(name)} = {to_toml(member)}' for name, member in members)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(to_toml, cast('list[object]', value)))}]"
    return _text(value) if isinstance(value, str) else json.dumps(value)


def _text(text: str) -> str:
    """Return a TOML basic string: like JSON, but without surrogate pairs and with DEL escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
