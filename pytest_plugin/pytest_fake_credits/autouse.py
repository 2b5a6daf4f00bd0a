"""Own the fixture that gives every test a sandbox; registered only where the ini ``fake_credits_autouse`` is on.

PYTEST_DONT_REWRITE
"""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fake_credits.fake import FakeCredits

__all__ = ["fake_credits_for_every_test"]


@pytest.fixture(autouse=True)
def fake_credits_for_every_test(fake_credits: "FakeCredits") -> None:
    """Give a test a sandbox, whether it asks for one or not."""
