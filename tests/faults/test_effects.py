"""Effects: the registry, what their attributes may be, and what each does to an exchange."""

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import pytest
from hypothesis import given

from fake_credits.contract import Operation
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
from fake_credits.faults.effects import LIST_OPERATIONS, WRITE_OPERATIONS
from tests.faults.conftest import call, planned
from tests.faults.strategies import BUILDS, effects

# ------------------------------------------------------------ the registry


def subclasses(kind: type[object]) -> Iterator[type[object]]:
    for sub in kind.__subclasses__():
        yield sub
        yield from subclasses(sub)


def test_every_effect_is_in_the_registry_by_its_word() -> None:
    public = {kind for kind in subclasses(Effect) if not kind.__name__.startswith("_")}
    assert set(EFFECTS.values()) == public
    assert all(kind.effect_name == word for word, kind in EFFECTS.items())


def test_every_effect_is_a_frozen_dataclass_that_says_which_bug_it_exposes() -> None:
    for kind in EFFECTS.values():
        assert dataclasses.is_dataclass(kind)
        assert cast("Any", kind).__dataclass_params__.frozen
        assert kind.reveals
        assert kind.phases


def test_chance_can_make_every_effect() -> None:
    """So that the round trips through JSON and TOML try each."""
    assert set(BUILDS) == set(EFFECTS)


@given(effects)
def test_effects_are_values(effect: Effect) -> None:
    twin = dataclasses.replace(cast("Any", effect))
    assert twin == effect
    assert hash(twin) == hash(effect)


