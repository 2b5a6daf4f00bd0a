"""Own what the tests of assertions share: a journal, and a short way to put an exchange into it."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from fake_credits.assertions import JournalAssertions
from fake_credits.journal import JournalEntry

Told = Callable[..., JournalEntry]

API_KEY = "fake_credits_key_of_a_test"


def entry(ordinal: int, operation: str = "createTransaction", **fields: Any) -> JournalEntry:
    words: dict[str, Any] = {"method": "POST", "target": "/somewhere", "user": "ada", "status": 201, **fields}
    return JournalEntry(ordinal=ordinal, request_id=f"req_{ordinal}", at_ms=0, operation=operation, **words)


@pytest.fixture
def journal() -> JournalAssertions:
    return JournalAssertions(threading.RLock(), api_key=API_KEY)


@pytest.fixture
def tell(journal: JournalAssertions) -> Told:
    """Write the next exchange: an operation and fields of `JournalEntry`."""

    def write(operation: str = "createTransaction", **fields: Any) -> JournalEntry:
        told = entry(journal.next_ordinal(), operation, **fields)
        journal.write(told)
        return told

    return write
