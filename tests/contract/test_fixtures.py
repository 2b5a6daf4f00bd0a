"""The two foreign contracts: each is what its name says, and differs from the default as it should."""

from dataclasses import fields
from pathlib import Path

import pytest

from fake_credits.contract import DEFAULT_CONTRACT, Contract, CredentialHeader, Operation
from fake_credits.contract.loading import load_contract
from fake_credits.errors import ERRORS

FOLDER = Path(__file__).parents[2] / "fixtures" / "contracts"
STRIPE = load_contract(FOLDER / "stripe-manner.toml")
FORMANCE = load_contract(FOLDER / "formance-manner.toml")


def changed(contract: Contract) -> set[str]:
    return {
        each.name for each in fields(contract) if getattr(contract, each.name) != getattr(DEFAULT_CONTRACT, each.name)
    }


def test_stripes_manner_has_a_bearer_key_and_tokens_elsewhere() -> None:
    assert STRIPE.api_key == CredentialHeader("Authorization", "Bearer")
    assert STRIPE.user_token == CredentialHeader("X-User-Token")


def test_stripes_manner_posts_to_create_and_answers_200_and_402() -> None:
    creates = (Operation.CREATE_USER, Operation.CREATE_TRANSACTION)
    assert [STRIPE.routes[each].method for each in creates] == ["POST", "POST"]
    assert {STRIPE.created_user_status, STRIPE.existing_user_status, STRIPE.created_transaction_status} == {200}
    assert STRIPE.status_of(ERRORS["insufficient_credits"]) == 402


def test_stripes_manner_counts_seconds() -> None:
    assert STRIPE.created_at == "unix_s"


def test_formances_manner_is_v2_with_400_flat_errors_and_the_oldest_first() -> None:
    assert all(route.path.startswith("/v2/") for route in FORMANCE.routes.values())
    assert FORMANCE.status_of(ERRORS["insufficient_credits"]) == 400
    assert FORMANCE.error_body == "flat"
    assert (FORMANCE.transactions_order, FORMANCE.users_order) == ("oldest_first", "oldest_first")


@pytest.mark.parametrize("contract", [STRIPE, FORMANCE], ids=["stripe", "formance"])
def test_a_foreign_contract_moves_most_operations_and_renames_members(contract: Contract) -> None:
    moved = [each for each in Operation if contract.routes[each] != DEFAULT_CONTRACT.routes[each]]
    assert len(moved) == 6
    assert {"routes", "field_names", "page_size", "created_transaction", "end_of_list", "created_at"} <= changed(
        contract
    )


def test_the_two_have_little_in_common() -> None:
    same = {each for each in changed(STRIPE) & changed(FORMANCE) if getattr(STRIPE, each) == getattr(FORMANCE, each)}
    assert same == set()
