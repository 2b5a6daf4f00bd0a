"""The desk where a test declares its faults: rules for good and for a block, and what is told of those unused."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fake_credits.errors import Unavailable
from fake_credits.fake import FakeCredits
from fake_credits.faults import FaultError, Reset, Status
from fake_credits.faults.faults import describe_unused_rule
from fake_credits.faults.scenarios import parse_scenario


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
    assert [active.name for active in fake.sandbox.faults.unused_rules()] == ["reset#1", "reset#2"]
    assert describe_unused_rule(rule) == (
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


Way = Callable[[FakeCredits, dict[str, Any]], object]
WAYS: Mapping[str, Way] = {
    "an effect": lambda fake, words: fake.faults.add(Reset(), **words),
    "a block": lambda fake, words: fake.faults(Reset(), **words),
    "a script": lambda fake, words: fake.faults.add(script=[503], **words),
    "an effect as a word": lambda fake, words: fake.faults.add(effect=Reset(), **words),
    "an object": lambda fake, words: fake.faults.add({"effect": "reset", **words}),
    "a script's object": lambda fake, words: fake.faults.add({"script": [503], **words}),
    "an object and words": lambda fake, words: fake.faults.add({"effect": "reset"}, **words),
    "a list": lambda fake, words: fake.faults.load([{"effect": "reset", **words}]),
    "a scenario": lambda _, words: parse_scenario({"rules": [{"script": [503], **words}]}),
    "a gate": lambda fake, words: fake.hold(**words),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_misspelt_word_is_refused_by_name_with_the_nearest_on_every_way(fake: FakeCredits, way: Way) -> None:
    with pytest.raises(FaultError, match=r"^(\w+, entry 1: )?'usr' is no .*: did you mean 'user'\?"):
        way(fake, {"usr": "ada"})
    with pytest.raises(FaultError, match="'zzz' is no (word|attribute) of ") as raised:
        way(fake, {"zzz": 1})
    assert "did you mean" not in str(raised.value)
    assert len(fake.faults) == 0


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("name", ["application", "user", "client", "reason", "header"])
def test_an_empty_criterion_is_refused_on_every_way(fake: FakeCredits, way: Way, name: str) -> None:
    """It comes of a variable that is empty by mistake, and would be a rule for every call."""
    empty: object = {} if name == "header" else ""
    with pytest.raises(FaultError, match=f"{name} is {empty!r}, which is none: leave the word out where it may be any"):
        way(fake, {name: empty})
    assert len(fake.faults) == 0


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_an_empty_operation_is_refused_on_every_way(fake: FakeCredits, way: Way) -> None:
    with pytest.raises(FaultError, match=r"operation is '': choose '\*', 'reads', 'writes', "):
        way(fake, {"operation": ""})
    assert len(fake.faults) == 0
