"""Test README.md and docs: their tables match the code, their examples are tests, their links resolve."""

import ast
import importlib.util
import re
import shutil
import subprocess
import tomllib
from types import ModuleType

import pytest

from fake_credits.contract.loading import contract_from
from fake_credits.errors import InsufficientCredits
from fake_credits.faults.scenarios import parse_rules
from fake_credits.worlds.generator import EDGE_CASES, generate_histories
from fake_credits.worlds.profiles import PROFILES, profile_from_dict
from tests.cli.conftest import COMMAND, LIMIT_S, clean_environment
from tests.documentation import PAGES, ROOT, TEXT

README = PAGES["README.md"]
DOCS = {path: text for path, text in PAGES.items() if path != "README.md"}
EXAMPLES = ROOT / "tests" / "examples"
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def load_script(name: str) -> ModuleType:
    """Return a script as a module."""
    spec = importlib.util.spec_from_file_location(f"{name}_script", ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("docs")


def prose(text: str) -> str:
    """Return a page without its code blocks and comments."""
    return re.sub(r"^```.*?^```$|<!--.*?-->", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(text: str) -> list[str]:
    """Return the anchors of a page's headings, as code hosts generate them."""
    titles = re.findall(r"^#{1,6} (.*)$", prose(text), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


def test_generated_parts_are_up_to_date(script: ModuleType) -> None:
    outdated = [path for path, text in PAGES.items() if script.rendered(text) != text]
    assert outdated == [], "run: python scripts/docs.py"


def test_picture_shows_the_report_of_its_test() -> None:
    picture = load_script("picture")
    current = picture.PICTURE.read_text(encoding="utf-8")
    assert current == picture.svg(picture.report()), "run: python scripts/picture.py"


def test_every_generated_table_appears_once(script: ModuleType) -> None:
    assert sorted(re.findall(r"<!-- table: ([\w-]+) -->", TEXT)) == sorted(script.TABLES)


def test_every_python_block_is_a_tested_example() -> None:
    """Those in `alone` and `tutorial` run in suites in tests/plugin, those in `apps` in tests/api/test_asgi.py."""
    blocks = re.findall(r"```(?:python|pycon)\n(.*?)```", TEXT, re.DOTALL)
    others = (path for folder in ("alone", "apps", "tutorial") for path in EXAMPLES.glob(f"{folder}/*.py"))
    examples = {path.read_text() for path in [*EXAMPLES.rglob("test_*.py"), *EXAMPLES.glob("test_*.txt"), *others]}
    assert set(blocks) == examples


def test_readme_has_150_to_250_lines() -> None:
    assert 150 <= len(README.splitlines()) <= 250


def test_recipes_in_readme_have_at_most_twelve_lines() -> None:
    """Blank lines don't count; imports do."""
    recipes = {path.name: path.read_text() for path in (EXAMPLES / "recipes").iterdir() if path.is_file()}
    assert {name for name, text in recipes.items() if len([*filter(None, text.splitlines())]) > 12} == set()


def test_comparison_in_readme_has_at_most_ten_rows_each_with_a_link() -> None:
    rows = re.findall(r"^\|.*\|$", section("What it does that others don't"), re.MULTILINE)[2:]
    assert 5 < len(rows) <= 10
    assert [row for row in rows if not LINK.search(row.split("|")[-2])] == []


def test_docs_have_at_most_24_pages_all_in_the_navigation() -> None:
    navigation = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]
    listed = re.findall(r"'([\w/-]+\.md)'", str(navigation))
    assert len(listed) <= 24
    assert sorted(f"docs/{path}" for path in listed) == sorted(DOCS)


def test_every_page_is_linked_from_readme() -> None:
    assert set(DOCS) <= {target.partition("#")[0] for target in LINK.findall(README)}


@pytest.mark.parametrize("path", PAGES)
def test_headings_have_the_same_anchor_on_site_and_code_host(path: str) -> None:
    """Sites collapse repeated hyphens and number repeated headings differently from code hosts."""
    found = anchors(PAGES[path])
    assert PAGES[path].startswith("# ")
    assert len(set(found)) == len(found)
    assert [anchor for anchor in found if "--" in anchor] == []


@pytest.mark.parametrize("path", [*PAGES, "CONTRIBUTING.md", "SECURITY.md"])
def test_relative_links_resolve(path: str) -> None:
    page = ROOT / path
    broken: list[str] = []
    for link in LINK.findall(prose(page.read_text(encoding="utf-8"))):
        target, _, anchor = link.partition("#")
        if target.startswith("https://"):
            continue
        file = (page.parent / target).resolve() if target else page
        outside = path.startswith("docs/") and not file.is_relative_to(ROOT / "docs")
        if outside or not file.is_file() or (anchor and anchor not in anchors(file.read_text(encoding="utf-8"))):
            broken.append(link)
    assert broken == []


def test_source_cites_only_existing_pages() -> None:
    sources = [path for package in ("fake_credits", "pytest_plugin") for path in (ROOT / package).rglob("*.py")]
    source = " ".join(" ".join(path.read_text(encoding="utf-8").split()) for path in sources)
    titles = {text.splitlines()[0].removeprefix("# ") for text in DOCS.values()}
    cited = {*re.findall(r'docs,? \(?"([\w ]+)"', source), *re.findall(r'"([\w ]+)" in the docs', source)}
    assert len(cited) > 5
    assert cited <= titles
    assert 'README, "' not in source


def test_paths_in_contributing_exist() -> None:
    named = re.findall(r"`((?:[\w.]+/)*[\w-]+(?:/|\.(?:py|md|toml|json|txt)))`", (ROOT / "CONTRIBUTING.md").read_text())
    folders = [ROOT, *(ROOT / name for name in ("fake_credits", "tests/behaviour", "tests/contract"))]
    assert len(named) > 30
    assert [path for path in named if not any((folder / path).exists() for folder in folders)] == []


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_javascript_in_readme_spends_credits() -> None:
    result = subprocess.run(
        [*COMMAND, "run", "--balance", "100", "--", "node", str(EXAMPLES / "recipes" / "spend.mjs")],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
        env=clean_environment(),
    )
    assert (result.returncode, result.stdout) == (0, "201 -10\n"), result.stderr


def section(title: str) -> str:
    """Return the text below the only heading with the given title."""
    (text,) = re.findall(rf"^#+ {re.escape(title)}\n(.*?)(?=^## |^# |\Z)", TEXT, re.DOTALL | re.MULTILINE)
    return str(text)


def test_every_listed_tool_has_a_test_named_after_it() -> None:
    table = section("Other test tools")
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")][1:]
    trees = [ast.parse(path.read_text()) for path in (ROOT / "tests" / "neighbours").glob("test_*.py")]
    functions = [node.name for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)]
    neighbours = [name.removeprefix("test_") for name in functions if name.startswith("test_")]
    assert sorted(re.sub(r"\W+", "_", re.sub("['`]|--", "", row)).lower() for row in rows) == sorted(neighbours)


def toml_in(title: str) -> str:
    """Return the TOML block below a heading."""
    (block,) = re.findall(r"```toml\n(.*?)```", section(title), re.DOTALL)
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
    rows = re.findall(r"^\| `(\w+)` \| ([\d,]+) \| ([\d,]+) \|", TEXT, re.MULTILINE)
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


def test_every_dependency_has_license(script: ModuleType) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[\[<>=;]", item)[0].lower() for item in project["dependencies"]}
    rows = script.dependencies()
    assert names == {name for name, _ in rows}
    assert all(re.search("MIT|BSD|Apache", licence) for _, licence in rows), rows


def test_readme_disclaims_affiliation() -> None:
    assert "Not affiliated with ocx-inc" in README


def test_changelog_has_entry_for_current_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert re.search(rf"^## \[{re.escape(version)}\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
