"""The desk where a test declares its faults: rules for good and for a block, and what is told of those unused."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_credits.errors import Unavailable
from fake_credits.fake import FakeCredits
from fake_credits.faults import FaultError, Reset, Status
from fake_credits.faults.desk import unused_text


@pytest.fixture
def fake() -> Iterator[FakeCredits]:
    with FakeCredits(balance=5) as made:
        yield made


def test_a_rule_without_a_block_holds_as_one_that_was_added(fake: FakeCredits) -> None:
    rule = fake.faults(Status(503), "reads")
    with pytest.raises(Unavailable):
        fake.server_client.get_balance("app-id", "user-id")
    assert (rule.fired, list(fake.faults)) == (1, [rule])


def test_a_rule_that_can_t_be_is_refused_without_a_block_too(fake: FakeCredits) -> None:
    with pytest.raises(FaultError, match="'usr' is no word of a rule"):
        fake.faults(Reset(), usr="ada")


def test_a_block_ends_its_rule_and_tells_of_one_that_stayed_unused(fake: FakeCredits) -> None:
    for adds in (fake.faults, fake.faults.add):
        with adds(Reset(), "getUser", user="ada", nth=1) as rule:
            assert list(fake.faults) == [rule]
        assert len(fake.faults) == 0
    assert [active.name for active in fake.sandbox.faults.unused()] == ["reset#1", "reset#2"]
    assert unused_text(rule) == (
        "the scripted rule 'reset#2' never fired (no call matched it): it waits for getUser with user='ada', nth=1; "
        "say optional=True where that is right"
    )


def test_a_preset_holds_for_a_block(fake: FakeCredits) -> None:
    with fake.faults.load(["outage", "slow"]) as rules:
        assert tuple(fake.faults) == rules
        with pytest.raises(Unavailable):
            fake.server_client.get_balance("app-id", "user-id")
    assert len(fake.faults) == 0
    assert fake.server_client.get_balance("app-id", "user-id").balance == 5


@pytest.mark.parametrize("loads", ["outage", Path("outage"), "day.toml"])
def test_what_is_no_one_rule_is_refused_with_how_to_load_it(fake: FakeCredits, loads: object) -> None:
    for adds in (fake.faults, fake.faults.add):
        with pytest.raises(FaultError, match=rf"is loaded: credits\.faults\.load\('{loads}'\)$"):
            adds(loads)
