"""Chance: what is keyed is the same again, and what is fresh is not."""

from fake_credits.chance import draw, fresh_bytes, fresh_name, generator


def test_a_key_always_gives_the_same_draws() -> None:
    """The numbers are written down here: a release that changed them would change everybody's data."""
    draws = generator(0, "demo", 1, 7)
    assert [draws.random(), draws.random()] == [0.8643499071903211, 0.7271137180897601]
    assert (draws.getrandbits(32), draw(0, "demo", 1, 7)) == (972672824, 0.9207161242160422)


def test_keys_whose_parts_run_together_differ() -> None:
    keys: list[tuple[int | str, ...]] = [("a", "b"), ("ab",), ("a, b",), ("a", "b", ""), (1, 2), (12,), ("1", 2)]
    assert len({generator(0, *key).random() for key in keys}) == len(keys)
    assert len({draw(0, *key) for key in keys}) == len(keys)


def test_a_lone_surrogate_is_a_key_too() -> None:
    assert generator(0, "\ud800").random() != generator(0, "\ud801").random()


def test_what_is_fresh_differs() -> None:
    assert fresh_bytes(16) != fresh_bytes(16)
    assert fresh_name("key_").startswith("key_")
    assert fresh_name("") != fresh_name("")
