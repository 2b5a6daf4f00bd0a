"""Own what every exchange of one contract shares, made once; know nothing of any one request."""

from fake_credits.auth.credentials import CredentialReader
from fake_credits.contract import Contract
from fake_credits.web.cors import CorsPolicy
from fake_credits.web.routing import RouteTable
from fake_credits.web.wire import Codec

__all__ = ["Service"]


class Service:
    """Keep a contract with its routes, codec, credential reader and CORS policy."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.routes = RouteTable(contract)
        self.credentials = CredentialReader(contract)
        self.codec = Codec(contract)
        self.cors = CorsPolicy(contract)

    def __repr__(self) -> str:
        return f"<Service: {self.routes!r}>"
