"""Effects: the registry, validation of attributes, and the actions on an exchange."""

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import pytest
from hypothesis import given

from fake_credits.contract import Operation
from fake_credits.contract.types import WRITE_OPERATIONS
from fake_credits.errors import ERRORS, ApiError
from fake_credits.faults import (
    EFFECTS,
    BadCursor,
    Close,
    Drip,
    DuplicateWrite,
    Effect,
    FaultError,
    Garbage,
    Hang,
    HoldAtGate,
    Latency,
    LateWrite,
    NotJson,
    RateLimit,
    Reset,
    SchemaDrift,
    StaleRead,
    Status,
    Truncate,
    Unauthorized,
)
from fake_credits.faults.effects.base import LIST_OPERATIONS
from tests.faults.conftest import call, engine_with_rules
from tests.faults.strategies import EFFECT_STRATEGIES, effects

# ------------------------------------------------------------ the registry


def subclasses(kind: type[object]) -> Iterator[type[object]]:
    for sub in kind.__subclasses__():
        yield sub
        yield from subclasses(sub)


def test_registry_has_every_effect_by_name() -> None:
    public = {kind for kind in subclasses(Effect) if not kind.__name__.startswith("_")}
    assert set(EFFECTS.values()) == public
    assert all(kind.effect_name == name for name, kind in EFFECTS.items())


def test_every_effect_is_a_frozen_dataclass_with_reveals_and_phases() -> None:
    for kind in EFFECTS.values():
        assert dataclasses.is_dataclass(kind)
        assert cast("Any", kind).__dataclass_params__.frozen
        assert kind.reveals
        assert kind.phases


def test_every_effect_has_a_strategy() -> None:
    """Otherwise the round-trip tests for JSON and TOML would skip it."""
    assert set(EFFECT_STRATEGIES) == set(EFFECTS)


@given(effects)
def test_effects_have_value_equality(effect: Effect) -> None:
    copied = dataclasses.replace(cast("Any", effect))
    assert copied == effect
    assert hash(copied) == hash(effect)


EXPECTED_PHASES: Mapping[str, tuple[str, ...]] = {
    "latency": ("before", "after"),
    "status": ("before", "after"),
    "rate_limit": ("before",),
    "reset": ("before", "after"),
    "close": ("before", "after"),
    "hang": ("before", "after"),
    "truncate": ("after",),
    "drip": ("after",),
    "garbage": ("after",),
    "not_json": ("before", "after"),
    "stale_read": ("read",),
    "duplicate_write": ("write",),
    "late_write": ("write",),
    "schema_drift": ("after",),
    "bad_cursor": ("list",),
    "hold_at_gate": ("before", "after"),
    "unauthorized": ("before",),
}


def test_every_effect_has_expected_phases() -> None:
    assert {name: kind.phases for name, kind in EFFECTS.items()} == EXPECTED_PHASES


def test_effects_apply_only_to_matching_operations() -> None:
    assert DuplicateWrite().operations == LateWrite(5).operations == WRITE_OPERATIONS
    assert BadCursor().operations == SchemaDrift("null_for_absent").operations == LIST_OPERATIONS
    assert StaleRead(by_ms=5).operations == {Operation.GET_BALANCE, Operation.LIST_TRANSACTIONS}
    assert SchemaDrift("unknown_reason").operations == {Operation.CREATE_TRANSACTION, Operation.LIST_TRANSACTIONS}
    assert Operation.GET_BALANCE not in SchemaDrift("missing_optional").operations


# ------------------------------------------------------------ validation

