"""Presets: every named bad day is there, explained, and can be declared at once."""

import pytest

from fake_credits.faults import FaultError, Plan
from fake_credits.faults.presets import PRESETS, preset_rules
from tests.faults.conftest import START_MS, call, met, planned


def test_every_preset_is_there() -> None:
    assert set(PRESETS) == {
        "flaky",
        "slow",
        "brownout",
        "outage",
        "rate_limited",
        "lost_responses",
        "stale_replica",
        "bad_proxy",
        "version_ahead",
    }


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_what_it_does_and_its_rules_stand_together(name: str) -> None:
    preset = PRESETS[name]
    assert preset.explains.endswith(".")
    plan = Plan(0)
    plan.reset(preset.rules, START_MS, 0)
    assert len(plan) == len(preset.rules) > 0


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_never_fails_a_test_by_staying_unused(name: str) -> None:
    assert planned(*PRESETS[name].rules).unused() == []


def test_presets_can_be_declared_together_and_twice() -> None:
    planned(*PRESETS["flaky"].rules, *PRESETS["brownout"].rules, *PRESETS["flaky"].rules)


def test_no_preset_could_be_a_file() -> None:
    assert not any(name.endswith(".toml") for name in PRESETS)


def test_an_unknown_preset_is_refused_with_those_there_are() -> None:
    for name in ("flakey", 5):
        with pytest.raises(
            FaultError, match=f"there is no preset {name!r}: choose flaky, slow, .*version_ahead, or a fi"
        ):
            preset_rules(name)


@pytest.mark.parametrize(
    ("name", "rate"),
    [("flaky", 0.05), ("brownout", 0.3), ("outage", 1), ("bad_proxy", 0.1)],
)
def test_a_preset_fails_as_many_calls_as_it_says(name: str, rate: float) -> None:
    words = met(planned(*PRESETS[name].rules), [call()] * 4000)
    failed = sum(word not in ("", "latency") for word in words)
    assert abs(failed - 4000 * rate) <= 4 * (4000 * rate * (1 - rate)) ** 0.5


def test_lost_responses_lose_a_fifth_of_the_writes_after_they_took_effect() -> None:
    from fake_credits.contract import Operation

    plan = planned(*PRESETS["lost_responses"].rules)
    assert set(met(plan, [call()] * 100)) == {""}
    shots = [shot for _ in range(4000) for shot in plan.decide(call(operation=Operation.CREATE_TRANSACTION))]
    assert {shot.rule.rule.phase for shot in shots} == {"after"}
    assert abs(len(shots) - 800) <= 4 * 25.3


def test_a_version_ahead_differs_in_every_way_at_once() -> None:
    from fake_credits.contract import Operation

    plan = planned(*PRESETS["version_ahead"].rules)
    assert met(plan, [call(operation=Operation.LIST_TRANSACTIONS)]) == ["drift+drift+drift+drift"]
