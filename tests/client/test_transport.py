"""Test the values that transports carry."""

from fake_credits import client
from fake_credits.client.transport import Answer


def test_an_answers_header_is_its_first_field_of_that_name_or_empty() -> None:
    answer = Answer(200, ((b"x-a", b"1"), (b"x-a", b"2"), (b"x-b", b"\xe9")), b"")
    assert [answer.header(name) for name in (b"x-a", b"x-b", b"x-c")] == ["1", "é", ""]


def test_the_packages_names_are_sorted_and_there() -> None:
    assert client.__all__ == sorted(client.__all__)
    assert all(hasattr(client, name) for name in client.__all__)