INVALID: Mapping[str, tuple[Callable[[], object], str]] = {
    "status below 400": (lambda: Status(200), "status is 200: it must be from 400 to 599"),
    "status as string": (lambda: Status(cast("Any", "503")), "status is '503': it must be an integer"),
    "code with space": (lambda: Status(503, "too bad"), "code is 'too bad': it must be an identifier such as"),
    "code too long": (lambda: Status(503, "a" * 65), "it must be an identifier"),
    "reserved code": (lambda: Status(500, "internal_error"), "reserved for bugs in the fake; use 'server_error'"),
    "retry_after over a day": (
        lambda: Status(503, retry_after_s=86_401),
        "retry_after_s is 86401: it must be from 0 to 864",
    ),
    "negative retry_after": (lambda: Status(503, retry_after_s=-1), "retry_after_s is -1: it must be from 0"),
    "unknown retry_after form": (
        lambda: Status(503, retry_after_s=1, retry_after_form=cast("Any", "ms")),
        "retry_after_form is 'ms': it must be 'seconds', 'date', 'garbage' or 'absent'",
    ),
    "date without retry_after": (lambda: Status(503, retry_after_form="date"), "retry_after_s is missing"),
    "fractional limit": (lambda: RateLimit(cast("Any", 1.5), 1), "limit is 1.5: it must be an int"),
    "negative limit": (lambda: RateLimit(-1, 1), "limit is -1: it must be from 0"),
    "empty window": (lambda: RateLimit(1, 0), "window_s is 0: it must be from 0.001 to 86400"),
    "at_bytes and fraction": (lambda: Truncate(5, 0.5), "at_bytes and fraction can't be combined"),
    "negative at_bytes": (lambda: Truncate(-1), "at_bytes is -1: it must be from 0"),
    "fraction over 1": (lambda: Truncate(fraction=1.5), "fraction is 1.5: it must be from 0 to 1"),
    "unknown ending": (
        lambda: Truncate(then=cast("Any", "stop")),
        "then is 'stop': it must be 'close', 'reset' or 'hang'",
    ),
    "chunks of 0": (lambda: Drip(0), "chunks is 0: it must be from 1 to 1000"),
    "drip over a minute": (lambda: Drip(5, 60_001), "over_ms is 60001: it must be from 0 to 60000"),
    "status without body": (lambda: NotJson(304), "status is 304, which never has a body"),
    "status over 599": (lambda: NotJson(600), "status is 600: it must be from 200 to 599"),
    "unknown body": (lambda: NotJson(502, cast("Any", "xml")), "body is 'xml': it must be 'html', 'empty', 'wrong_con"),
    "neither ms nor writes": (lambda: StaleRead(), "by_ms or by_writes must be greater than 0"),
    "misspelled code": (lambda: Status(402, "insuficient_credits"), "did you mean 'insufficient_credits'"),
    "by_ms and by_writes": (lambda: StaleRead(5, 5), "by_ms and by_writes can't be combined"),
    "by_ms over a day": (lambda: StaleRead(by_ms=86_400_001), "by_ms is 86400001: it must be from 0"),
    "negative late write": (lambda: LateWrite(-1), "after_ms is -1: it must be from 0 to 86400000"),
    "late write without delay": (
        lambda: LateWrite(cast("Any", None)),
        "after_ms has no value: it must be an integer",
    ),
    "unknown schema drift": (
        lambda: SchemaDrift(cast("Any", "x")),
        "kind is 'x': it must be 'extra_field', 'unknown_reason', 'null",
    ),
    "unknown cursor fault": (
        lambda: BadCursor(cast("Any", "x")),
        "kind is 'x': it must be 'repeat', 'cycle', 'expired' or 'emp",
    ),
    "gate without name": (lambda: HoldAtGate(""), "name is '': it must be a string of 1 to 64 characters"),
    "latency beyond float range": (
        lambda: Latency(10**400),
        "distribution is an integer of 1329 bits: it must be",
    ),
    "gate name as number": (lambda: HoldAtGate(cast("Any", 5)), "name is 5: it must be a string"),
    "unknown kind": (lambda: Unauthorized(cast("Any", "x")), "kind is 'x': it must be 'revoked', 'rotated' or 'clock"),
    "clock_skew without seconds": (
        lambda: Unauthorized("clock_skew"),
        "clock_skew_s is missing: kind 'clock_skew' requires a number of seconds, such as 3600",
    ),
    "skew for another kind": (
        lambda: Unauthorized("revoked", 5),
        "clock_skew_s is 5, which requires kind 'clock_skew', but kind is 'revoked'",
    ),
    "skew over a week": (
        lambda: Unauthorized(clock_skew_s=604_801),
        "clock_skew_s is 604801: it must be from -604800",
    ),
}


@pytest.mark.parametrize(("create", "problem"), INVALID.values(), ids=INVALID)
def test_invalid_attribute_is_rejected_with_allowed_values(create: Callable[[], object], problem: str) -> None:
    with pytest.raises(FaultError, match=problem):
        create()


def test_unauthorized_kind_default_depends_on_clock_skew() -> None:
    assert Unauthorized(clock_skew_s=-60).kind == "clock_skew"
    assert Unauthorized().kind == "revoked"


