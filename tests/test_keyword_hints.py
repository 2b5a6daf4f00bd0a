"""Test the errors for arguments by position that must be passed by keyword."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from fake_credits.client.control import RemoteSandbox
from fake_credits.client.server import AsyncServerClient
from fake_credits.fake import FakeCredits
from fake_credits.transports.shared_resources import SharedResources

CALLS: dict[str, tuple[Callable[[Any], object], str]] = {
    "clock": (lambda fake: fake.clock.advance(60), "Clock.advance() takes no positional arguments (keywords: days, "),
    "user": (lambda fake: fake.user("ada", 100), "takes 1 positional argument (keywords: balance, "),
    "token": (lambda fake: fake.token("ada", "expired"), "use token('ada', bad='expired')"),
    "create_transaction": (
        lambda fake: fake.server_client.create_transaction("app-id", "ada", 5, reason="grant"),
        "use create_transaction('app-id', 'ada', delta=5)",
    ),
    "async create_transaction": (
        lambda fake: asyncio.run(fake.async_server_client.create_transaction("app-id", "ada", 5, "grant")),
        "AsyncServerClient.create_transaction() takes 2 positional arguments (keywords: delta, reason): use create_tr",
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
