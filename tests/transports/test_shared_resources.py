"""Test what sandboxes share: one server a contract, one set of keys, and a fresh sandbox without a restart."""

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
    parts = SharedResources()
    yield parts
    parts.close()


def test_sandboxes_of_one_contract_share_one_server(shared: SharedResources) -> None:
    with FakeCredits(shared=shared) as first, FakeCredits(shared=shared, contract=Contract()) as second:
        assert first.base_url == second.base_url
        assert repr(shared) == "<SharedResources: 1 contracts, 1 live servers>"


def test_each_contract_has_a_server_of_its_own(shared: SharedResources) -> None:
    small = Contract(page_size=1)
    with FakeCredits(shared=shared) as first, FakeCredits(shared=shared, contract=small) as second:
        assert first.base_url != second.base_url
        assert repr(shared) == "<SharedResources: 2 contracts, 2 live servers>"


def test_no_server_starts_before_it_is_asked_for(shared: SharedResources) -> None:
    with FakeCredits(shared=shared, balance=1) as fake:
        fake.server_client.get_balance("app-id", "user-id")
        assert repr(shared) == "<SharedResources: 1 contracts, 0 live servers>"


def test_the_published_keys_are_constant_from_sandbox_to_sandbox(shared: SharedResources) -> None:
    """An application that has cached the JWKS keeps working."""
    with FakeCredits(shared=shared) as first:
        published = requests.get(first.base_url + "/.well-known/jwks.json", timeout=5).json()
    with FakeCredits(shared=shared) as second:
        assert requests.get(second.base_url + "/.well-known/jwks.json", timeout=5).json() == published
        assert second.sandbox.jwks() == published
        assert len(published["keys"]) == 1


def test_each_test_has_a_fresh_sandbox_on_the_same_server_without_a_restart(shared: SharedResources) -> None:
    urls: set[str] = set()
    for balance in (1, 2, 3):
        with FakeCredits(shared=shared, mode="live", balance=balance) as fake:
            urls.add(fake.base_url)
            assert fake.user_client().get_balance("user-id") == Balance(balance)
            assert len(fake.journal) == 1
    assert len(urls) == 1


def test_sandboxes_attached_at_once_are_told_apart_by_key_and_by_token(shared: SharedResources) -> None:
    with (
        FakeCredits(shared=shared, mode="live", balance=1) as first,
        FakeCredits(shared=shared, mode="live", balance=2) as second,
    ):
        for fake, balance in ((first, 1), (second, 2), (first, 1)):
            assert fake.server_client.get_balance("app-id", "user-id") == Balance(balance)
            assert fake.user_client().get_balance("user-id") == Balance(balance)
        assert (len(first.journal), len(second.journal)) == (4, 2)


def test_one_key_for_all_is_rebound_to_each_fresh_sandbox(shared: SharedResources) -> None:
    """For an application that is configured once."""
    base_url = ""
    for balance in (1, 2):
        with FakeCredits(shared=shared, api_key="fck_constant", balance=balance) as fake:
            base_url = fake.base_url
            with ServerClient(base_url, "fck_constant") as client:
                assert client.get_balance("app-id", "user-id") == Balance(balance)


def test_a_key_that_an_attached_sandbox_has_is_refused_to_another(shared: SharedResources) -> None:
    with (
        FakeCredits(shared=shared, api_key="fck_constant", mode="live") as first,
        FakeCredits(shared=shared, api_key="fck_constant") as second,
    ):
        first.serve()
        with pytest.raises(ValueError, match="attached already"):
            second.serve()


@pytest.mark.parametrize("credential", ["no key", "unknown key", "garbled token", "expired token"])
def test_a_broken_credential_is_journalled_in_the_sandbox_attached_last(
    shared: SharedResources, credential: str
) -> None:
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


def test_after_the_last_sandbox_has_gone_the_one_before_is_the_default_again(shared: SharedResources) -> None:
    with FakeCredits(shared=shared) as earlier:
        url = earlier.base_url
        with FakeCredits(shared=shared) as last:
            last.serve()
        assert requests.get(url + "/v1/applications/app-id/users", timeout=5).status_code == 401
        assert (len(earlier.journal), len(last.journal)) == (1, 0)


def test_a_leaked_client_of_a_test_that_is_over_meets_a_refusal(shared: SharedResources) -> None:
    with FakeCredits(shared=shared, balance=1) as fake:
        url, key, token = fake.base_url, fake.api_key, fake.token()
    with FakeCredits(shared=shared, balance=2) as fresh:
        fresh.serve()
        with ServerClient(url, key) as server, pytest.raises(InvalidApiKey):
            server.get_balance("app-id", "user-id")
        with UserClient(url, "app-id", token) as user, pytest.raises(InvalidToken):
            user.get_balance("user-id")
        assert [entry.status for entry in fresh.journal] == [401, 401]


def test_closed_servers_start_anew_when_they_are_asked_for(shared: SharedResources) -> None:
    with FakeCredits(shared=shared, mode="live") as fake:
        fake.serve()
    shared.close()
    assert repr(shared).endswith("0 live servers>")
    with FakeCredits(shared=shared, mode="live", balance=1) as fake:
        assert fake.server_client.get_balance("app-id", "user-id") == Balance(1)


def test_a_refusal_reads_the_same_over_both_drivers(shared: SharedResources) -> None:
    seen: list[tuple[int, str, str]] = []
    for mode in ("in-process", "live"):
        with FakeCredits(shared=shared, mode=mode) as fake, pytest.raises(ApiError) as refused:  # pyright: ignore[reportArgumentType]
            fake.server_client.get_balance("app-id", "user-id")
        seen.append((refused.value.status, refused.value.code, refused.value.message))
    assert seen[0] == seen[1]


def test_a_server_takes_over_a_port_that_was_bound_before(shared: SharedResources) -> None:
    """Until then a request is refused, not left hanging."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = "http://{}:{}".format(*listener.getsockname())
        with pytest.raises(requests.ConnectionError, match="refused"):
            requests.get(url, timeout=5)
        server = shared.server(Contract(), listener)
        assert server.base_url == url
        assert shared.server(Contract(), listener) is server
        assert requests.get(url + "/_fake/livez", timeout=5).ok
