"""README.md: its tables are what the code says, its examples are tests, its first screen is what a reader needs."""

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


def test_every_table_and_example_is_what_the_code_says(script: ModuleType) -> None:
    assert script.rendered(README) == README, "run: python scripts/readme.py"


def test_every_table_that_the_script_can_make_stands_in_the_readme(script: ModuleType) -> None:
    assert sorted(re.findall(r"<!-- table: ([\w-]+) -->", README)) == sorted(script.TABLES)


def test_every_block_of_python_is_an_example_that_runs_as_a_test() -> None:
    """Those in `alone` run in a process of their own, by tests/plugin/test_shapes.py."""
    blocks = re.findall(r"```(?:python|pycon)\n(.*?)```", README, re.DOTALL)
    folder = ROOT / "tests" / "examples"
    examples = {path.read_text() for path in [*folder.glob("test_*"), *folder.glob("alone/*.py")]}
    assert set(blocks) == examples


def test_every_neighbour_has_a_test_that_bears_its_name() -> None:
    table = README.partition("### Neighbours")[2].partition("### ")[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")][1:]
    trees = [ast.parse(path.read_text()) for path in (ROOT / "tests" / "neighbours").glob("test_*.py")]
    functions = [node.name for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)]
    named = [name.removeprefix("test_") for name in functions if name.startswith("test_")]
    assert sorted(re.sub(r"\W+", "_", re.sub("['`]|--", "", row)).lower() for row in rows) == sorted(named)


def toml_in(title: str) -> str:
    """Return the block of TOML below a headline."""
    (block,) = re.findall(r"```toml\n(.*?)```", README.partition(f"### {title}\n")[2].partition("\n#")[0], re.DOTALL)
    return str(block)


def test_the_scenario_that_it_shows_can_be_read() -> None:
    rules = parse_rules(tomllib.loads(toml_in("Presets and scenarios")))
    assert [rule.word for rule in rules] == ["status", "latency", "status", "status", "latency"]


def test_the_contract_file_that_it_shows_can_be_read() -> None:
    block = toml_in("A contract of your own")
    assert contract_from(tomllib.loads(block)).status_of(InsufficientCredits) == 409


def test_the_profile_that_it_shows_can_be_met() -> None:
    block = toml_in("A profile of your own")
    profile = profile_from_dict({"name": "own", **tomllib.loads(block)})
    assert sum(len(plan.columns.deltas) for plan in generate_histories(profile, 0)) == 2000


def test_the_worlds_that_it_lists_are_those_there_are_and_of_their_sizes() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\d,]+) \| ([\d,]+) \|", README, re.MULTILINE)
    listed = {name: (int(users.replace(",", "")), int(rows.replace(",", ""))) for name, users, rows in rows}
    edge = (len(EDGE_CASES), sum(len(rows) for _, rows in EDGE_CASES))
    named = {name: (profile.users, profile.transactions) for name, profile in PROFILES.items()}
    assert listed == {**named, "edge": edge}


def test_the_first_screen_says_what_it_is_how_to_install_it_a_test_and_a_line_for_ci() -> None:
    screen = README.partition("<!-- the first screen ends here -->")[0]
    assert len(screen.splitlines()) <= 30
    for wanted in ("pip install fake-credits", "def test_", "fake-credits run -- npm test"):
        assert wanted in screen
    body = screen.partition("def test_")[2].partition("```")[0]
    assert len(body.strip().splitlines()) <= 10


def test_the_set_up_commands_are_the_first_two_blocks_of_shell_each_one_line() -> None:
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    assert [len(block.splitlines()) for block in blocks[:2]] == [1, 1]
    assert "fake-credits run" in blocks[0]
    assert blocks[1].rstrip().endswith("-m pytest -n auto")


def test_every_dependency_has_its_licence_and_its_reason(script: ModuleType) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[\[<>=;]", each)[0].lower() for each in project["dependencies"]}
    assert names == set(script.REASONS)
    rows = script.dependencies().splitlines()[2:]
    assert all(re.search(r"\| .*(MIT|BSD|Apache).* \|", row) for row in rows), rows


def test_nobody_is_made_to_believe_that_the_api_s_makers_stand_behind_it() -> None:
    assert "Not affiliated with ocx-inc" in README


def test_the_changelog_has_an_entry_for_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert re.search(rf"^## \[{re.escape(version)}\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
