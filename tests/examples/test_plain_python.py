from fake_credits import FakeCredits


def test_fake_without_fixture() -> None:
    with FakeCredits() as credits:
        credits.user("ada", balance=100)
        credits.server_client.create_transaction("app-id", "ada", delta=-10, reason="consume")
        assert credits.user_client("ada").get_balance("ada").balance == 90
