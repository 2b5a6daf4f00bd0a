"""Test the handwritten tables in the docs: none of their names is missing, unknown or misspelt."""

import ast
import json
import re
import runpy
from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Any

import click
import msgspec
import pytest

from fake_credits import FakeCredits, faults
from fake_credits.assertions import JournalAssertions
from fake_credits.cli.main import cli
from fake_credits.errors import ERRORS, ApiError, InsufficientCredits
from fake_credits.explore.options import ExploreOptions
from fake_credits.faults.effects.base import Effect
from fake_credits.faults.scenarios import parse_rules
from fake_credits.invariants import Invariants
from fake_credits.journal import JournalEntry
from fake_credits.sandbox_users import SandboxUsers
from fake_credits.tokens.credentials import AUTH_FAILURE_REASONS
from tests.benchmarks.__main__ import BENCHMARKS
from tests.documentation import PAGES, ROOT, TEXT

Row = tuple[str, ...]


def split_row(line: str) -> Row:
    return tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])


def rows_of(text: str) -> list[Row]:
    """Return the rows of all tables in a text, without their header rows."""
    tables = re.findall(r"^\|.*\|\n\|[-|]+\|\n((?:\|.*\|\n)+)", text, re.MULTILINE)
    return [split_row(line) for table in tables for line in table.splitlines()]


def checked_rows(name: str) -> list[Row]:
    """Return the rows of the tables that a comment marks as checked under this name."""
    tables: list[str] = re.findall(rf"<!-- checked by a test: {name} -->\n(.*?\n)\n", f"{TEXT}\n\n", re.DOTALL)
    return rows_of("\n".join(tables))


def section(path: str, title: str) -> str:
    """Return the text below a second-level heading."""
    return PAGES[path].partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def code_in(cells: Iterable[str]) -> list[str]:
    return [code for cell in cells for code in re.findall(r"`([^`]+)`", cell)]


def public_members(*types: type[object]) -> set[str]:
    return {name for kind in types for name in vars(kind) if not name.startswith("_")}


def test_every_row_of_a_generated_table_is_described() -> None:
    """`scripts/docs.py` adds a row with an empty last cell for anything new."""
    tables = runpy.run_path(str(ROOT / "scripts" / "docs.py"))["TABLES"]
    partly_generated = [name for name, generate in tables.items() if not isinstance(generate(), str)]
    undescribed: list[str] = []
    for name in partly_generated:
        (table,) = re.findall(rf"<!-- table: {name} -->\n(.*?)<!-- end -->", TEXT, re.DOTALL)
        undescribed += [row[0] for row in rows_of(table) if not row[-1]]
    assert undescribed == []


CHECKED = {
    "rule": {spec.name for spec in fields(faults.Rule)} - {"effect"},
    "journal-entry": {spec.name for spec in msgspec.structs.fields(JournalEntry)},
    "auth-reasons": set(AUTH_FAILURE_REASONS),
    "explore-options": {spec.name for spec in fields(ExploreOptions)} - {"kind", "is_required", "is_off"} | {"what"},
}


@pytest.mark.parametrize("name", CHECKED)
def test_first_column_has_every_name(name: str) -> None:
    names = code_in(row[0] for row in checked_rows(name))
    assert sorted(names) == sorted(CHECKED[name])


def members_in(rows: Iterable[Row]) -> set[str]:
    return {name for code in code_in(row[0] for row in rows) for name in re.findall(r"^\.(\w+)", code)}


def test_facade_section_has_every_member() -> None:
    rows = rows_of(section("docs/reference/fixtures-and-marker.md", "FakeCredits"))
    assert members_in(rows) == public_members(FakeCredits, SandboxUsers, Invariants)


def test_journal_page_has_every_assertion() -> None:
    documented = members_in(checked_rows("journal"))
    assert public_members(JournalAssertions) - {"rule_history"} <= documented
    assert all(hasattr(JournalAssertions, name) for name in documented)


def test_failure_message_on_journal_page_is_a_real_one() -> None:
    with FakeCredits(users={"ada": 100, "bob": 0}) as credits:
        spend = credits.server_client.create_transaction
        credits.server_client.get_balance("app-id", "ada")
        with pytest.raises(InsufficientCredits):
            spend("app-id", "bob", delta=-10, reason="consume")
        spend("app-id", "ada", delta=-1, reason="consume")
        with pytest.raises(AssertionError) as failure:
            credits.journal.assert_called("createTransaction", user="ada", delta=-10)
    assert f"```\n{failure.value}\n```" in PAGES["docs/reference/journal.md"]


def test_errors_page_has_every_attribute() -> None:
    attributes = {name for name in vars(ApiError("")) if not name.startswith("_")} | {"code"}
    assert members_in(checked_rows("api-error")) == attributes


