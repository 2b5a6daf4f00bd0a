"""Fixtures for signing keys, a minter and a verifier."""

import pytest

from fake_credits.tokens.keys import SigningKeys
from fake_credits.tokens.minting import Minter
from fake_credits.tokens.verifying import Verifier

NOW_MS = 1_700_000_000_000


@pytest.fixture(scope="session")
def shared_keys() -> SigningKeys:
    """Return keys shared by tests that do not rotate or retire them, as generating an RSA key takes 40 ms."""
    return SigningKeys()


@pytest.fixture
def minter(shared_keys: SigningKeys) -> Minter:
    return Minter(shared_keys)


@pytest.fixture
def verifier(minter: Minter) -> Verifier:
    return Verifier([minter.issuer])
