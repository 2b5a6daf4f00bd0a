"""Test what the clients refuse before anything is sent."""

from typing import Any

import pytest

from fake_credits.client.checks import BaseUrl, masked, quoted_id, secret_bytes, timeout


@pytest.mark.parametrize("text", ["http://h", "http://h/", "https://h:8443/api", "https://h/api/", "http://[::1]:80/"])
def test_a_base_url_works_with_and_without_a_trailing_slash(text: str) -> None:
    assert BaseUrl.parse(text).text == text.rstrip("/")
    assert not BaseUrl.parse(text).prefix.endswith("/")


def test_a_base_url_keeps_its_path_prefix_as_written() -> None:
    assert BaseUrl.parse("https://h/a%2Fb/c/").prefix == "/a%2Fb/c"


@pytest.mark.parametrize(
    "text",
    ["", "h", "ftp://h", "//h/x", "http://", "http:///x", "http://h?", "http://h?a=1", "http://h#", "http://h/#x",
     "http://user@h", "http://h:99999", "http://h:x", "http://h/a b", "http://h/\n", "http://h/é",
     "http://h/a/../b", "http://h/./", "http://[::1"],
)  # fmt: skip
def test_what_is_no_base_url_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="^base_url "):
        BaseUrl.parse(text)


def test_a_refused_base_url_does_not_repeat_a_password() -> None:
    with pytest.raises(ValueError) as caught:
        BaseUrl.parse("http://ada:hunter2@h/?x")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("value", [None, b"http://h", 1])
def test_a_base_url_that_is_no_text_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError, match="base_url"):
        BaseUrl.parse(value)


@pytest.mark.parametrize("value", ["", ".", ".."])
def test_an_id_that_would_reach_another_operation_is_refused_by_name(value: str) -> None:
    with pytest.raises(ValueError, match="user_id must not be"):
        quoted_id("user_id", value)


def test_a_lone_surrogate_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"user_id .*surrogate"):
        quoted_id("user_id", "a\ud800")


@pytest.mark.parametrize("value", ["", " k", "k ", "k\n", "a\r\nX: y", "a\0", "a\x7f", "clé€", "\ud800"])
def test_a_secret_that_no_header_carries_is_refused_and_not_repeated(value: str) -> None:
    with pytest.raises(ValueError, match=r"^api_key must") as caught:
        secret_bytes("api_key", value)
    assert not value or value not in str(caught.value)


@pytest.mark.parametrize("value", [None, b"key", 7])
def test_a_secret_that_is_no_text_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError, match="api_key"):
        secret_bytes("api_key", value)


@pytest.mark.parametrize("value", [None, 30, 0.05])
def test_a_timeout_is_seconds_or_none(value: float | None) -> None:
    assert timeout(value) == value


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_a_timeout_that_no_clock_reaches_is_a_value_error(value: float) -> None:
    with pytest.raises(ValueError, match="timeout_s"):
        timeout(value)


@pytest.mark.parametrize("value", [True, "30"])
def test_a_timeout_that_is_no_number_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError, match="timeout_s"):
        timeout(value)


def test_a_mask_shows_four_characters_at_most_and_none_of_a_short_secret() -> None:
    assert masked("fck_0123456789") == "fck_…"
    assert masked("12345678") == "…"