def test_status_defaults_to_matching_error_code() -> None:
    codes = {status: Status(status).code for status in (402, 429, 500, 503, 504, 418, 599)}
    assert codes == {
        402: "insufficient_credits",
        429: "rate_limited",
        500: "server_error",
        503: "unavailable",
        504: "gateway_timeout",
        418: "rejected",
        599: "server_error",
    }
    assert Status(429, "too_many").code == "too_many"


def test_default_status_codes_are_contract_codes() -> None:
    for error in ERRORS.values():
        if error.code != "internal_error":
            assert Status(error.default_status).code in ERRORS


# ------------------------------------------------------------ actions


class RecordingExchange:
    """An exchange that records an effect's actions; its body has `size` bytes, and every random draw is 0.5."""

    def __init__(self, size: int = 100) -> None:
        self.size = size
        self.actions: list[object] = []

    def random(self) -> float:
        return 0.5

    def body_size(self) -> int:
        return self.size

    def field_name(self, default_name: str) -> str:
        return {"createdAt": "created", "nextCursor": "next"}.get(default_name, default_name)

    def format_retry_after(self, seconds: float, form: str) -> str:
        return f"{seconds:g} {form}".strip()

    def respond_with_error(self, error: ApiError, *, status: int | None = None, retry_after: str = "") -> None:
        self.actions.append((type(error).__name__, error.code, status, retry_after))

    def edit_body(self, edit: Callable[[dict[str, Any]], None]) -> None:
        self.actions.append(edit)

    async def sleep(self, ms: float) -> None:
        self.actions.append(("sleep", ms))

    async def hold_at_gate(self, gate_name: str) -> None:
        self.actions.append(("hold", gate_name))

    def __getattr__(self, verb: str) -> Callable[..., None]:
        return lambda *values, **options: self.actions.append((verb, *map(str, values), *options.items()))


def apply_effect(effect: Effect, size: int = 100) -> list[Any]:
    """Apply an effect to a recording exchange and return the recorded actions."""
    exchange = RecordingExchange(size)
    with pytest.raises(StopIteration):
        effect.apply(cast("Any", exchange)).send(None)
    return exchange.actions


def abort_delivery(ending: str, body_bytes: int | None = None) -> list[object]:
    return [("set_delivery", f"Abort(close_mode='{ending}', sent_body_bytes={body_bytes})")]


ACTIONS: Mapping[str, tuple[Effect, list[object]]] = {
    "latency": (Latency("uniform(10, 50)"), [("sleep", 30.0)]),
    "hold_at_gate": (HoldAtGate("g"), [("hold", "g")]),
    "status": (Status(503), [("Unavailable", "unavailable", 503, "")]),
    "status of another code": (Status(429, "too_many"), [("ApiError", "too_many", 429, "")]),
    "status with retry_after": (Status(503, retry_after_s=2.5), [("Unavailable", "unavailable", 503, "2.5")]),
    "status with retry_after 0": (Status(503, retry_after_s=0), [("Unavailable", "unavailable", 503, "0")]),
    "status with date": (
        Status(503, retry_after_s=5, retry_after_form="date"),
        [("Unavailable", "unavailable", 503, "5 date")],
    ),
    "status with garbage": (
        Status(503, retry_after_form="garbage"),
        [("Unavailable", "unavailable", 503, "0 garbage")],
    ),
    "reset": (Reset(), abort_delivery("reset")),
    "close": (Close(), abort_delivery("close")),
    "hang": (Hang(), abort_delivery("hang")),
    "truncate half": (Truncate(), abort_delivery("close", 50)),
    "truncate after 7 bytes": (Truncate(7, then="reset"), abort_delivery("reset", 7)),
    "truncate last byte": (Truncate(5000, then="hang"), abort_delivery("hang", 99)),
    "truncate fraction 1": (Truncate(fraction=1), abort_delivery("close", 99)),
    "truncate fraction 0": (Truncate(fraction=0), abort_delivery("close", 0)),
    "drip": (Drip(4, 1000), [("set_delivery", "DripBody(chunk_count=4, interval_ms=250.0)")]),
    "revoked": (Unauthorized(), [("InvalidApiKey", "invalid_api_key", None, "")]),
    "rotated": (Unauthorized("rotated"), [("InvalidToken", "invalid_token", None, "")]),
    "clock skew": (Unauthorized(clock_skew_s=300), [("skew_token_clock", "300")]),
    "stale by time": (StaleRead(by_ms=5), [("read_stale", ("by_ms", 5), ("by_writes", 0))]),
    "stale by writes": (StaleRead(by_writes=2), [("read_stale", ("by_ms", 0), ("by_writes", 2))]),
    "duplicate_write": (DuplicateWrite(), [("duplicate_write",)]),
    "bad cursor": (BadCursor("cycle"), [("inject_cursor_fault", "cycle")]),
}


