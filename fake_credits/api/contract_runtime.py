"""Own what every exchange of one contract shares, made once; know nothing of any one request."""

from fake_credits.api.access import CorsPolicy
from fake_credits.api.codec import Codec
from fake_credits.api.routing import RouteTable
from fake_credits.contract import Contract
from fake_credits.tokens.credentials import CredentialReader

__all__ = ["ContractRuntime"]


class ContractRuntime:
    """Keep a contract with its routes, codec, credential reader and CORS policy."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.routes = RouteTable(contract)
        self.credential_reader = CredentialReader(contract)
        self.codec = Codec(contract)
        self.cors = CorsPolicy(contract)

    def __repr__(self) -> str:
        return f"<ContractRuntime: {self.routes!r}>"
