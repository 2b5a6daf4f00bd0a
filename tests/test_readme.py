"""Test README.md: its tables match the code, its examples are tests, its first screen is complete."""

import ast
import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from fake_credits.contract.loading import contract_from
from fake_credits.errors import InsufficientCredits
from fake_credits.faults.scenarios import parse_rules
from fake_credits.worlds.generator import EDGE_CASES, generate_histories
from fake_credits.worlds.profiles import PROFILES, profile_from_dict

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("readme_script", ROOT / "scripts" / "readme.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_and_examples_are_up_to_date(script: ModuleType) -> None:
    assert script.rendered(README) == README, "run: python scripts/readme.py"


def test_readme_contains_every_generated_table(script: ModuleType) -> None:
    assert sorted(re.findall(r"<!-- table: ([\w-]+) -->", README)) == sorted(script.TABLES)


def test_every_python_block_is_a_tested_example() -> None:
    """Examples in `alone` run in separate processes, in tests/plugin/test_shapes.py."""
    blocks = re.findall(r"```(?:python|pycon)\n(.*?)```", README, re.DOTALL)
    folder = ROOT / "tests" / "examples"
    examples = {path.read_text() for path in [*folder.glob("test_*"), *folder.glob("alone/*.py")]}
    assert set(blocks) == examples


def test_every_neighbour_has_a_test_of_its_name() -> None:
    table = README.partition("### Neighbours")[2].partition("### ")[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")][1:]
    trees = [ast.parse(path.read_text()) for path in (ROOT / "tests" / "neighbours").glob("test_*.py")]
    functions = [node.name for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)]
    neighbours = [name.removeprefix("test_") for name in functions if name.startswith("test_")]
    assert sorted(re.sub(r"\W+", "_", re.sub("['`]|--", "", row)).lower() for row in rows) == sorted(neighbours)


def toml_in(title: str) -> str:
    """Return the TOML block below a heading."""
    (block,) = re.findall(r"```toml\n(.*?)```", README.partition(f"### {title}\n")[2].partition("\n#")[0], re.DOTALL)
    return str(block)


def test_scenario_example_can_be_parsed() -> None:
    rules = parse_rules(tomllib.loads(toml_in("Presets and scenarios")))
    assert [rule.word for rule in rules] == ["status", "latency", "status", "status", "latency"]


def test_contract_example_can_be_parsed() -> None:
    block = toml_in("A contract of your own")
    assert contract_from(tomllib.loads(block)).status_of(InsufficientCredits) == 409


def test_profile_example_can_be_generated() -> None:
    block = toml_in("A profile of your own")
    profile = profile_from_dict({"name": "own", **tomllib.loads(block)})
    assert sum(len(plan.columns.deltas) for plan in generate_histories(profile, 0)) == 2000


def test_listed_worlds_match_profiles() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\d,]+) \| ([\d,]+) \|", README, re.MULTILINE)
    documented = {name: (int(users.replace(",", "")), int(rows.replace(",", ""))) for name, users, rows in rows}
    edge = (len(EDGE_CASES), sum(len(rows) for _, rows in EDGE_CASES))
    generated = {name: (profile.users, profile.transactions) for name, profile in PROFILES.items()}
    assert documented == {**generated, "edge": edge}


def test_first_screen_has_install_command_test_and_ci_command() -> None:
    first_screen = README.partition("<!-- the first screen ends here -->")[0]
    assert len(first_screen.splitlines()) <= 30
    for expected in ("pip install fake-credits", "def test_", "fake-credits run -- npm test"):
        assert expected in first_screen
    body = first_screen.partition("def test_")[2].partition("```")[0]
    assert len(body.strip().splitlines()) <= 10


def test_first_two_shell_blocks_are_one_line_setup_commands() -> None:
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    assert [len(block.splitlines()) for block in blocks[:2]] == [1, 1]
    assert "fake-credits run" in blocks[0]
    assert blocks[1].rstrip().endswith("-m pytest -n auto")


def test_every_dependency_has_license_and_reason(script: ModuleType) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[\[<>=;]", item)[0].lower() for item in project["dependencies"]}
    assert names == set(script.REASONS)
    rows = script.dependencies().splitlines()[2:]
    assert all(re.search(r"\| .*(MIT|BSD|Apache).* \|", row) for row in rows), rows


def test_readme_disclaims_affiliation() -> None:
    assert "Not affiliated with ocx-inc" in README


def test_changelog_has_entry_for_current_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert re.search(rf"^## \[{re.escape(version)}\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
