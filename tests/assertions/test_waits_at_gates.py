"""Test that closing or resetting a sandbox ends waits at its gates."""

import threading

import pytest

from fake_credits.errors import GateTimeout
from fake_credits.fake import FakeCredits


@pytest.mark.parametrize("method", ["close", "reset"])
def test_closing_or_resetting_sandbox_ends_wait_at_gate(method: str) -> None:
    with FakeCredits() as credits:
        gate = credits.hold("createTransaction")
        thread = threading.Thread(target=getattr(credits, method))
        thread.start()
        with pytest.raises(GateTimeout, match="0 of 1 calls arrived before its sandbox closed or was reset"):
            gate.wait_for(1, limit_s=30)
        thread.join()
