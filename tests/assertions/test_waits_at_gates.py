"""Test what the end of a sandbox, and its reset, do to whoever waits at one of its gates."""

import threading

import pytest

from fake_credits.errors import GateTimeout
from fake_credits.fake import FakeCredits


@pytest.mark.parametrize("end", ["close", "reset"])
def test_its_end_and_its_reset_end_a_wait_at_a_gate(end: str) -> None:
    with FakeCredits() as credits:
        gate = credits.hold("createTransaction")
        ending = threading.Thread(target=getattr(credits, end))
        ending.start()
        with pytest.raises(GateTimeout, match="0 of 1 arrived before its sandbox's end or reset"):
            gate.wait_for(1, limit_s=30)
        ending.join()
