"""Fixtures for the assertion tests: a journal, and a function that writes an exchange to it."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from fake_credits.assertions import JournalAssertions
from fake_credits.journal import JournalEntry

WriteEntry = Callable[..., JournalEntry]

API_KEY = "fake_credits_key_of_a_test"


def entry(ordinal: int, operation: str = "createTransaction", **fields: Any) -> JournalEntry:
    values: dict[str, Any] = {"method": "POST", "target": "/somewhere", "user": "ada", "status": 201, **fields}
    return JournalEntry(ordinal=ordinal, request_id=f"req_{ordinal}", at_ms=0, operation=operation, **values)


@pytest.fixture
def journal() -> JournalAssertions:
    return JournalAssertions(threading.RLock(), api_key=API_KEY)


@pytest.fixture
def write_entry(journal: JournalAssertions) -> WriteEntry:
    """Return a function that writes the next exchange with the given fields of `JournalEntry`."""

    def write(operation: str = "createTransaction", **fields: Any) -> JournalEntry:
        written = entry(journal.begin_exchange()[0], operation, **fields)
        journal.write(written)
        return written

    return write
