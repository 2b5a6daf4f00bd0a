"""Declaring faults: permanent rules, rules for a with block, and reports of unused rules."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from fake_credits.errors import Unavailable
from fake_credits.fake import FakeCredits
from fake_credits.faults import FaultError, Reset, Status, lost_response
from fake_credits.faults.faults import describe_unused_rule
from fake_credits.faults.scenarios import parse_scenario


@pytest.fixture
def fake() -> Iterator[FakeCredits]:
    with FakeCredits(balance=5) as fake:
        yield fake


def test_rule_without_with_block_stays_active(fake: FakeCredits) -> None:
    rule = fake.faults(Status(503), "reads")
    with pytest.raises(Unavailable):
        fake.server_client.get_balance("app-id", "user-id")
    assert (rule.fired, list(fake.faults)) == (1, [rule])


def test_invalid_rule_is_rejected_without_with_block(fake: FakeCredits) -> None:
    with pytest.raises(FaultError, match="unknown field 'usr'"):
        fake.faults(Reset(), usr="ada")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]


def test_with_block_removes_rule_and_reports_it_if_unused(fake: FakeCredits) -> None:
    for add_rule in (fake.faults, fake.faults.add):
        with add_rule(Reset(), "getUser", user="ada", nth=1) as rule:
            assert list(fake.faults) == [rule]
        assert len(fake.faults) == 0
    assert [active.name for active in fake.sandbox.faults.unused_rules()] == ["reset#1", "reset#2"]
    assert describe_unused_rule(rule) == (
        "the scripted rule 'reset#2' never fired (no calls matched it): it expects getUser with user='ada', nth=1; "
        "pass optional=True if it may stay unused"
    )


def test_loaded_preset_is_active_only_in_with_block(fake: FakeCredits) -> None:
    with fake.faults.load(["outage", "slow"]) as rules:
        assert tuple(fake.faults) == rules
        with pytest.raises(Unavailable):
            fake.server_client.get_balance("app-id", "user-id")
    assert len(fake.faults) == 0
    assert fake.server_client.get_balance("app-id", "user-id").balance == 5


@pytest.mark.parametrize("source", ["outage", Path("outage"), "day.toml"])
def test_preset_or_file_is_rejected_with_hint_to_load(fake: FakeCredits, source: object) -> None:
    for add_rule in (fake.faults, fake.faults.add):
        with pytest.raises(FaultError, match=rf"use credits\.faults\.load\('{source}'\)$"):
            add_rule(source)


Declare = Callable[[FakeCredits, dict[str, Any]], object]
DECLARATIONS: Mapping[str, Declare] = {
    "effect": lambda fake, options: fake.faults.add(Reset(), **options),
    "call": lambda fake, options: fake.faults(Reset(), **options),
    "script": lambda fake, options: fake.faults.add(script=[503], **options),
    "effect keyword": lambda fake, options: cast("Any", fake.faults).add(effect=Reset(), **options),
    "object": lambda fake, options: fake.faults.add({"effect": "reset", **options}),
    "script's object": lambda fake, options: fake.faults.add({"script": [503], **options}),
    "object and options": lambda fake, options: fake.faults.add({"effect": "reset"}, **options),
    "list": lambda fake, options: fake.faults.load([{"effect": "reset", **options}]),
    "scenario": lambda _, options: parse_scenario({"rules": [{"script": [503], **options}]}),
    "gate": lambda fake, options: fake.hold(**options),
}


@pytest.mark.parametrize("declare", DECLARATIONS.values(), ids=DECLARATIONS)
def test_misspelled_option_is_rejected_with_suggestion(fake: FakeCredits, declare: Declare) -> None:
    with pytest.raises(FaultError, match=r"^(\w+, entry 1: )?unknown field 'usr': did you mean 'user'\?"):
        declare(fake, {"usr": "ada"})
    with pytest.raises(FaultError, match="unknown field 'zzz' ") as raised:
        declare(fake, {"zzz": 1})
    assert "did you mean" not in str(raised.value)
    assert len(fake.faults) == 0


@pytest.mark.parametrize("declare", DECLARATIONS.values(), ids=DECLARATIONS)
@pytest.mark.parametrize("name", ["application", "user", "client", "reason", "header"])
def test_empty_criterion_is_rejected(fake: FakeCredits, declare: Declare, name: str) -> None:
    """An empty value is usually a mistake, and a rule with one would match every call."""
    empty: object = {} if name == "header" else ""
    with pytest.raises(FaultError, match=f"{name} is empty: omit it to match any {name}"):
        declare(fake, {name: empty})
    assert len(fake.faults) == 0


@pytest.mark.parametrize(
    ("name", "hint"),
    [("reset", r"as Reset\(...\) or {'effect': 'reset'}"), ("slow", r"use credits.faults.load\('slow'\)")],
)
def test_bare_name_is_rejected_saying_what_to_write_instead(fake: FakeCredits, name: str, hint: str) -> None:
    with pytest.raises(FaultError, match=hint + "$"):
        fake.faults.add(cast("Any", name))


@pytest.mark.parametrize(("source", "hint"), [(lost_response, r"lost_response\(\)"), (Status, r"Status\(...\)")])
def test_uncalled_function_or_class_is_rejected_with_the_call(fake: FakeCredits, source: Any, hint: str) -> None:
    with pytest.raises(FaultError, match=rf"a Rule or a JSON object; did you mean {hint}\?$"):
        fake.faults.add(source)
    with pytest.raises(FaultError, match=rf"entry 1: .*a list of these; did you mean {hint}\?$"):
        FakeCredits(faults=[source])


@pytest.mark.parametrize("source", [int, len, test_uncalled_function_or_class_is_rejected_with_the_call])
def test_other_function_or_class_gets_no_hint(fake: FakeCredits, source: Any) -> None:
    with pytest.raises(FaultError, match="it must be an effect, a Rule or a JSON object$"):
        fake.faults.add(source)


@pytest.mark.parametrize("declare", DECLARATIONS.values(), ids=DECLARATIONS)
def test_empty_operation_is_rejected(fake: FakeCredits, declare: Declare) -> None:
    with pytest.raises(FaultError, match=r"operation is '': it must be '\*', 'reads', 'writes', "):
        declare(fake, {"operation": ""})
    assert len(fake.faults) == 0
