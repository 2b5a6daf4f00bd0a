"""Profiles: built-in profiles, validation and profile files."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from fake_credits.worlds.profiles import PROFILES, Profile, load_profile, profile_from_dict
from fake_credits.worlds.world import WorldError


def test_built_in_profiles_have_the_documented_sizes() -> None:
    sizes = {name: (profile.users, profile.transactions) for name, profile in PROFILES.items()}
    assert sizes == {"tiny": (5, 60), "demo": (200, 20_000), "edge": (0, 0), "load": (100_000, 5_000_000)}
    assert [profile.name for profile in PROFILES.values()] == list(PROFILES)
    assert PROFILES["edge"].edge_cases


def test_profile_fields_have_documentation_and_ranges() -> None:
    for field_info in fields(Profile):
        assert field_info.name == "name" or field_info.metadata["doc"]
        assert field_info.type not in (int, float) or field_info.metadata["least"] < field_info.metadata["most"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"users": -1}, "users must be from 0 to 1000000, not -1"),
        ({"transactions": -5}, "transactions must be from 0 to 50000000, not -5"),
        ({"users": 1_000_001}, "users must be from 0 to 1000000"),
        ({"users": True}, "users must be an integer, not True"),
        ({"users": 1.5}, "users must be an integer, not 1.5"),
        ({"users": "5"}, "users must be an integer, not '5'"),
        ({"users": 0}, "users must be 1 or more unless edge_cases is true"),
        ({"users": 0, "edge_cases": True}, "transactions must be 0 if users is 0"),
        ({"users": 100, "transactions": 299}, "transactions must be 300 or more (three per user"),
        ({"signup_grant": 0}, "signup_grant must be from 1 to"),
        ({"monthly_grant": -1}, "monthly_grant must be from 0 to"),
        ({"top_up": 10**10}, "top_up must be from 0 to 1000000000"),
        ({"smallest_consumption": 0}, "smallest_consumption must be from 1 to"),
        (
            {"smallest_consumption": 10, "largest_consumption": 9},
            "largest_consumption must be at least smallest_consumption (10)",
        ),
        ({"refund_share": 1.5}, "refund_share must be from 0 to 1, not 1.5"),
        ({"refund_share": float("nan")}, "refund_share must be from 0 to 1, not nan"),
        ({"refund_share": "much"}, "refund_share must be a number, not 'much'"),
        ({"dry_share": 0.6, "gone_share": 0.5}, "dry_share must be 0.5 or less"),
        ({"edge_cases": 1}, "edge_cases must be true or false, not 1"),
        ({"name": ""}, "name must not be empty"),
    ],
)
def test_invalid_value_error_names_profile_field_and_rule(options: dict[str, Any], message: str) -> None:
    profile_options: dict[str, Any] = {"name": "shop", **options}
    expected = f"profile {profile_options['name']!r}: {message}"
    with pytest.raises(WorldError, match=f"^{re.escape(expected)}"):
        Profile(**profile_options)


def test_shares_may_be_integers() -> None:
    assert Profile(name="shop", dry_share=0, gone_share=1).gone_share == 1


def test_profile_is_named_after_its_file_by_default(tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text("version = 1\nusers = 7\ntransactions = 70\nrefund_share = 0.5\n")
    assert load_profile(file) == Profile(name="shop", users=7, transactions=70, refund_share=0.5)
    file.write_text('version = 1\nname = "market"\n')
    assert load_profile(file) == Profile(name="market")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("users = 7\n", "version must be 1, not None"),
        ("version = 2\n", "version must be 1, not 2"),
        ("version = true\n", "version must be 1, not True"),
        ("version = 1\nuser = 7\n", "unknown field 'user': did you mean 'users'?"),
        ("version = 1\nusers = -7\n", "profile 'shop': users must be from 0 to 1000000, not -7"),
        ("version = 1\nusers =", "not valid TOML"),
        ("#" * 70_000, "the file is larger than 65536 bytes"),
    ],
)
def test_invalid_profile_file_error_names_the_file(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text(text)
    with pytest.raises(WorldError, match=re.escape(f"{file}: {message}")):
        load_profile(file)


def test_unreadable_profile_file_error_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(WorldError, match=r"gone\.toml: the file can't be read: No such file"):
        load_profile(tmp_path / "gone.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff")
    with pytest.raises(WorldError, match=r"binary\.toml: not valid TOML"):
        load_profile(tmp_path / "binary.toml")


def test_document_with_version_is_accepted() -> None:
    assert profile_from_dict({"version": 1, "name": "a"}) == Profile(name="a")
