"""How worlds are found: by a profile's name, in a file of one's own, in a world's file; Faker only where need be."""

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


def loaded(name: str | Path) -> Ledger:
    ledger = Ledger(Contract())
    WorldLibrary().find(name, 0).load_into(ledger, "app-id", NOW_MS)
    return ledger


def test_a_name_a_profile_s_file_and_a_world_s_file_are_worlds(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text("version = 1\nusers = 3\ntransactions = 30\n")
    made = WorldLibrary().find("tiny", 0)
    save_world(made, tmp_path / "world.json")
    assert (made.name, made.transaction_count) == ("tiny", 60)
    assert WorldLibrary().find(tmp_path / "shop.toml", 0).transaction_count == 30
    assert tuple(WorldLibrary().find(str(tmp_path / "world.json"), 9).histories()) == tuple(made.histories())


@pytest.mark.parametrize(("name", "hint"), [("dmo", ": did you mean 'demo'?"), ("no/such/file.json", ""), ("", "")])
def test_a_name_that_is_neither_is_refused_with_the_names_there_are(name: str, hint: str) -> None:
    with pytest.raises(UnknownWorld) as refused:
        WorldLibrary().find(name, 0)
    known = "(there are tiny, demo, edge, load)"
    assert str(refused.value) == f"there is no world {name!r}, and no file{hint} {known}"


def test_a_folder_is_no_world_and_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(UnknownWorld, match=r"the world '.*' is a folder \(there are tiny"):
        WorldLibrary().find(tmp_path, 0)


def test_what_was_made_is_made_once_for_each_seed() -> None:
    worlds = WorldLibrary()
    assert worlds.find("tiny", 0) is worlds.find("tiny", 0)
    assert worlds.find("tiny", 0) is not worlds.find("tiny", 1)
    assert tuple(worlds.find("tiny", 0).histories()) != tuple(worlds.find("tiny", 1).histories())


@pytest.mark.parametrize("name", ["tiny", "demo", "edge"])
def test_every_profile_s_world_keeps_the_default_contract_and_its_size(name: str) -> None:
    ledger = loaded(name)
    ledger.verify_balances()
    accounts = ledger.page_of_users("app-id", None, 1)[0]
    assert sum(map(len, accounts)) == WorldLibrary().find(name, 0).transaction_count
    assert len(accounts) == PROFILES[name].users + (len(EDGE_CASES) if name == "edge" else 0)
    created = [account.created_at_ms for account in accounts]
    assert created == sorted(created)


@pytest.mark.slow
def test_the_world_for_loads_keeps_the_default_contract_and_its_size() -> None:
    ledger = loaded("load")
    ledger.verify_balances()
    accounts = ledger.page_of_users("app-id", None, 1)[0]
    assert (len(accounts), sum(map(len, accounts))) == (100_000, 5_000_000)


def test_the_edge_has_what_it_promises() -> None:
    ledger = loaded("edge")
    balances = {account.user_id: account.balance for account in ledger.page_of_users("app-id", None, 1)[0]}
    assert balances["zero-balance"] == balances["no-transactions"] == 0
    assert balances["maximum-balance"] == 2**53 - 1
    assert balances["one-credit"] == 1
    assert len(ledger.get_account("app-id", "10000-rows")) == 10_000
    assert len({row.at_ms for row in ledger.get_account("app-id", "equal-timestamps").entries()}) == 1
    assert len(ledger.get_account("app-id", "equal-timestamps")) > 2 * Contract().page_size
    assert sum(not user_id.isascii() for user_id in balances) >= 5
    assert max(map(len, balances)) == 256


def test_the_edge_and_files_need_no_faker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    save_world(WorldLibrary().find("tiny", 0), tmp_path / "world.json")
    monkeypatch.setitem(sys.modules, "faker", None)
    assert loaded("edge").find_account("app-id", "one-credit")
    loaded(tmp_path / "world.json").verify_balances()
    with pytest.raises(WorldError, match=r"pip install 'fake-credits\[demo\]'"):
        loaded("tiny")


def test_what_users_do_never_depends_on_what_faker_calls_them(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [each._replace(user_id="") for each in WorldLibrary().find("demo", 0).histories()]

    def others(_seed: int) -> tuple[list[str], list[str], list[str]]:
        return ["A"] * 150, ["B"] * 150, ["C"] * 150

    monkeypatch.setattr("fake_credits.worlds.generator._draw_names", others)
    renamed = WorldLibrary().find("demo", 0).histories()
    assert [each._replace(user_id="") for each in renamed] == before
    assert "a.b1@" in [*renamed][1].user_id


def test_the_users_of_the_edge_can_come_before_one_s_own() -> None:
    profile = Profile(name="both", users=4, transactions=40, edge_cases=True)
    ids = [each.user_id for each in make_world(profile, 0).histories()]
    assert ids[: len(EDGE_CASES)] == [user_id for user_id, _ in EDGE_CASES]
    assert len(ids) == len(EDGE_CASES) + 4


def test_a_contract_that_allows_less_than_a_profile_needs_refuses_it() -> None:
    with pytest.raises(
        WorldError, match="world 'edge' can't be had here: user 'maximum-balance': .*over the ceiling of"
    ):
        WorldLibrary().find("edge", 0).load_into(Ledger(Contract(ceiling=20_000)), "app-id", NOW_MS)


def test_the_last_worlds_are_kept_unless_they_are_large(tmp_path: Path) -> None:
    (tmp_path / "huge.toml").write_text(f"version = 1\nusers = 3\ntransactions = {MAX_KEPT_TRANSACTIONS + 1}\n")
    worlds = WorldLibrary()
    assert worlds.find("tiny", 0) is worlds.find("tiny", 0)
    for name in ("load", tmp_path / "huge.toml"):
        assert worlds.find(name, 0) is not worlds.find(name, 0)
