"""World files: written whole or not at all, read back the same, and refused where they are damaged or later."""

import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from fake_credits.worlds import WorldLibrary
from fake_credits.worlds.world import WORLD_SPAN_MS, World, WorldError, load_world, save_world
from tests.worlds.conftest import CONSUME, GRANT, REFUND, history, world

SAMPLES = Path(__file__).resolve().parents[2] / "fixtures" / "worlds"
OWN = world(
    history('日本 "\\', (10, GRANT), (-4, CONSUME), (4, REFUND)), history("bob", created=WORLD_SPAN_MS - 1), name="own"
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "world.json"
    save_world(OWN, path)
    return path


def test_what_was_written_is_read_back(file: Path) -> None:
    read = load_world(file)
    assert tuple(read.histories()) == tuple(OWN.histories())
    assert (read.name, read.seed, read.transaction_count) == ("own", 0, 3)


def test_a_file_is_json_with_a_user_a_line_and_says_its_version(file: Path) -> None:
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


def test_the_same_world_is_the_same_file_byte_for_byte(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_world(WorldLibrary().find("tiny", 3), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("name", ["tiny", "demo"])
def test_the_samples_are_what_the_seeder_makes_but_for_the_names_that_faker_gives(name: str) -> None:
    sample, made = load_world(SAMPLES / f"{name}.json"), WorldLibrary().find(name, 0)
    assert [each._replace(user_id="") for each in sample.histories()] == [
        each._replace(user_id="") for each in made.histories()
    ]
    own_shapes = r"user_\w{26,27}|auth0\|.+|google-oauth2\|.+|\w{28}|[0-9a-f-]{36}"  # these hold no names
    ids = [
        (ours.user_id, theirs.user_id)
        for ours, theirs in zip(sample.histories(), made.histories(), strict=True)
        if re.fullmatch(own_shapes, ours.user_id)
    ]
    assert len(ids) >= sample.transaction_count / 200
    assert all(ours == theirs for ours, theirs in ids)


def test_a_file_that_is_cut_off_anywhere_is_refused_by_name(file: Path) -> None:
    text = file.read_bytes()
    for length in range(len(text) - 1):  # the last byte is a line's end
        file.write_bytes(text[:length])
        with pytest.raises(WorldError, match=r"world\.json: is no world, or a damaged one"):
            load_world(file)


def changed(file: Path, **members: Any) -> Path:
    document = json.loads(file.read_text("utf-8"))
    user = document["users"][0]
    user.update({name: value for name, value in members.items() if name in user})
    document.update({name: value for name, value in members.items() if name not in user})
    file.write_text(json.dumps(document, indent=1))
    return file


def test_a_file_that_was_only_laid_out_anew_is_the_same_world(file: Path) -> None:
    assert tuple(load_world(changed(file)).histories()) == tuple(OWN.histories())


def test_a_file_from_elsewhere_needs_no_digest_and_no_seed(file: Path) -> None:
    file.write_text('{"fake_credits_world": 1, "name": "x", "users": []}')
    assert load_world(file).transaction_count == 0


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"fake_credits_world": 2}, "is a world of version 2, and this release reads version 1"),
        ({"fake_credits_world": 0}, "is a world of version 0"),
        ({"fake_credits_world": "1"}, "Expected `int`, got `str`"),
        ({"id": "bert"}, "is damaged: its users are not those that its sha256 was made of"),
        ({"deltas": [11, -4, 4]}, "is damaged: its users are not"),
        ({"id": "bob"}, "is damaged: user 'bob' is there twice"),
        ({"deltas": [1]}, "has 1 deltas, 3 reasons and 3 times"),
        ({"reasons": "gcx"}, "has a reason that is none of g, c, r"),
        ({"times": [2, 1, 0]}, "has times that are not one after the other"),
        ({"times": [0, 1, WORLD_SPAN_MS]}, "has times that are not one after the other, from 0 to"),
        ({"created": 1}, "has times that are not one after the other"),
        ({"created": -1}, "has times that are not one after the other"),
        ({"deltas": [10, -4, 2**63]}, "has a delta of more than 64 bits"),
        ({"deltas": [10, -4, 2**64]}, "Integer value out of range|more than 64 bits|Expected `int`"),
        ({"deltas": [10, -4, 0.5]}, "Expected `int`, got `float`"),
        ({"users": "none"}, "Expected `array`, got `str`"),
        ({"users": [7]}, "Expected `object`, got `int`"),
    ],
)
def test_a_damaged_file_and_one_of_a_later_version_are_refused_by_name_and_reason(
    members: dict[str, Any], said: str, file: Path
) -> None:
    with pytest.raises(WorldError, match=rf"world\.json: .*({said})"):
        load_world(changed(file, **members))


@pytest.mark.parametrize("text", [b"", b"null", b"[1]", b"\xff\xfe", b"[" * 100_000, b'{"users": []}'])
def test_what_is_no_world_at_all_is_refused_by_name(text: bytes, file: Path) -> None:
    file.write_bytes(text)
    with pytest.raises(WorldError, match=r"world\.json: is no world, or a damaged one"):
        load_world(file)


def test_a_file_that_is_too_large_is_refused_unread(file: Path) -> None:
    os.truncate(file, 2**30 + 1)
    with pytest.raises(WorldError, match=r"world\.json: is over 1073741824 bytes"):
        load_world(file)


def test_a_file_that_can_not_be_read_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(WorldError, match="can't be read: Is a directory"):
        load_world(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk to be had here")
def test_a_full_disk_leaves_nothing_and_the_old_file_as_it_was(
    file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before, real = file.read_bytes(), Path.open

    def full(path: Path, mode: str) -> Any:
        real(path, mode).close()
        return real(Path("/dev/full"), "wb")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(WorldError, match=r"world\.json: can't be written: " + os.strerror(errno.ENOSPC)):
        save_world(OWN, file)
    monkeypatch.undo()
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_a_world_that_can_not_be_made_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> Any:
        yield history("ada")
        raise WorldError("it can't be met")

    with pytest.raises(WorldError, match="it can't be met"):
        save_world(World("own", 0, 1, fail), tmp_path / "world.json")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(WorldError, match=r"none/world\.json: can't be written: No such file"):
        save_world(OWN, tmp_path / "none" / "world.json")