@pytest.mark.parametrize(("effect", "actions"), ACTIONS.values(), ids=ACTIONS)
def test_effect_performs_expected_actions(effect: Effect, actions: list[object]) -> None:
    assert apply_effect(effect) == actions


def test_late_write_defers_the_write() -> None:
    assert ("defer_write", "500") in apply_effect(LateWrite(500))


def test_truncate_of_empty_body_aborts_after_head() -> None:
    assert apply_effect(Truncate(), size=0) == abort_delivery("close", 0)


def test_garbage_does_not_start_like_http() -> None:
    ((verb, noise),) = apply_effect(Garbage())
    assert verb == "set_delivery"
    assert "HTTP/" not in noise


def test_not_json_bodies_have_expected_content() -> None:
    def page(body: str) -> tuple[str, str]:
        ((_, status, data, media_type),) = apply_effect(NotJson(502, cast("Any", body)))
        assert status == "502"
        return data, media_type

    assert page("html")[0].startswith("b'<!DOCTYPE html>")
    assert page("html")[1].startswith("text/html")
    assert page("empty") == ("b''", "text/plain")
    assert page("wrong_content_type") == ('b\'{"message":"proxy"}\'', "text/plain")
    assert page("bom") == ('b\'\\xef\\xbb\\xbf{"message":"proxy"}\'', "application/json")


def test_status_accepts_any_error_code() -> None:
    """Clients must handle codes that they do not know."""
    assert Status(409, "rate_limited").code == "rate_limited"
    for unknown in ("quota_exceeded", "transaction_not_found", "rejected", "teapot"):
        assert Status(418, unknown).code == unknown


@pytest.mark.parametrize("end", [Reset(), Close(), Hang()])
def test_truncate_accepts_ending_as_name_or_effect(end: Reset | Close | Hang) -> None:
    assert Truncate(then=end) == Truncate(then=end.effect_name)  # type: ignore[arg-type]
    assert Truncate(then=end).then == end.effect_name


def test_rate_limit_rejects_with_retry_after() -> None:
    engine = engine_with_rules(RateLimit(1, 10))
    engine.match(call())
    (firing,) = engine.match(call(now_ms=call().now_ms + 4000))
    assert apply_effect(firing.effect) == [("RateLimited", "rate_limited", None, "6")]


USER = {"userId": "ada", "created": "2030"}
TRANSACTION = {"delta": -5, "reason": "consume", "created": "2030"}

SCHEMA_DRIFTS: Mapping[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "new member": ("extra_field", {"balance": 5}, {"balance": 5, "schemaVersion": 2}),
    "new member of a list and its entries": (
        "extra_field",
        {"users": [USER]},
        {"users": [{**USER, "schemaVersion": 2}], "schemaVersion": 2},
    ),
    "new member of a wrapped transaction": (
        "extra_field",
        {"transaction": TRANSACTION},
        {"transaction": {**TRANSACTION, "schemaVersion": 2}, "schemaVersion": 2},
    ),
    "new reason": ("unknown_reason", TRANSACTION, {**TRANSACTION, "reason": "adjustment"}),
    "new reasons in a list": (
        "unknown_reason",
        {"transactions": [TRANSACTION]},
        {"transactions": [{**TRANSACTION, "reason": "adjustment"}]},
    ),
    "null cursor on last page": ("null_for_absent", {"users": []}, {"users": [], "next": None}),
    "cursor kept before last page": (
        "null_for_absent",
        {"users": [], "next": "c"},
        {"users": [], "next": "c"},
    ),
    "no createdAt": ("missing_optional", USER, {"userId": "ada"}),
    "no createdAt in a list": ("missing_optional", {"users": [USER, USER]}, {"users": [{"userId": "ada"}] * 2}),
}


@pytest.mark.parametrize(("kind", "body", "expected"), SCHEMA_DRIFTS.values(), ids=SCHEMA_DRIFTS)
def test_schema_drift_edits_body_with_contract_field_names(
    kind: str, body: dict[str, Any], expected: dict[str, Any]
) -> None:
    (change,) = apply_effect(SchemaDrift(cast("Any", kind)))
    members = copy.deepcopy(body)
    change(members)
    assert members == expected


def test_base_effect_is_abstract() -> None:
    with pytest.raises(NotImplementedError):
        apply_effect(Effect())
