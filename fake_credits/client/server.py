"""The server-side clients described in the API README: ``ServerClient`` and its async version.

They support all operations and authenticate with an API key, which must stay on the server.
"""

from collections.abc import AsyncIterator, Iterator
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING

from fake_credits.arguments import BaseUrl, keyword_hint
from fake_credits.client.calls import (
    AsyncBaseClient,
    AsyncItemIterator,
    BaseClient,
    ClientConfig,
    ClientCredential,
    create_transaction,
    create_user,
    get_balance,
    get_user,
    iter_items,
    list_transactions,
    list_users,
    require_contract,
)
from fake_credits.contract import DEFAULT_CONTRACT, Contract
from fake_credits.http_message import AsyncTransport, Transport
from fake_credits.models import Balance, Reason, Transaction, TransactionPage, User, UserPage

if TYPE_CHECKING:
    import httpx2

__all__ = [
    "AsyncServerClient",
    "Balance",
    "Reason",
    "ServerClient",
    "Transaction",
    "TransactionPage",
    "User",
    "UserPage",
]

__tracebackhide__ = True  # a failing test then shows the caller's line, not ours


class ServerClient(BaseClient):
    """A client with an API key: "full access to all operations" (API README).

    ``timeout_s`` is the maximum wait, in seconds, for the next byte (None: no limit). At most one of ``transport`` and
    ``http_client`` may be given; they correspond to ``fetch`` in the API README, and the caller closes them. Methods
    raise errors from `fake_credits.errors`: `ApiError` for an error response, `TransportFailure` if there is no usable
    response. An id that is empty, ``.`` or ``..``, or contains a lone surrogate, raises ValueError before anything is
    sent. Nothing is retried.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        timeout_s: float | None = 30,
        contract: Contract = DEFAULT_CONTRACT,
        transport: Transport | None = None,
        http_client: "httpx2.Client | None" = None,
    ) -> None:
        super().__init__(_server_client_config(base_url, api_key, timeout_s, contract), transport, http_client)

    def __repr__(self) -> str:
        return f"ServerClient({self._config.base_url.text!r}, {self._config.credential!r})"

    def create_user(self, application_id: str, user_id: str) -> User:
        """Create a user, or leave an existing one unchanged; the API README calls this "idempotent"."""
        return self._send(create_user(self._builder, application_id, user_id))

    def get_user(self, application_id: str, user_id: str) -> User:
        """Return a user; raise `UserNotFound` if the application has no user with this id."""
        return self._send(get_user(self._builder, application_id, user_id))

    def list_users(self, application_id: str, cursor: str | None = None) -> UserPage:
        """Return a page of users, by default the first; ``cursor`` is an earlier page's ``next_cursor``."""
        return self._send(list_users(self._builder, application_id, cursor))

    def iter_users(self, application_id: str) -> Iterator[User]:
        """Yield all users of an application, fetching pages as needed; raise `InvalidResponse` if a cursor repeats."""
        return iter_items(partial(self.list_users, application_id), attrgetter("users"))

    def get_balance(self, application_id: str, user_id: str) -> Balance:
        """Return a user's balance in credits."""
        return self._send(get_balance(self._builder, application_id, user_id))

    @keyword_hint("delta")
    def create_transaction(
        self, application_id: str, user_id: str, *, delta: float, reason: Reason | str
    ) -> Transaction:
        """Grant, consume or refund credits; raise `InsufficientCredits` if the balance is too low.

        ``delta`` is in credits, negative to consume. The client sends ``delta`` and ``reason`` unchanged, and the API
        validates them. After a `TransportFailure`, check the history before you retry: the first call may have taken
        effect.
        """
        return self._send(create_transaction(self._builder, application_id, user_id, delta=delta, reason=reason))

    def list_transactions(self, application_id: str, user_id: str, cursor: str | None = None) -> TransactionPage:
        """Return a page of a user's history, by default the first; ``cursor`` is an earlier page's ``next_cursor``."""
        return self._send(list_transactions(self._builder, application_id, user_id, cursor))

    def iter_transactions(self, application_id: str, user_id: str) -> Iterator[Transaction]:
        """Yield a user's complete history, fetching pages as needed; raise `InvalidResponse` if a cursor repeats."""
        return iter_items(partial(self.list_transactions, application_id, user_id), attrgetter("transactions"))


class AsyncServerClient(AsyncBaseClient):
    """The async version of `ServerClient`, for asyncio and trio; it may be created outside the event loop."""

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        timeout_s: float | None = 30,
        contract: Contract = DEFAULT_CONTRACT,
        transport: AsyncTransport | None = None,
        http_client: "httpx2.AsyncClient | None" = None,
    ) -> None:
        super().__init__(_server_client_config(base_url, api_key, timeout_s, contract), transport, http_client)

    def __repr__(self) -> str:
        return f"AsyncServerClient({self._config.base_url.text!r}, {self._config.credential!r})"

    async def create_user(self, application_id: str, user_id: str) -> User:
        """Create a user, or leave an existing one unchanged; the API README calls this "idempotent"."""
        return await self._send(create_user(self._builder, application_id, user_id))

    async def get_user(self, application_id: str, user_id: str) -> User:
        """Return a user; raise `UserNotFound` if the application has no user with this id."""
        return await self._send(get_user(self._builder, application_id, user_id))

    async def list_users(self, application_id: str, cursor: str | None = None) -> UserPage:
        """Return a page of users, by default the first; ``cursor`` is an earlier page's ``next_cursor``."""
        return await self._send(list_users(self._builder, application_id, cursor))

    def iter_users(self, application_id: str) -> AsyncIterator[User]:
        """Yield all users of an application, fetching pages as needed; raise `InvalidResponse` if a cursor repeats."""
        return AsyncItemIterator(partial(self.list_users, application_id), attrgetter("users"))

    async def get_balance(self, application_id: str, user_id: str) -> Balance:
        """Return a user's balance in credits."""
        return await self._send(get_balance(self._builder, application_id, user_id))

    @keyword_hint("delta")
    async def create_transaction(
        self, application_id: str, user_id: str, *, delta: float, reason: Reason | str
    ) -> Transaction:
        """Grant, consume or refund credits, as `ServerClient.create_transaction` does."""
        return await self._send(create_transaction(self._builder, application_id, user_id, delta=delta, reason=reason))

    async def list_transactions(self, application_id: str, user_id: str, cursor: str | None = None) -> TransactionPage:
        """Return a page of a user's history, by default the first; ``cursor`` is an earlier page's ``next_cursor``."""
        return await self._send(list_transactions(self._builder, application_id, user_id, cursor))

    def iter_transactions(self, application_id: str, user_id: str) -> AsyncIterator[Transaction]:
        """Yield a user's complete history, fetching pages as needed; raise `InvalidResponse` if a cursor repeats."""
        return AsyncItemIterator(partial(self.list_transactions, application_id, user_id), attrgetter("transactions"))


def _server_client_config(base_url: str, api_key: str, timeout_s: float | None, contract: Contract) -> ClientConfig:
    credential = ClientCredential("api_key", api_key, require_contract(contract).api_key)
    return ClientConfig(BaseUrl.parse(base_url), credential, timeout_s, contract)
