"""Own what every exchange of one contract shares, made once; know nothing of any one request."""

import re
import unicodedata

from fake_credits.auth.credentials import CredentialReader
from fake_credits.contract import Contract
from fake_credits.errors import Problem, ValidationError
from fake_credits.web.cors import CorsPolicy
from fake_credits.web.routing import RouteTable
from fake_credits.web.wire import Codec

__all__ = ["Service"]


class Service:
    """Keep a contract with its routes, codec, credential reader, CORS policy and rule for ids."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.routes = RouteTable(contract)
        self.credentials = CredentialReader(contract)
        self.codec = Codec(contract)
        self.cors = CorsPolicy(contract)
        self._id_pattern = re.compile(contract.id_pattern) if contract.id_pattern else None

    def __repr__(self) -> str:
        return f"<Service: {self.routes!r}>"

    def check_id(self, field: str, text: str) -> None:
        """Raise ValidationError for an id that breaks the contract's rule (row 24)."""
        problem = self._id_problem(text)
        if problem:
            raise ValidationError(f"{field} {problem}", details=(Problem(field, problem),))

    def _id_problem(self, text: str) -> str:
        longest = self.contract.id_max_length
        if len(text) > longest:
            return f"must have at most {longest} characters, not {len(text)}"
        if not text.isprintable() and any(unicodedata.category(char) == "Cc" for char in text):
            return "must not have control characters"
        if self._id_pattern is not None and not self._id_pattern.fullmatch(text):
            return f"must match the contract's pattern {self._id_pattern.pattern}"
        return ""
