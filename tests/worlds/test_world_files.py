"""World files: round trips, atomic writes, and rejection of damaged or newer files."""

import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from fake_credits.worlds import WorldLibrary
from fake_credits.worlds.world import WORLD_SPAN_MS, World, WorldError, load_world, save_world
from tests.worlds.conftest import CONSUME, GRANT, REFUND, build_world, make_history

SAMPLES = Path(__file__).resolve().parents[2] / "fixtures" / "worlds"
WORLD = build_world(
    make_history('日本 "\\', (10, GRANT), (-4, CONSUME), (4, REFUND)),
    make_history("bob", created_ms=WORLD_SPAN_MS - 1),
    name="own",
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "world.json"
    save_world(WORLD, path)
    return path


def test_saved_world_is_loaded_unchanged(file: Path) -> None:
    loaded = load_world(file)
    assert tuple(loaded.histories()) == tuple(WORLD.histories())
    assert (loaded.name, loaded.seed, loaded.transaction_count) == ("own", 0, 3)


def test_world_file_is_versioned_json_with_one_user_per_line(file: Path) -> None:
    document = json.loads(file.read_text("utf-8"))
    assert list(document) == ["fake_credits_world", "name", "seed", "users", "sha256"]
    assert document["fake_credits_world"] == 1
    assert document["users"][0] == {
        "id": '日本 "\\',
        "created": 0,
        "deltas": [10, -4, 4],
        "reasons": "gcr",
        "times": [0, 1, 2],
    }
    assert len(file.read_text("utf-8").splitlines()) == 2 + len(document["users"])


def test_equal_worlds_are_saved_as_identical_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_world(WorldLibrary().find("tiny", 3), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("name", ["tiny", "demo"])
def test_sample_files_match_the_generator_except_faker_names(name: str) -> None:
    sample, generated = load_world(SAMPLES / f"{name}.json"), WorldLibrary().find(name, 0)
    assert [user_history._replace(user_id="") for user_history in sample.histories()] == [
        user_history._replace(user_id="") for user_history in generated.histories()
    ]
    provider_formats = r"user_\w{26,27}|auth0\|.+|google-oauth2\|.+|\w{28}|[0-9a-f-]{36}"  # these contain no names
    ids = [
        (sample_user.user_id, generated_user.user_id)
        for sample_user, generated_user in zip(sample.histories(), generated.histories(), strict=True)
        if re.fullmatch(provider_formats, sample_user.user_id)
    ]
    assert len(ids) >= sample.transaction_count / 200
    assert all(sample_user == generated_user for sample_user, generated_user in ids)


def test_file_truncated_anywhere_raises_world_error(file: Path) -> None:
    text = file.read_bytes()
    for length in range(len(text) - 1):  # the last byte is the final newline
        file.write_bytes(text[:length])
        with pytest.raises(WorldError, match=r"world\.json: not a world file, or damaged"):
            load_world(file)


def change_file(file: Path, **members: Any) -> Path:
    document = json.loads(file.read_text("utf-8"))
    user = document["users"][0]
    user.update({name: value for name, value in members.items() if name in user})
    document.update({name: value for name, value in members.items() if name not in user})
    file.write_text(json.dumps(document, indent=1))
    return file


def test_reformatted_file_yields_the_same_world(file: Path) -> None:
    assert tuple(load_world(change_file(file)).histories()) == tuple(WORLD.histories())


def test_digest_and_seed_are_optional(file: Path) -> None:
    file.write_text('{"fake_credits_world": 1, "name": "x", "users": []}')
    assert load_world(file).transaction_count == 0


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"fake_credits_world": 2}, "has version 2, but this release reads only version 1"),
        ({"fake_credits_world": 0}, "has version 0"),
        ({"fake_credits_world": "1"}, "Expected `int`, got `str`"),
        ({"id": "bert"}, "damaged: its sha256 doesn't match its users"),
        ({"deltas": [11, -4, 4]}, "damaged: its sha256 doesn't match"),
        ({"id": "bob"}, "damaged: user 'bob' occurs twice"),
        ({"deltas": [1]}, r"has different numbers of deltas \(1\), reasons \(3\) and times \(3\)"),
        ({"reasons": "gcx"}, "has a reason other than g, c, r"),
        ({"times": [2, 1, 0]}, "has times that are out of order"),
        ({"times": [0, 1, WORLD_SPAN_MS]}, "has times that are out of order or outside the range 0 to"),
        ({"created": 1}, "has times that are out of order"),
        ({"created": -1}, "has times that are out of order"),
        ({"deltas": [10, -4, 2**63]}, "has a delta that does not fit in 64 bits"),
        ({"deltas": [10, -4, 2**64]}, "Integer value out of range|fit in 64 bits|Expected `int`"),
        ({"deltas": [10, -4, 0.5]}, "Expected `int`, got `float`"),
        ({"users": "none"}, "Expected `array`, got `str`"),
        ({"users": [7]}, "Expected `object`, got `int`"),
    ],
)
def test_damaged_or_newer_file_raises_world_error(members: dict[str, Any], message: str, file: Path) -> None:
    with pytest.raises(WorldError, match=rf"world\.json: .*({message})"):
        load_world(change_file(file, **members))


@pytest.mark.parametrize("text", [b"", b"null", b"[1]", b"\xff\xfe", b"[" * 100_000, b'{"users": []}'])
def test_file_without_a_world_raises_world_error(text: bytes, file: Path) -> None:
    file.write_bytes(text)
    with pytest.raises(WorldError, match=r"world\.json: not a world file, or damaged"):
        load_world(file)


def test_file_over_the_size_limit_is_not_read(file: Path) -> None:
    os.truncate(file, 2**30 + 1)
    with pytest.raises(WorldError, match=r"world\.json: the file is larger than 1073741824 bytes"):
        load_world(file)


def test_unreadable_file_raises_world_error(tmp_path: Path) -> None:
    with pytest.raises(WorldError, match="can't be read: Is a directory"):
        load_world(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full does not exist")
def test_full_disk_keeps_the_old_file(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before, original_open = file.read_bytes(), os.open

    def open_full_device(path: Path, flags: int, mode: int) -> int:
        os.close(original_open(path, flags, mode))
        return original_open("/dev/full", os.O_WRONLY)

    monkeypatch.setattr(os, "open", open_full_device)
    with pytest.raises(WorldError, match=r"can't write .*world\.json: " + os.strerror(errno.ENOSPC)):
        save_world(WORLD, file)
    monkeypatch.undo()
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_failed_generation_leaves_no_file(tmp_path: Path) -> None:
    def fail_midway() -> Any:
        yield make_history("ada")
        raise WorldError("it can't be met")

    with pytest.raises(WorldError, match="it can't be met"):
        save_world(World("own", 0, 1, fail_midway), tmp_path / "world.json")
    assert list(tmp_path.iterdir()) == []


def test_missing_directory_raises_world_error(tmp_path: Path) -> None:
    with pytest.raises(WorldError, match=r"can't write .*none/world\.json: No such file"):
        save_world(WORLD, tmp_path / "none" / "world.json")
