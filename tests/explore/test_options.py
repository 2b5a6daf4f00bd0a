"""The options of an exploration: how a value of ``explore`` combines with the defaults."""

import pytest

from fake_credits.explore.options import DEFAULT_FAULTS, ExploreOptions, parse_explore


@pytest.mark.parametrize(
    ("default", "value", "kind", "faults"),
    [
        ("all", ["refused"], "default", ["refused"]),
        ("all", {"faults": ["refused"]}, "default", ["refused"]),
        ("refused", "writes", "writes", [fault.name for fault in DEFAULT_FAULTS]),
        ("refused", {"depth": 1}, "default", ["refused"]),
        ("default", {"what": "writes", "faults": ["refused"]}, "writes", ["refused"]),
        ("default", {"faults": ["down"], "what": "same"}, "same", ["down"]),
    ],
)
def test_value_replaces_the_default_kind_and_faults(default: str, value: object, kind: str, faults: list[str]) -> None:
    options = parse_explore(value, ExploreOptions().with_what(default))
    assert options is not None
    assert (options.kind, [fault.name for fault in options.faults]) == (kind, faults)
