"""Own what the tests of assertions share: a journal, and a short way to put an exchange into it."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from fake_credits.journal import Entry
from fake_credits.sandbox.asserting.journal import CallJournal

Told = Callable[..., Entry]

API_KEY = "fake_credits_key_of_a_test"


def entry(ordinal: int, operation: str = "createTransaction", **fields: Any) -> Entry:
    words: dict[str, Any] = {"method": "POST", "target": "/somewhere", "user": "ada", "status": 201, **fields}
    return Entry(ordinal=ordinal, request_id=f"req_{ordinal}", at_ms=0, operation=operation, **words)


@pytest.fixture
def journal() -> CallJournal:
    return CallJournal(threading.RLock(), api_key=API_KEY)


@pytest.fixture
def tell(journal: CallJournal) -> Told:
    """Write the next exchange: an operation and fields of `Entry`."""

    def write(operation: str = "createTransaction", **fields: Any) -> Entry:
        told = entry(journal.next_ordinal(), operation, **fields)
        journal.write(told)
        return told

    return write
