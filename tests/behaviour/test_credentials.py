"""Who may do what, as our clients see it under any contract."""

from typing import Any

import pytest

from fake_credits.errors import ERRORS, ApiError, Forbidden, InsufficientScope, InvalidApiKey, InvalidToken
from fake_credits.tokens.bad_tokens import BAD_TOKENS
from tests.behaviour.conftest import APP, World

READS = ["get_user", "get_balance", "list_transactions"]
CALLS: dict[str, dict[str, Any]] = {
    "create_user": {"user_id": "ada"},
    "get_user": {"user_id": "ada"},
    "list_users": {},
    "get_balance": {"user_id": "ada"},
    "create_transaction": {"user_id": "ada", "delta": 1, "reason": "grant"},
    "list_transactions": {"user_id": "ada"},
}


@pytest.fixture
def peopled(world: World) -> World:
    world.fake.user("ada", balance=100)
    world.fake.user("bob", balance=7)
    return world


def test_a_user_reads_what_the_server_reads(peopled: World) -> None:
    user, server = peopled.user(), peopled.server
    assert user.get_user("ada") == server.get_user(APP, "ada")
    assert user.get_balance("ada") == server.get_balance(APP, "ada")
    assert user.list_transactions("ada") == server.list_transactions(APP, "ada")


@pytest.mark.parametrize("operation", READS)
@pytest.mark.parametrize("other", ["bob", "nobody"])
def test_a_user_reads_nobody_else_whether_they_exist_or_not(peopled: World, operation: str, other: str) -> None:
    with pytest.raises(Forbidden) as caught:
        getattr(peopled.user(), operation)(other)
    assert (caught.value.status, caught.value.auth_reason) == (403, "other_user")


@pytest.mark.parametrize("operation", ["create_user", "create_transaction", "list_users"])
def test_a_users_token_neither_writes_nor_lists_users(peopled: World, operation: str) -> None:
    with pytest.raises(InsufficientScope) as caught:
        getattr(peopled.writer_with(peopled.fake.token("ada")), operation)(APP, **CALLS[operation])
    assert caught.value.status == 403
    assert peopled.fake.balance("ada") == 100


def test_a_key_that_is_not_the_sandboxs_opens_nothing(peopled: World) -> None:
    for operation, words in CALLS.items():
        with pytest.raises(InvalidApiKey) as caught:
            getattr(peopled.server_with("sk_wrong"), operation)(APP, **words)
        assert caught.value.status == 401
    assert peopled.fake.balance("ada") == 100


@pytest.mark.parametrize("kind", BAD_TOKENS)
def test_a_bad_token_is_refused_with_its_code_and_why(peopled: World, kind: str) -> None:
    expected = BAD_TOKENS[kind]
    with pytest.raises(ERRORS[expected.code]) as caught:
        peopled.user_with(peopled.fake.token("ada", bad=kind)).get_balance("ada")
    error: ApiError = caught.value
    assert (error.status, error.auth_reason) == (expected.status, expected.auth_reason)


def test_a_token_expires_by_the_sandboxs_clock(peopled: World) -> None:
    user = peopled.user_with(peopled.fake.token("ada", expires_in_s=60))
    assert user.get_balance("ada").balance == 100
    peopled.fake.clock.advance(seconds=3600)
    with pytest.raises(ApiError) as caught:
        user.get_balance("ada")
    assert caught.value.code == "token_expired"


def test_an_api_key_is_no_token(peopled: World) -> None:
    with pytest.raises((InvalidToken, InvalidApiKey)):
        peopled.user_with("sk_rubbish").get_balance("ada")


def test_a_token_is_good_for_every_application(peopled: World) -> None:
    peopled.fake.user("ada", balance=3, application_id="other")
    assert peopled.user(application_id="other").get_balance("ada").balance == 3
