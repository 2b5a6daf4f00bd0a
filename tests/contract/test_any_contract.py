"""Properties that hold under every contract, tested with random contracts."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_credits.api.openapi import openapi_document
from fake_credits.client.server import ServerClient
from fake_credits.client.user import UserClient
from fake_credits.contract import Contract
from fake_credits.errors import BalanceLimitExceeded, InsufficientCredits
from fake_credits.fake import FakeCredits
from fake_credits.transports.in_process import IN_PROCESS_BASE_URL, InProcessDriver, InProcessTransport
from fake_credits.transports.shared_resources import SharedResources
from tests.contract.openapi_checker import CheckedTransport, OpenApiChecker
from tests.contract.strategies import contracts

APP = "app-id"
NOW = datetime(2026, 3, 1, 12, 30, 15, tzinfo=UTC)
CHANGES = st.lists(
    st.tuples(st.sampled_from(["grant", "refund", "consume"]), st.integers(1, 300)), min_size=1, max_size=12
).map(lambda changes: [(reason, -size if reason == "consume" else size) for reason, size in changes])


def is_allowed(contract: Contract, balance: int, delta: int) -> bool:
    """Return whether the contract allows a change of the balance, computed independently of the ledger."""
    if delta < 0:
        return contract.floor is None or balance + delta >= contract.floor
    return contract.ceiling is None or balance + delta <= contract.ceiling


@settings(max_examples=50)
@given(contract=contracts(), changes=CHANGES)
def test_transactions_round_trip_under_any_contract(contract: Contract, changes: list[tuple[str, int]]) -> None:
    with FakeCredits(contract=contract, clock=NOW) as fake:
        driver = InProcessDriver(SharedResources().app(contract), fake.sandbox)
        transport = CheckedTransport(InProcessTransport(driver), OpenApiChecker(contract))
        server = ServerClient(IN_PROCESS_BASE_URL, fake.api_key, contract=contract, transport=transport)
        user = UserClient(IN_PROCESS_BASE_URL, APP, fake.token("ada"), contract=contract, transport=transport)
        assert server.create_user(APP, "ada").user_id == "ada"
        accepted: list[tuple[str, int]] = []
        balance = 0
        for reason, delta in changes:
            if not is_allowed(contract, balance, delta):
                error_type = InsufficientCredits if delta < 0 else BalanceLimitExceeded
                with pytest.raises(error_type) as caught:
                    server.create_transaction(APP, "ada", delta=delta, reason=reason)
                assert caught.value.status == contract.status_of(error_type)
                continue
            created = server.create_transaction(APP, "ada", delta=delta, reason=reason)
            assert (created.delta, created.reason) == (delta, reason)
            accepted.append((reason, delta))
            balance += delta
        history = [(str(item.reason), item.delta) for item in server.iter_transactions(APP, "ada")]
        assert history == (accepted if contract.transactions_order == "oldest_first" else accepted[::-1])
        assert server.get_balance(APP, "ada").balance == user.get_balance("ada").balance == balance
        assert list(user.iter_transactions("ada")) == list(server.iter_transactions(APP, "ada"))
        assert [item.user_id for item in server.iter_users(APP)] == ["ada"]
        assert user.get_user("ada").created_at == NOW
        assert fake.problems() == []


@settings(max_examples=50)
@given(contract=contracts())
def test_openapi_document_names_every_operation_under_any_contract(contract: Contract) -> None:
    document = json.loads(json.dumps(openapi_document(contract, "1")))
    assert sum(len(path) for path in document["paths"].values()) == 6