def test_every_cause_is_listed() -> None:
    causes = {error.cause for error in ERRORS.values()} - {"auth", "fault"}
    documented = code_in(row[0] for row in rows_of(section("docs/troubleshooting.md", "By X-Fake-Credits-Cause")))
    expected = {*causes, "auth:<why>", "fault:<rule>", "control", *AUTH_FAILURE_REASONS}
    assert sorted(documented) == sorted(expected)


def test_common_rules_can_be_added() -> None:
    namespace = {name: getattr(faults, name) for name in faults.__all__}
    with FakeCredits() as credits:
        for _, cell in checked_rows("common-rules"):
            (code,) = code_in([cell])
            rule = eval(code, {**namespace, "credits": credits})  # noqa: S307 - the docs' own code
            rule.remove()
            assert isinstance(rule, faults.ActiveRule)


def test_every_symptom_has_a_fault_that_can_be_added() -> None:
    namespace = {name: getattr(faults, name) for name in faults.__all__}
    reproduced: set[str] = set()
    for _, cell in checked_rows("symptoms"):
        for code in code_in([cell]):
            if not code.startswith("credits."):
                (rule,) = parse_rules(eval(code, namespace))  # noqa: S307 - the docs' own code
                reproduced.add(rule.word)
    assert reproduced == set(faults.EFFECTS)


def templates() -> Iterator[str]:
    """Yield every string in the code, with … in place of interpolated values."""
    for folder in ("fake_credits", "pytest_plugin"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


def test_every_listed_message_occurs_in_the_code() -> None:
    texts = "\n".join(templates())
    messages = [code_in([row[0]])[0] for row in checked_rows("messages")]
    patterns = {message: ".*".join(map(re.escape, message.split("…"))) for message in messages}
    assert [message for message, pattern in patterns.items() if not re.search(pattern, texts)] == []


def test_variable_of_a_flag_follows_from_its_name() -> None:
    explored = ("what", "depth", "budget", "strict", "selftest", "jobs", "format", "report")  # named as in the plugin
    own_names = {"url": "SEED_URL", **{name: f"EXPLORE_{name.upper()}" for name in explored}}  # `run` sets ..._URL
    options = [option for command in cli.commands.values() for option in command.params]
    for option in options:
        if isinstance(option, click.Option) and not option.is_eager:
            name = option.opts[0].removeprefix("--")
            expected = own_names.get(name, name.replace("-", "_").upper())
            assert option.envvar == f"FAKE_CREDITS_{expected}"


def test_costs_page_rows_match_the_benchmarks() -> None:
    """The page omits benchmarks that compare with an older commit."""
    rows = [row for row in rows_of(PAGES["docs/explanation/costs.md"]) if len(row) == 5]
    documented = {row[4].strip("`"): row[:3] for row in rows}
    current = {name: benchmark for name, benchmark in BENCHMARKS.items() if not name.startswith("live-before")}
    assert documented == {name: (each.subject, each.reference, each.target) for name, each in current.items()}


def json_blocks(path: str) -> list[dict[str, Any]]:
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGES[path], re.DOTALL)]


def test_json_block_on_faults_page_is_a_valid_rule() -> None:
    (rule,) = parse_rules(json_blocks("docs/reference/faults.md"))
    assert rule == faults.lost_response()


def test_inline_rules_on_faults_page_are_valid() -> None:
    codes = re.findall(r'`(\{"effect".*?\})`', PAGES["docs/reference/faults.md"])
    assert len(codes) >= 2
    assert all(isinstance(rule.effect, Effect) for rule in parse_rules([json.loads(code) for code in codes]))


def test_bodies_on_contract_page_equal_real_responses() -> None:
    with FakeCredits(users={"ada": 100}, clock="2030-01-01T00:00:00Z") as credits:
        credits.server_client.create_transaction("app-id", "ada", delta=-10, reason="consume")
        httpx2 = pytest.importorskip("httpx2")
        with httpx2.Client(base_url="https://credits.internal", transport=credits.transport("httpx2")) as client:
            headers, users = {"X-API-Key": credits.api_key}, "/v1/applications/app-id/users"
            user = client.get(f"{users}/ada", headers=headers).json()
            transaction = client.get(f"{users}/ada/transactions", headers=headers).json()["transactions"][0]
    assert json_blocks("docs/reference/contract.md") == [user, transaction]


def test_error_body_on_errors_page_has_the_members_of_a_real_one() -> None:
    with FakeCredits() as credits:
        httpx2 = pytest.importorskip("httpx2")
        with httpx2.Client(base_url="https://credits.internal", transport=credits.transport("httpx2")) as client:
            error = client.get("/v1/applications/app-id/users/ada", headers={"X-API-Key": credits.api_key}).json()
    (documented,) = json_blocks("docs/reference/errors.md")
    assert documented["error"].keys() == error["error"].keys()
