"""Authentication and authorization, through the clients under any contract."""

from typing import Any

import pytest

from fake_credits.errors import ERRORS, ApiError, Forbidden, InsufficientScope, InvalidApiKey, InvalidToken
from fake_credits.tokens.bad_tokens import BAD_TOKENS, BadTokenKind
from tests.behaviour.conftest import APP, ApiEnvironment

READS = ["get_user", "get_balance", "list_transactions"]
ARGUMENTS: dict[str, dict[str, Any]] = {
    "create_user": {"user_id": "ada"},
    "get_user": {"user_id": "ada"},
    "list_users": {},
    "get_balance": {"user_id": "ada"},
    "create_transaction": {"user_id": "ada", "delta": 1, "reason": "grant"},
    "list_transactions": {"user_id": "ada"},
}


@pytest.fixture
def env_with_users(env: ApiEnvironment) -> ApiEnvironment:
    env.fake.user("ada", balance=100)
    env.fake.user("bob", balance=7)
    return env


def test_user_and_server_client_read_the_same_data(env_with_users: ApiEnvironment) -> None:
    user, server = env_with_users.user(), env_with_users.server
    assert user.get_user("ada") == server.get_user(APP, "ada")
    assert user.get_balance("ada") == server.get_balance(APP, "ada")
    assert user.list_transactions("ada") == server.list_transactions(APP, "ada")


@pytest.mark.parametrize("operation", READS)
@pytest.mark.parametrize("other", ["bob", "nobody"])
def test_user_cannot_read_other_users_whether_they_exist_or_not(
    env_with_users: ApiEnvironment, operation: str, other: str
) -> None:
    with pytest.raises(Forbidden) as caught:
        getattr(env_with_users.user(), operation)(other)
    assert (caught.value.status, caught.value.auth_reason) == (403, "other_user")


@pytest.mark.parametrize("operation", ["create_user", "create_transaction", "list_users"])
def test_user_token_can_neither_write_nor_list_users(env_with_users: ApiEnvironment, operation: str) -> None:
    with pytest.raises(InsufficientScope) as caught:
        getattr(env_with_users.server_with_user_token(env_with_users.fake.token("ada")), operation)(
            APP, **ARGUMENTS[operation]
        )
    assert caught.value.status == 403
    assert env_with_users.fake.balance("ada") == 100


def test_wrong_api_key_is_rejected(env_with_users: ApiEnvironment) -> None:
    for operation, arguments in ARGUMENTS.items():
        with pytest.raises(InvalidApiKey) as caught:
            getattr(env_with_users.server_with("sk_wrong"), operation)(APP, **arguments)
        assert caught.value.status == 401
    assert env_with_users.fake.balance("ada") == 100


@pytest.mark.parametrize("kind", BAD_TOKENS)
def test_bad_token_is_rejected_with_code_and_reason(env_with_users: ApiEnvironment, kind: BadTokenKind) -> None:
    expected = BAD_TOKENS[kind]
    with pytest.raises(ERRORS[expected.code]) as caught:
        env_with_users.user_with(env_with_users.fake.token("ada", bad=kind)).get_balance("ada")
    error: ApiError = caught.value
    assert (error.status, error.auth_reason) == (expected.status, expected.auth_reason)


def test_token_expires_by_sandbox_clock(env_with_users: ApiEnvironment) -> None:
    user = env_with_users.user_with(env_with_users.fake.token("ada", expires_in_s=60))
    assert user.get_balance("ada").balance == 100
    env_with_users.fake.clock.advance(seconds=3600)
    with pytest.raises(ApiError) as caught:
        user.get_balance("ada")
    assert caught.value.code == "token_expired"


def test_api_key_is_rejected_as_token(env_with_users: ApiEnvironment) -> None:
    with pytest.raises((InvalidToken, InvalidApiKey)):
        env_with_users.user_with("sk_rubbish").get_balance("ada")


def test_token_is_valid_for_every_application(env_with_users: ApiEnvironment) -> None:
    env_with_users.fake.user("ada", balance=3, application_id="other")
    assert env_with_users.user(application_id="other").get_balance("ada").balance == 3
