"""Test shared resources: one server per contract, one set of keys, and isolated sandboxes."""

import socket
from collections.abc import Iterator

import pytest
import requests

from fake_credits.client.server import ServerClient
from fake_credits.client.user import UserClient
from fake_credits.contract import Contract
from fake_credits.errors import ApiError, InvalidApiKey, InvalidToken
from fake_credits.fake import FakeCredits
from fake_credits.models import Balance
from fake_credits.transports.shared_resources import SharedResources


@pytest.fixture
def shared() -> Iterator[SharedResources]:
    resources = SharedResources()
    yield resources
    resources.close()


def test_sandboxes_with_same_contract_share_server(shared: SharedResources) -> None:
    with FakeCredits(shared=shared) as first, FakeCredits(shared=shared, contract=Contract()) as second:
        assert first.base_url == second.base_url
        assert repr(shared) == "<SharedResources: contracts=1, live servers=1>"


def test_sandboxes_with_different_contracts_use_different_servers(shared: SharedResources) -> None:
    small = Contract(page_size=1)
    with FakeCredits(shared=shared) as first, FakeCredits(shared=shared, contract=small) as second:
        assert first.base_url != second.base_url
        assert repr(shared) == "<SharedResources: contracts=2, live servers=2>"


def test_server_starts_only_on_demand(shared: SharedResources) -> None:
    with FakeCredits(shared=shared, balance=1) as fake:
        fake.server_client.get_balance("app-id", "user-id")
        assert repr(shared) == "<SharedResources: contracts=1, live servers=0>"


def test_jwks_is_the_same_for_every_sandbox(shared: SharedResources) -> None:
    """An application may cache the JWKS."""
    with FakeCredits(shared=shared) as first:
        published = requests.get(first.base_url + "/.well-known/jwks.json", timeout=5).json()
    with FakeCredits(shared=shared) as second:
        assert requests.get(second.base_url + "/.well-known/jwks.json", timeout=5).json() == published
        assert second.sandbox.jwks() == published
        assert len(published["keys"]) == 1


def test_new_sandbox_uses_same_server_with_fresh_state(shared: SharedResources) -> None:
    urls: set[str] = set()
    for balance in (1, 2, 3):
        with FakeCredits(shared=shared, mode="live", balance=balance) as fake:
            urls.add(fake.base_url)
            assert fake.user_client().get_balance("user-id") == Balance(balance)
            assert len(fake.journal) == 1
    assert len(urls) == 1


def test_attached_sandboxes_are_selected_by_key_and_token(shared: SharedResources) -> None:
    with (
        FakeCredits(shared=shared, mode="live", balance=1) as first,
        FakeCredits(shared=shared, mode="live", balance=2) as second,
    ):
        for fake, balance in ((first, 1), (second, 2), (first, 1)):
            assert fake.server_client.get_balance("app-id", "user-id") == Balance(balance)
            assert fake.user_client().get_balance("user-id") == Balance(balance)
        assert (len(first.journal), len(second.journal)) == (4, 2)


def test_constant_api_key_selects_current_sandbox(shared: SharedResources) -> None:
    """An application may read its API key only once."""
    base_url = ""
    for balance in (1, 2):
        with FakeCredits(shared=shared, api_key="fck_constant", balance=balance) as fake:
            base_url = fake.base_url
            with ServerClient(base_url, "fck_constant") as client:
                assert client.get_balance("app-id", "user-id") == Balance(balance)


def test_duplicate_api_key_is_rejected(shared: SharedResources) -> None:
    with (
        FakeCredits(shared=shared, api_key="fck_constant", mode="live") as first,
        FakeCredits(shared=shared, api_key="fck_constant") as second,
    ):
        first.serve()
        with pytest.raises(ValueError, match="already attached"):
            second.serve()


@pytest.mark.parametrize("credential", ["no key", "unknown key", "garbled token", "expired token"])
def test_invalid_credential_is_journaled_in_last_attached_sandbox(shared: SharedResources, credential: str) -> None:
    with FakeCredits(shared=shared) as earlier, FakeCredits(shared=shared) as last:
        url = earlier.base_url
        headers = {
            "no key": {},
            "unknown key": {"X-API-Key": "fck_misspelt"},
            "garbled token": {"Authorization": "Bearer a.b.c"},
            "expired token": {"Authorization": f"Bearer {last.token(bad='expired')}"},
        }[credential]
        assert last.base_url == url
        response = requests.get(f"{url}/v1/applications/app-id/users", headers=headers, timeout=5)
        assert response.status_code == 401
        assert [entry.status for entry in last.journal] == [401]
        assert len(earlier.journal) == 0


def test_closing_last_sandbox_makes_previous_one_the_default(shared: SharedResources) -> None:
    with FakeCredits(shared=shared) as earlier:
        url = earlier.base_url
        with FakeCredits(shared=shared) as last:
            last.serve()
        assert requests.get(url + "/v1/applications/app-id/users", timeout=5).status_code == 401
        assert (len(earlier.journal), len(last.journal)) == (1, 0)


def test_credentials_of_closed_sandbox_are_rejected(shared: SharedResources) -> None:
    with FakeCredits(shared=shared, balance=1) as fake:
        url, key, token = fake.base_url, fake.api_key, fake.token()
    with FakeCredits(shared=shared, balance=2) as fresh:
        fresh.serve()
        with ServerClient(url, key) as server, pytest.raises(InvalidApiKey):
            server.get_balance("app-id", "user-id")
        with UserClient(url, "app-id", token) as user, pytest.raises(InvalidToken):
            user.get_balance("user-id")
        assert [entry.status for entry in fresh.journal] == [401, 401]


def test_server_restarts_on_demand_after_close(shared: SharedResources) -> None:
    with FakeCredits(shared=shared, mode="live") as fake:
        fake.serve()
    shared.close()
    assert repr(shared).endswith("live servers=0>")
    with FakeCredits(shared=shared, mode="live", balance=1) as fake:
        assert fake.server_client.get_balance("app-id", "user-id") == Balance(1)


def test_error_is_the_same_with_both_drivers(shared: SharedResources) -> None:
    errors: list[tuple[int, str, str]] = []
    for mode in ("in-process", "live"):
        with FakeCredits(shared=shared, mode=mode) as fake, pytest.raises(ApiError) as raised:  # pyright: ignore[reportArgumentType]
            fake.server_client.get_balance("app-id", "user-id")
        errors.append((raised.value.status, raised.value.code, raised.value.message))
    assert errors[0] == errors[1]


def test_server_uses_given_listening_socket(shared: SharedResources) -> None:
    """Before the server starts, connections are refused."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = "http://{}:{}".format(*listener.getsockname())
        with pytest.raises(requests.ConnectionError, match="refused"):
            requests.get(url, timeout=5)
        server = shared.server(Contract(), listener)
        assert server.base_url == url
        assert shared.server(Contract(), listener) is server
        assert requests.get(url + "/_fake/livez", timeout=5).ok