PHASES: Mapping[str, tuple[str, ...]] = {
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


def test_every_effect_has_its_phases() -> None:
    assert {word: kind.phases for word, kind in EFFECTS.items()} == PHASES


def test_effects_of_writes_and_lists_and_reads_touch_no_other_operation() -> None:
    assert DuplicateWrite().operations == LateWrite(5).operations == WRITE_OPERATIONS
    assert BadCursor().operations == SchemaDrift("null_for_absent").operations == LIST_OPERATIONS
    assert StaleRead(by_ms=5).operations == {Operation.GET_BALANCE, Operation.LIST_TRANSACTIONS}
    assert SchemaDrift("unknown_reason").operations == {Operation.CREATE_TRANSACTION, Operation.LIST_TRANSACTIONS}
    assert Operation.GET_BALANCE not in SchemaDrift("missing_optional").operations


# ------------------------------------------------------------ what is refused

REFUSED: Mapping[str, tuple[Callable[[], object], str]] = {
    "a status that is no refusal": (lambda: Status(200), "status is 200: it must be from 400 to 599"),
    "a status that is a text": (lambda: Status(cast("Any", "503")), "status is '503', a str: it must be an integer"),
    "a code of two words": (lambda: Status(503, "too bad"), "code is 'too bad': a code is a word such as"),
    "a code that is too long": (lambda: Status(503, "a" * 65), "a code is a word"),
    "the code of our own bugs": (lambda: Status(500, "internal_error"), "tells a bug of the fake: take 'server_error'"),
    "a wait over a day": (
        lambda: Status(503, retry_after_s=86_401),
        "retry_after_s is 86401: it must be from 0 to 864",
    ),
    "a wait of less than nothing": (lambda: Status(503, retry_after_s=-1), "retry_after_s is -1: it must be from 0"),
    "an unknown form": (
        lambda: Status(503, retry_after_s=1, retry_after_form=cast("Any", "ms")),
        "retry_after_form is 'ms': choose '', 'seconds', 'date', 'garbage', 'absent'",
    ),
    "a date of nothing": (lambda: Status(503, retry_after_form="date"), "retry_after_s is missing"),
    "a limit that is a fraction": (lambda: RateLimit(cast("Any", 1.5), 1), "limit is 1.5, a float: it must be an int"),
    "a limit under 0": (lambda: RateLimit(-1, 1), "limit is -1: it must be from 0"),
    "a window of nothing": (lambda: RateLimit(1, 0), "window_s is 0: it must be from 0.001 to 86400"),
    "two places to cut": (lambda: Truncate(5, 0.5), "at_bytes and fraction exclude each other"),
    "a negative place": (lambda: Truncate(-1), "at_bytes is -1: it must be from 0"),
    "a fraction over 1": (lambda: Truncate(fraction=1.5), "fraction is 1.5: it must be from 0 to 1"),
    "another end": (lambda: Truncate(then=cast("Any", "stop")), "then is 'stop': choose 'close', 'reset', 'hang'"),
    "no chunks": (lambda: Drip(0), "chunks is 0: it must be from 1 to 1000"),
    "a drip over a minute": (lambda: Drip(5, 60_001), "over_ms is 60001: it must be from 0 to 60000"),
    "a page without a body": (lambda: NotJson(304), "status is 304, which has no body at all"),
    "no status": (lambda: NotJson(600), "status is 600: it must be from 200 to 599"),
    "an unknown body": (lambda: NotJson(502, cast("Any", "xml")), "body is 'xml': choose 'html', 'empty', 'wrong_con"),
    "neither ms nor writes": (lambda: StaleRead(), "by_ms and by_writes are missing or 0: give one of them"),
    "a slip in a code": (lambda: Status(402, "insuficient_credits"), "did you mean 'insufficient_credits'"),
    "both": (lambda: StaleRead(5, 5), "by_ms and by_writes exclude each other"),
    "a cut over a day ago": (lambda: StaleRead(by_ms=86_400_001), "by_ms is 86400001: it must be from 0"),
    "a zombie of the past": (lambda: LateWrite(-1), "after_ms is -1: it must be from 0 to 86400000"),
    "a zombie that is never": (
        lambda: LateWrite(cast("Any", None)),
        "after_ms is None, a NoneType: it must be an integer",
    ),
    "an unknown drift": (
        lambda: SchemaDrift(cast("Any", "x")),
        "kind is 'x': choose 'extra_field', 'unknown_reason', 'null",
    ),
    "an unknown trick": (lambda: BadCursor(cast("Any", "x")), "kind is 'x': choose 'repeat', 'cycle', 'expired', 'emp"),
    "a gate without a name": (lambda: HoldAtGate(""), "name is '': it must be a text of 1 to 64 characters"),
    "a gate with a lone surrogate": (lambda: HoldAtGate("\ud800"), r"name is '\\ud800': it has a lone surrogate"),
    "a delay beyond any float": (
        lambda: Latency(10**400),
        "distribution is an integer of 1329 bits: it must be",
    ),
    "a gate with a number": (lambda: HoldAtGate(cast("Any", 5)), "name is 5: it must be a text"),
    "an unknown kind": (lambda: Unauthorized(cast("Any", "x")), "kind is 'x': choose '', 'revoked', 'rotated', 'clock"),
    "a skew of none": (lambda: Unauthorized("clock_skew"), "clock_skew_s 0: the skew is that kind's alone"),
    "a skew of another": (lambda: Unauthorized("revoked", 5), "clock_skew_s 5: the skew is that kind's alone"),
    "a skew over a week": (
        lambda: Unauthorized(clock_skew_s=604_801),
        "clock_skew_s is 604801: it must be from -604800",
    ),
}


@pytest.mark.parametrize(("make", "problem"), REFUSED.values(), ids=REFUSED)
def test_an_attribute_is_refused_with_what_it_may_be(make: Callable[[], object], problem: str) -> None:
    with pytest.raises(FaultError, match=problem):
        make()


def test_a_skew_says_by_itself_which_kind_is_meant() -> None:
    assert Unauthorized(clock_skew_s=-60).kind == "clock_skew"
    assert Unauthorized().kind == "revoked"


def test_a_status_has_the_code_that_belongs_to_it() -> None:
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


def test_every_code_that_a_status_has_by_itself_is_the_contract_s() -> None:
    for error in ERRORS.values():
        if error.code != "internal_error":
            assert Status(error.default_status).code in ERRORS


# ------------------------------------------------------------ what each does


class Recorder:
    """Be a stage that notes what an effect asks for; a body has ``size`` bytes, a draw is one half."""

    def __init__(self, size: int = 100) -> None:
        self.size = size
        self.asked: list[object] = []

    def random(self) -> float:
        return 0.5

    def body_size(self) -> int:
        return self.size

    def field_name(self, default_name: str) -> str:
        return {"createdAt": "created", "nextCursor": "next"}.get(default_name, default_name)

    def format_retry_after(self, seconds: float, form: str) -> str:
        return f"{seconds:g} {form}".strip()

    def respond_with_error(self, error: ApiError, *, status: int | None = None, retry_after: str = "") -> None:
        self.asked.append((type(error).__name__, error.code, status, retry_after))

    def edit_body(self, edit: Callable[[dict[str, Any]], None]) -> None:
        self.asked.append(edit)

    async def sleep(self, ms: float) -> None:
        self.asked.append(("sleep", ms))

    async def hold_at_gate(self, gate_name: str) -> None:
        self.asked.append(("hold", gate_name))

    def __getattr__(self, verb: str) -> Callable[..., None]:
        return lambda *values, **words: self.asked.append((verb, *map(str, values), *words.items()))


def applied(effect: Effect, size: int = 100) -> list[Any]:
    """Return what an effect asks of an exchange; it waits for nothing but the stage."""
    stage = Recorder(size)
    with pytest.raises(StopIteration):
        effect.apply(cast("Any", stage)).send(None)
    return stage.asked


def cut(ending: str, body_bytes: int | None = None) -> list[object]:
    return [("set_delivery", f"Abort(close_mode='{ending}', sent_body_bytes={body_bytes})")]


DOES: Mapping[str, tuple[Effect, list[object]]] = {
    "latency": (Latency("uniform(10, 50)"), [("sleep", 30.0)]),
    "hold_at_gate": (HoldAtGate("g"), [("hold", "g")]),
    "status": (Status(503), [("Unavailable", "unavailable", 503, "")]),
    "status of another code": (Status(429, "too_many"), [("ApiError", "too_many", 429, "")]),
    "status with a wait": (Status(503, retry_after_s=2.5), [("Unavailable", "unavailable", 503, "2.5")]),
    "status with a wait of nothing": (Status(503, retry_after_s=0), [("Unavailable", "unavailable", 503, "0")]),
    "status with a date": (
        Status(503, retry_after_s=5, retry_after_form="date"),
        [("Unavailable", "unavailable", 503, "5 date")],
    ),
    "status with garbage": (
        Status(503, retry_after_form="garbage"),
        [("Unavailable", "unavailable", 503, "0 garbage")],
    ),
    "reset": (Reset(), cut("reset")),
    "close": (Close(), cut("close")),
    "hang": (Hang(), cut("hang")),
    "half a body": (Truncate(), cut("close", 50)),
    "so many bytes of a body": (Truncate(7, then="reset"), cut("reset", 7)),
    "all but a byte": (Truncate(5000, then="hang"), cut("hang", 99)),
    "a whole fraction": (Truncate(fraction=1), cut("close", 99)),
    "none of a body": (Truncate(fraction=0), cut("close", 0)),
    "drip": (Drip(4, 1000), [("set_delivery", "DripBody(chunk_count=4, interval_ms=250.0)")]),
    "revoked": (Unauthorized(), [("InvalidApiKey", "invalid_api_key", None, "")]),
    "rotated": (Unauthorized("rotated"), [("InvalidToken", "invalid_token", None, "")]),
    "a fast clock": (Unauthorized(clock_skew_s=300), [("skew_token_clock", "300")]),
    "stale by time": (StaleRead(by_ms=5), [("read_stale", ("by_ms", 5), ("by_writes", 0))]),
    "stale by writes": (StaleRead(by_writes=2), [("read_stale", ("by_ms", 0), ("by_writes", 2))]),
    "duplicate_write": (DuplicateWrite(), [("duplicate_write",)]),
    "bad cursor": (BadCursor("cycle"), [("inject_cursor_fault", "cycle")]),
}


@pytest.mark.parametrize(("effect", "asked"), DOES.values(), ids=DOES)
def test_an_effect_asks_of_an_exchange(effect: Effect, asked: list[object]) -> None:
    assert applied(effect) == asked


def test_a_zombie_puts_its_write_off() -> None:
    assert ("defer_write", "500") in applied(LateWrite(500))


def test_an_answer_without_a_body_is_cut_after_its_head() -> None:
    assert applied(Truncate(), size=0) == cut("close", 0)


def test_garbage_is_bytes_that_no_http_begins_with() -> None:
    ((verb, noise),) = applied(Garbage())
    assert verb == "set_delivery"
    assert "HTTP/" not in noise


def test_a_proxy_s_pages_are_no_json_of_the_api_s() -> None:
    def page(body: str) -> tuple[str, str]:
        ((_, status, data, media_type),) = applied(NotJson(502, cast("Any", body)))
        assert status == "502"
        return data, media_type

    assert page("html")[0].startswith("b'<!DOCTYPE html>")
    assert page("html")[1].startswith("text/html")
    assert page("empty") == ("b''", "text/plain")
    assert page("wrong_content_type") == ('b\'{"message":"proxy"}\'', "text/plain")
    assert page("bom") == ('b\'\\xef\\xbb\\xbf{"message":"proxy"}\'', "application/json")


def test_a_code_may_be_another_status_s_or_unknown_to_all() -> None:
    """A client must cope with a code that it does not know."""
    assert Status(409, "rate_limited").code == "rate_limited"
    for unknown in ("quota_exceeded", "transaction_not_found", "rejected", "teapot"):
        assert Status(418, unknown).code == unknown


@pytest.mark.parametrize("end", [Reset(), Close(), Hang()])
def test_a_truncated_answer_ends_as_a_word_or_an_effect_says(end: Reset | Close | Hang) -> None:
    assert Truncate(then=end) == Truncate(then=end.effect_name)  # type: ignore[arg-type]
    assert Truncate(then=end).then == end.effect_name


def test_a_rate_limit_refuses_with_the_time_to_wait() -> None:
    plan = planned(RateLimit(1, 10))
    plan.match(call())
    (shot,) = plan.match(call(now_ms=call().now_ms + 4000))
    assert applied(shot.effect) == [("RateLimited", "rate_limited", None, "6")]


ADA = {"userId": "ada", "created": "2030"}
SPENT = {"delta": -5, "reason": "consume", "created": "2030"}

DRIFTS: Mapping[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "a new member": ("extra_field", {"balance": 5}, {"balance": 5, "schemaVersion": 2}),
    "a new member of a list and its entries": (
        "extra_field",
        {"users": [ADA]},
        {"users": [{**ADA, "schemaVersion": 2}], "schemaVersion": 2},
    ),
    "a new member of what is wrapped": (
        "extra_field",
        {"transaction": SPENT},
        {"transaction": {**SPENT, "schemaVersion": 2}, "schemaVersion": 2},
    ),
    "a new reason": ("unknown_reason", SPENT, {**SPENT, "reason": "adjustment"}),
    "new reasons in a list": (
        "unknown_reason",
        {"transactions": [SPENT]},
        {"transactions": [{**SPENT, "reason": "adjustment"}]},
    ),
    "null at the end of a list": ("null_for_absent", {"users": []}, {"users": [], "next": None}),
    "no null where there is a next page": (
        "null_for_absent",
        {"users": [], "next": "c"},
        {"users": [], "next": "c"},
    ),
    "no time of creation": ("missing_optional", ADA, {"userId": "ada"}),
    "no times in a list": ("missing_optional", {"users": [ADA, ADA]}, {"users": [{"userId": "ada"}] * 2}),
}


@pytest.mark.parametrize(("kind", "body", "drifted"), DRIFTS.values(), ids=DRIFTS)
def test_a_drift_changes_a_body_by_the_contract_s_names(
    kind: str, body: dict[str, Any], drifted: dict[str, Any]
) -> None:
    (change,) = applied(SchemaDrift(cast("Any", kind)))
    members = copy.deepcopy(body)
    change(members)
    assert members == drifted


def test_a_base_effect_does_nothing_of_its_own() -> None:
    with pytest.raises(NotImplementedError):
        applied(Effect())
