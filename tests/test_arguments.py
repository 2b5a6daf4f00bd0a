"""Test argument validation: keywords, base URLs, ids, credentials and timeouts."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from fake_credits.arguments import BaseUrl, check_timeout, encode_secret, mask, quote_id
from fake_credits.client.control import RemoteSandbox
from fake_credits.client.server import AsyncServerClient
from fake_credits.fake import FakeCredits
from fake_credits.transports.shared_resources import SharedResources

CALLS: dict[str, tuple[Callable[[Any], object], str]] = {
    "clock": (lambda fake: fake.clock.advance(60), "Clock.advance() takes no positional arguments (keywords: days, "),
    "user": (lambda fake: fake.user("ada", 100), "FakeCredits.user() takes 1 positional argument (keywords: balance, "),
    "token": (lambda fake: fake.token("ada", "expired"), "use token('ada', bad='expired')"),
    "create_transaction": (
        lambda fake: fake.server_client.create_transaction("app-id", "ada", 5, reason="grant"),
        "use create_transaction('app-id', 'ada', delta=5, reason='grant')",
    ),
    "create_transaction without a reason": (
        lambda fake: fake.server_client.create_transaction("app-id", "ada", 5),
        "use create_transaction('app-id', 'ada', delta=5, reason=...)",
    ),
    "async create_transaction": (
        lambda fake: asyncio.run(fake.async_server_client.create_transaction("app-id", "ada", 5, "grant")),
        "AsyncServerClient.create_transaction() takes 2 positional arguments (keywords: delta, reason): "
        "use create_transaction('app-id', 'ada', delta=5, reason='grant')",
    ),
    "assert_called": (
        lambda fake: fake.journal.assert_called("getBalance", 2),
        "use assert_called('getBalance', times=2)",
    ),
    "wait_for": (lambda fake: fake.journal.wait_for("getBalance", 2), "use wait_for('getBalance', times=2)"),
    "entries": (lambda fake: fake.journal.entries("getBalance"), "use entries(operation='getBalance')"),
    "gate": (lambda fake: fake.hold().wait_for(2, 5), "use wait_for(2, limit_s=5)"),
    "remote clock": (lambda _: RemoteSandbox.advance(None, 60), "use advance(seconds=60)"),  # type: ignore[arg-type,call-arg] # pyright: ignore
    "remote user": (lambda _: RemoteSandbox.user(None, "ada", 5), "use user('ada', balance=5)"),  # type: ignore[arg-type,call-arg] # pyright: ignore
}


@pytest.fixture(scope="module")
def shared() -> SharedResources:
    return SharedResources()


@pytest.mark.parametrize(("call", "message"), CALLS.values(), ids=CALLS.keys())
def test_error_names_the_keyword(shared: SharedResources, call: Callable[[Any], object], message: str) -> None:
    with FakeCredits(shared=shared, users={"ada": 1}) as fake, pytest.raises(TypeError) as caught:
        call(fake)
    assert message in str(caught.value)


def test_signature_and_kind_of_function_are_kept() -> None:
    assert list(inspect.signature(FakeCredits.user).parameters) == ["self", "user_id", "balance", "application_id"]
    assert inspect.iscoroutinefunction(AsyncServerClient.create_transaction)


@pytest.mark.parametrize("text", ["http://h", "http://h/", "https://h:8443/api", "https://h/api/", "http://[::1]:80/"])
def test_base_url_drops_its_trailing_slash(text: str) -> None:
    assert BaseUrl.parse(text).text == text.rstrip("/")
    assert not BaseUrl.parse(text).path_prefix.endswith("/")


def test_base_url_keeps_its_path_prefix_unchanged() -> None:
    assert BaseUrl.parse("https://h/a%2Fb/c/").path_prefix == "/a%2Fb/c"


@pytest.mark.parametrize(
    "text",
    ["", "h", "ftp://h", "//h/x", "http://", "http:///x", "http://h?", "http://h?a=1", "http://h#", "http://h/#x",
     "http://user@h", "http://h:99999", "http://h:x", "http://h/a b", "http://h/\n", "http://h/é",
     "http://h/a/../b", "http://h/./", "http://[::1"],
)  # fmt: skip
def test_invalid_base_url_raises_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="^base_url "):
        BaseUrl.parse(text)


@pytest.mark.parametrize("text", ["https://h/?k=secret", "https://h/#secret", "ftp://h/?k=secret"])
def test_base_url_error_does_not_contain_the_query(text: str) -> None:
    with pytest.raises(ValueError, match=r"base_url '[a-z]+://h/[?#]\*\*\*' must") as error:
        BaseUrl.parse(text)
    assert "secret" not in str(error.value)


def test_base_url_error_does_not_contain_the_password() -> None:
    with pytest.raises(ValueError) as exc_info:
        BaseUrl.parse("http://ada:hunter2@h/?x")
    assert "hunter2" not in str(exc_info.value)


@pytest.mark.parametrize("value", [None, b"http://h", 1])
def test_non_string_base_url_raises_type_error(value: Any) -> None:
    with pytest.raises(TypeError, match="base_url"):
        BaseUrl.parse(value)


@pytest.mark.parametrize("value", ["", ".", ".."])
def test_empty_and_dot_ids_raise_value_error(value: str) -> None:
    with pytest.raises(ValueError, match="user_id must not be"):
        quote_id("user_id", value)


@pytest.mark.parametrize("value", [None, 5, b"ada", [], {}])
def test_id_of_another_type_raises_type_error(value: Any) -> None:
    with pytest.raises(TypeError, match="^user_id must be a str, not "):
        quote_id("user_id", value)


def test_lone_surrogate_in_id_raises_value_error() -> None:
    with pytest.raises(ValueError, match=r"user_id .*surrogate"):
        quote_id("user_id", "a\ud800")


@pytest.mark.parametrize("value", ["", " k", "k ", "k\n", "a\r\nX: y", "a\0", "a\x7f", "clé€", "\ud800"])
def test_invalid_header_secret_raises_value_error_without_the_secret(value: str) -> None:
    with pytest.raises(ValueError, match=r"^api_key must") as exc_info:
        encode_secret("api_key", value)
    assert not value or value not in str(exc_info.value)


@pytest.mark.parametrize("value", [None, b"key", 7])
def test_non_string_secret_raises_type_error(value: Any) -> None:
    with pytest.raises(TypeError, match="api_key"):
        encode_secret("api_key", value)


@pytest.mark.parametrize("value", [None, 30, 0.05])
def test_timeout_may_be_seconds_or_none(value: float | None) -> None:
    assert check_timeout(value) == value


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), 10**400])
def test_invalid_timeout_raises_value_error(value: float) -> None:
    with pytest.raises(ValueError, match="timeout_s"):
        check_timeout(value)


@pytest.mark.parametrize("value", [True, "30"])
def test_non_numeric_timeout_raises_type_error(value: Any) -> None:
    with pytest.raises(TypeError, match="timeout_s"):
        check_timeout(value)


def test_mask_shows_at_most_four_characters() -> None:
    assert mask("fck_0123456789") == "fck_…"
    assert mask("12345678") == "…"
