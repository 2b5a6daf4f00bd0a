"""The two example contracts, modeled on Stripe and Formance."""

from dataclasses import fields
from pathlib import Path

import pytest

from fake_credits.contract import DEFAULT_CONTRACT, Contract, CredentialHeader, Operation
from fake_credits.contract.loading import load_contract
from fake_credits.errors import ERRORS

FOLDER = Path(__file__).parents[2] / "fixtures" / "contracts"
STRIPE = load_contract(FOLDER / "stripe-manner.toml")
FORMANCE = load_contract(FOLDER / "formance-manner.toml")


def changed_settings(contract: Contract) -> set[str]:
    return {
        setting.name
        for setting in fields(contract)
        if getattr(contract, setting.name) != getattr(DEFAULT_CONTRACT, setting.name)
    }


def test_stripe_contract_has_bearer_key_and_custom_token_header() -> None:
    assert STRIPE.api_key == CredentialHeader("Authorization", "Bearer")
    assert STRIPE.user_token == CredentialHeader("X-User-Token")


def test_stripe_contract_creates_with_post_and_returns_200_and_402() -> None:
    creates = (Operation.CREATE_USER, Operation.CREATE_TRANSACTION)
    assert [STRIPE.routes[setting].method for setting in creates] == ["POST", "POST"]
    assert {STRIPE.created_user_status, STRIPE.existing_user_status, STRIPE.created_transaction_status} == {200}
    assert STRIPE.status_of(ERRORS["insufficient_credits"]) == 402


def test_stripe_contract_uses_unix_seconds() -> None:
    assert STRIPE.created_at == "unix_s"


def test_formance_contract_has_v2_paths_flat_400_errors_and_oldest_first_lists() -> None:
    assert all(route.path.startswith("/v2/") for route in FORMANCE.routes.values())
    assert FORMANCE.status_of(ERRORS["insufficient_credits"]) == 400
    assert FORMANCE.error_body == "flat"
    assert (FORMANCE.transactions_order, FORMANCE.users_order) == ("oldest_first", "oldest_first")


@pytest.mark.parametrize("contract", [STRIPE, FORMANCE], ids=["stripe", "formance"])
def test_example_contract_moves_operations_and_renames_fields(contract: Contract) -> None:
    moved = [setting for setting in Operation if contract.routes[setting] != DEFAULT_CONTRACT.routes[setting]]
    assert len(moved) == 6
    assert {
        "routes",
        "field_names",
        "page_size",
        "created_transaction",
        "end_of_list",
        "created_at",
    } <= changed_settings(contract)


def test_example_contracts_share_no_changed_setting() -> None:
    common = {
        setting
        for setting in changed_settings(STRIPE) & changed_settings(FORMANCE)
        if getattr(STRIPE, setting) == getattr(FORMANCE, setting)
    }
    assert common == set()
