"""`WorldLibrary`: worlds by profile name, profile file or world file, and caching."""

import sys
from pathlib import Path

import pytest

from fake_credits.contract import Contract
from fake_credits.ledger import Ledger
from fake_credits.worlds import WorldLibrary, make_world
from fake_credits.worlds.generator import EDGE_CASES
from fake_credits.worlds.profiles import PROFILES, Profile
from fake_credits.worlds.world import MAX_KEPT_TRANSACTIONS, UnknownWorld, WorldError, save_world

NOW_MS = 1_900_000_000_000


def load_ledger(name: str | Path) -> Ledger:
    ledger = Ledger(Contract())
    WorldLibrary().find(name, 0).load_into(ledger, "app-id", NOW_MS)
    return ledger


def test_find_accepts_names_profile_files_and_world_files(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text("version = 1\nusers = 3\ntransactions = 30\n")
    world = WorldLibrary().find("tiny", 0)
    save_world(world, tmp_path / "world.json")
    assert (world.name, world.transaction_count) == ("tiny", 60)
    assert WorldLibrary().find(tmp_path / "shop.toml", 0).transaction_count == 30
    assert tuple(WorldLibrary().find(str(tmp_path / "world.json"), 9).histories()) == tuple(world.histories())


@pytest.mark.parametrize(("name", "suggestion"), [("dmo", ": did you mean 'demo'?"), ("no/such/file", ""), ("", "")])
def test_unknown_name_error_lists_the_available_worlds(name: str, suggestion: str) -> None:
    with pytest.raises(UnknownWorld) as exc_info:
        WorldLibrary().find(name, 0)
    problem = f"unknown world {name!r}, which is neither a profile nor a file"
    assert str(exc_info.value) == f"{problem}{suggestion} (known: tiny, demo, edge, load)"


@pytest.mark.parametrize("name", ["demo.json", "no/such/profile.toml"])
def test_missing_world_file_is_named(name: str) -> None:
    with pytest.raises(UnknownWorld, match=f"the world file '{name}' does not exist"):
        WorldLibrary().find(name, 0)


def test_directory_raises_unknown_world(tmp_path: Path) -> None:
    with pytest.raises(UnknownWorld, match=r"unknown world '.*', which is neither a profile nor a file \(known: tiny"):
        WorldLibrary().find(tmp_path, 0)


def test_worlds_are_cached_per_seed() -> None:
    worlds = WorldLibrary()
    assert worlds.find("tiny", 0) is worlds.find("tiny", 0)
    assert worlds.find("tiny", 0) is not worlds.find("tiny", 1)
    assert tuple(worlds.find("tiny", 0).histories()) != tuple(worlds.find("tiny", 1).histories())


@pytest.mark.parametrize("name", ["tiny", "demo", "edge"])
def test_profile_worlds_have_the_right_size_and_valid_balances(name: str) -> None:
    ledger = load_ledger(name)
    ledger.verify_balances()
    accounts = ledger.page_of_users("app-id", None, 1)[0]
    assert sum(map(len, accounts)) == WorldLibrary().find(name, 0).transaction_count
    assert len(accounts) == PROFILES[name].users + (len(EDGE_CASES) if name == "edge" else 0)
    created = [account.created_at_ms for account in accounts]
    assert created == sorted(created)


@pytest.mark.slow
def test_load_world_has_the_right_size_and_valid_balances() -> None:
    ledger = load_ledger("load")
    ledger.verify_balances()
    accounts = ledger.page_of_users("app-id", None, 1)[0]
    assert (len(accounts), sum(map(len, accounts))) == (100_000, 5_000_000)


def test_edge_world_contains_the_documented_edge_cases() -> None:
    ledger = load_ledger("edge")
    balances = {account.user_id: account.balance for account in ledger.page_of_users("app-id", None, 1)[0]}
    assert balances["zero-balance"] == balances["no-transactions"] == 0
    assert balances["maximum-balance"] == 2**53 - 1
    assert balances["one-credit"] == 1
    assert len(ledger.get_account("app-id", "10000-rows")) == 10_000
    assert len({row.at_ms for row in ledger.get_account("app-id", "equal-timestamps").entries()}) == 1
    assert len(ledger.get_account("app-id", "equal-timestamps")) > 2 * Contract().page_size
    assert sum(not user_id.isascii() for user_id in balances) >= 5
    assert max(map(len, balances)) == 256


def test_edge_world_and_world_files_do_not_need_faker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    save_world(WorldLibrary().find("tiny", 0), tmp_path / "world.json")
    monkeypatch.setitem(sys.modules, "faker", None)
    assert load_ledger("edge").find_account("app-id", "one-credit")
    load_ledger(tmp_path / "world.json").verify_balances()
    with pytest.raises(WorldError, match=r"pip install 'fake-credits\[demo\]'"):
        load_ledger("tiny")


def test_histories_do_not_depend_on_fakers_names(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [history._replace(user_id="") for history in WorldLibrary().find("demo", 0).histories()]

    def draw_other_names(_seed: int) -> tuple[list[str], list[str], list[str]]:
        return ["A"] * 150, ["B"] * 150, ["C"] * 150

    monkeypatch.setattr("fake_credits.worlds.generator._draw_names", draw_other_names)
    renamed = WorldLibrary().find("demo", 0).histories()
    assert [history._replace(user_id="") for history in renamed] == before
    assert "a.b1@" in [*renamed][1].user_id


def test_edge_case_users_come_before_generated_users() -> None:
    profile = Profile(name="both", users=4, transactions=40, edge_cases=True)
    ids = [history.user_id for history in make_world(profile, 0).histories()]
    assert ids[: len(EDGE_CASES)] == [user_id for user_id, _ in EDGE_CASES]
    assert len(ids) == len(EDGE_CASES) + 4


def test_world_that_violates_the_contract_raises_world_error() -> None:
    with pytest.raises(
        WorldError, match="world 'edge' can't be used here: user 'maximum-balance': .*exceeds the ceiling of"
    ):
        WorldLibrary().find("edge", 0).load_into(Ledger(Contract(ceiling=20_000)), "app-id", NOW_MS)


def test_only_small_worlds_are_cached(tmp_path: Path) -> None:
    (tmp_path / "huge.toml").write_text(f"version = 1\nusers = 3\ntransactions = {MAX_KEPT_TRANSACTIONS + 1}\n")
    worlds = WorldLibrary()
    assert worlds.find("tiny", 0) is worlds.find("tiny", 0)
    for name in ("load", tmp_path / "huge.toml"):
        assert worlds.find(name, 0) is not worlds.find(name, 0)
