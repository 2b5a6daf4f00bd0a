"""Own the rule for ids of users and applications (row 24), for the wire and for Python alike."""

import re
import unicodedata

from fake_credits.contract.model import Contract

__all__ = ["id_problem"]


def id_problem(contract: Contract, text: str) -> str:
    """Return how an id breaks the contract's rule, an empty string where it does not."""
    if len(text) > contract.id_max_length:
        return f"must have at most {contract.id_max_length} characters, not {len(text)}"
    if not text.isprintable() and any(unicodedata.category(char) == "Cc" for char in text):
        return "must not have control characters"
    if contract.id_pattern and not re.fullmatch(contract.id_pattern, text):
        return f"must match the contract's pattern {contract.id_pattern}"
    return ""
