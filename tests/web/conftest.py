"""Own what the web modules' unit tests share: keys are made once."""

import pytest

from fake_credits.drivers.shared import Shared


@pytest.fixture(scope="session")
def shared() -> Shared:
    """Return the applications and keys that tests share; no server is started here."""
    return Shared()
