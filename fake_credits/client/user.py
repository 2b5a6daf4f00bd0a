"""The client-side clients described in the API README: ``UserClient`` and its async version.

They only read one user's own data, and authenticate with that user's token. The API README calls them "read-only" and
"safe to use in frontend applications".
"""

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING

from fake_credits.arguments import BaseUrl, quote_id
from fake_credits.client.calls import (
    AsyncBaseClient,
    AsyncItemIterator,
    BaseClient,
    ClientConfig,
    ClientCredential,
    get_balance,
    get_user,
    iter_items,
    list_transactions,
    require_contract,
)
from fake_credits.contract import DEFAULT_CONTRACT, Contract
from fake_credits.http_message import AsyncTransport, Transport
from fake_credits.models import Balance, Reason, Transaction, TransactionPage, User

if TYPE_CHECKING:
    import httpx2

__all__ = ["AsyncUserClient", "Balance", "Reason", "Transaction", "TransactionPage", "User", "UserClient"]

__tracebackhide__ = True  # a failing test then shows the caller's line, not ours


class UserClient(BaseClient):
    """A client for one user: it "can only access the authenticated user's own data (read-only)" (API README).

    ``bearer_token`` is the token, or a function without parameters that is called before each request and returns the
    token. The keyword arguments and the errors are the same as for `ServerClient`.
    """

    def __init__(
        self,
        base_url: str,
        application_id: str,
        bearer_token: str | Callable[[], str],
        *,
        timeout_s: float | None = 30,
        contract: Contract = DEFAULT_CONTRACT,
        transport: Transport | None = None,
        http_client: "httpx2.Client | None" = None,
    ) -> None:
        quote_id("application_id", application_id)  # raises ValueError for an invalid id
        self._application_id = application_id
        super().__init__(_user_client_config(base_url, bearer_token, timeout_s, contract), transport, http_client)

    def __repr__(self) -> str:
        return f"UserClient({_repr_arguments(self._config, self._application_id)})"

    def get_user(self, user_id: str) -> User:
        """Return the authenticated user; raise `Forbidden` for any other user."""
        return self._send(get_user(self._builder, self._application_id, user_id))

    def get_balance(self, user_id: str) -> Balance:
        """Return the authenticated user's balance in credits."""
        return self._send(get_balance(self._builder, self._application_id, user_id))

    def list_transactions(self, user_id: str, cursor: str | None = None) -> TransactionPage:
        """Return a page of the user's history (default: the first); ``cursor`` is an earlier page's ``next_cursor``."""
        return self._send(list_transactions(self._builder, self._application_id, user_id, cursor))

    def iter_transactions(self, user_id: str) -> Iterator[Transaction]:
        """Yield the user's complete history, fetching pages as needed; raise `InvalidResponse` if a cursor repeats."""
        return iter_items(partial(self.list_transactions, user_id), attrgetter("transactions"))


class AsyncUserClient(AsyncBaseClient):
    """The async version of `UserClient`, for asyncio and trio; it may be created outside the event loop."""

    def __init__(
        self,
        base_url: str,
        application_id: str,
        bearer_token: str | Callable[[], str],
        *,
        timeout_s: float | None = 30,
        contract: Contract = DEFAULT_CONTRACT,
        transport: AsyncTransport | None = None,
        http_client: "httpx2.AsyncClient | None" = None,
    ) -> None:
        quote_id("application_id", application_id)  # raises ValueError for an invalid id
        self._application_id = application_id
        super().__init__(_user_client_config(base_url, bearer_token, timeout_s, contract), transport, http_client)

    def __repr__(self) -> str:
        return f"AsyncUserClient({_repr_arguments(self._config, self._application_id)})"

    async def get_user(self, user_id: str) -> User:
        """Return the authenticated user; raise `Forbidden` for any other user."""
        return await self._send(get_user(self._builder, self._application_id, user_id))

    async def get_balance(self, user_id: str) -> Balance:
        """Return the authenticated user's balance in credits."""
        return await self._send(get_balance(self._builder, self._application_id, user_id))

    async def list_transactions(self, user_id: str, cursor: str | None = None) -> TransactionPage:
        """Return a page of the user's history (default: the first); ``cursor`` is an earlier page's ``next_cursor``."""
        return await self._send(list_transactions(self._builder, self._application_id, user_id, cursor))

    def iter_transactions(self, user_id: str) -> AsyncIterator[Transaction]:
        """Yield the user's complete history, fetching pages as needed; raise `InvalidResponse` if a cursor repeats."""
        return AsyncItemIterator(partial(self.list_transactions, user_id), attrgetter("transactions"))


def _user_client_config(
    base_url: str, bearer_token: str | Callable[[], str], timeout_s: float | None, contract: Contract
) -> ClientConfig:
    credential = ClientCredential("bearer_token", bearer_token, require_contract(contract).user_token)
    return ClientConfig(BaseUrl.parse(base_url), credential, timeout_s, contract)


def _repr_arguments(config: ClientConfig, application_id: str) -> str:
    return f"{config.base_url.text!r}, application_id={application_id!r}, {config.credential!r}"
