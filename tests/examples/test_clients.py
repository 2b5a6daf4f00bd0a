import pytest

from fake_credits.client.server import ServerClient
from fake_credits.client.user import UserClient
from fake_credits.errors import UserNotFound


def test_server_and_user_clients(
    fake_credits_server_client: ServerClient, fake_credits_user_client: UserClient
) -> None:
    server = fake_credits_server_client  # ServerClient("https://your-api-url.com", "your-api-key")
    server.create_user("app-id", "user-id")
    server.create_transaction("app-id", "user-id", delta=100, reason="grant")
    server.create_transaction("app-id", "user-id", delta=-10, reason="consume")
    assert [user.user_id for user in server.iter_users("app-id")] == ["user-id"]
    with pytest.raises(UserNotFound, match="create the user with createUser first"):
        server.get_balance("app-id", "somebody-else")

    user = fake_credits_user_client  # UserClient("https://your-api-url.com", "app-id", user_jwt)
    assert user.get_balance("user-id").balance == 90
    assert [transaction.reason for transaction in user.iter_transactions("user-id")] == ["consume", "grant"]
    assert not hasattr(user, "create_transaction")
