"""Fuzzing of the control plane: no request is answered with a 500."""

import inspect
import re
from typing import Any
from urllib.parse import quote_from_bytes

from hypothesis import given, settings
from hypothesis import strategies as st

from fake_credits.control.routes import CONTROL_ROUTES
from fake_credits.transports.live import LiveServer
from tests.control.conftest import ControlSession

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False), st.text(max_size=8)
)
FIELD_NAMES = st.sampled_from(
    [
        *("effect", "operation", "user", "name", "phase", "script", "nth", "probability", "during", "status", "where"),
        *("distribution", "by_ms", "at_bytes", "fraction", "header", "limit", "window_s", "after_ms", "kind", "then"),
        *("preset", "rules", "changes", "latency", "at_s", "version", "count", "limit_s", "order", "keep", "balance"),
        *("seconds", "days", "to", "at", "claims", "bad", "clock", "users", "faults", "seed", "stack", "per", "times"),
    ]
)
EFFECTS = st.sampled_from(
    ["status", "latency", "truncate", "stale_read", "rate_limit", "drip", "hold_at_gate", "schema_drift", "not_json"]
)
VALUES = st.recursive(
    SCALARS | EFFECTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELD_NAMES | st.text(max_size=3), inner, max_size=4),
    max_leaves=6,
)
BODIES = st.dictionaries(FIELD_NAMES, VALUES, max_size=4)


def fill_path(template: str, segment: str) -> str:
    """Return a route's path in the first sandbox, with every other placeholder replaced by ``segment``."""
    return re.sub(r"\{\w+\}", segment, template.replace("{sandbox}", "s1"))


@given(body=BODIES, effect=EFFECTS | st.none(), segment=st.sampled_from(["x", "gate", "status%231", "%00"]))
@settings(max_examples=20)
def test_arbitrary_json_bodies_never_cause_a_500(
    live_server: LiveServer, body: dict[str, Any], effect: str | None, segment: str
) -> None:
    with_effect = body if effect is None else {**body, "effect": effect}
    control = ControlSession(live_server)
    with control.http:
        for route in CONTROL_ROUTES:
            if not inspect.iscoroutinefunction(route.endpoint):
                response = control.request(route.method, fill_path(route.path, segment), with_effect)
                assert response.status < 500, response.body


@given(body=st.binary(max_size=40), query=st.binary(max_size=20))
@settings(max_examples=25)
def test_arbitrary_bytes_never_cause_a_500(live_server: LiveServer, body: bytes, query: bytes) -> None:
    control = ControlSession(live_server)
    with control.http:
        for path in ("/sandboxes", "/sandboxes/s1/faults", "/sandboxes/s1/clock/advance"):
            assert control.request("POST", path, body).status < 500
        assert control.request("GET", "/sandboxes/s1/journal?" + quote_from_bytes(query, safe="&=%+")).status < 500
    assert live_server.sandboxes.base_sandbox.bugs == []
