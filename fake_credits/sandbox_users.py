"""The methods of `FakeCredits` that read and change users without an API call, and the tokens for its user clients."""

from collections.abc import Iterable

from fake_credits.arguments import keyword_hint
from fake_credits.clock import from_ms
from fake_credits.histories import TransactionInput
from fake_credits.ledger import Account
from fake_credits.models import Transaction, User
from fake_credits.sandbox import Sandbox
from fake_credits.sandbox_options import check_id


class SandboxUsers:
    """The users of a sandbox, by default those of its default application."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox

    @property
    def application_id(self) -> str:
        """Return the id of the default application."""
        return self.sandbox.options.application_id

    @property
    def user_id(self) -> str:
        """Return the id of the default user, who exists from the start if the ``balance`` option was set."""
        return self.sandbox.options.user_id

    @keyword_hint("balance")
    def user(self, user_id: str, *, balance: int | None = None, application_id: str | None = None) -> User:
        """Create a user if needed and return the user, without an API call.

        If ``balance`` is given and differs from the user's balance, one grant or consumption sets the new balance.
        Raises ValueError or TypeError for an invalid id or balance.
        """
        account = self.sandbox.set_balance(
            user_id, balance, application_id=self._application_id_or_default(application_id)
        )
        return _user_from(account)

    def users(self, *, application_id: str | None = None) -> tuple[User, ...]:
        """Return all users of an application, oldest first, without an API call."""
        accounts = self.sandbox.users(application_id=self._application_id_or_default(application_id))
        return tuple(map(_user_from, accounts))

    def delete_user(self, user_id: str, *, application_id: str | None = None) -> User:
        """Delete a user and all of the user's transactions, and return the user, without an API call.

        Raises `UserNotFound` if there is no such user, and ValueError or TypeError for an invalid id.
        """
        application = self._application_id_or_default(application_id)
        check_id("user", user_id)
        return _user_from(self.sandbox.delete_user(user_id, application_id=application))

    def balance(self, user_id: str | None = None, *, application_id: str | None = None) -> int:
        """Return a user's balance in credits, without an API call.

        ``user_id`` defaults to the default user's id. Raises `UserNotFound` if there is no such user, and ValueError or
        TypeError for an invalid id.
        """
        application = self._application_id_or_default(application_id)
        return self.sandbox.account(self._user_id_or_default(user_id), application_id=application).balance

    def transactions(self, user_id: str | None = None, *, application_id: str | None = None) -> tuple[Transaction, ...]:
        """Return all transactions of a user, oldest first, without an API call.

        ``user_id`` defaults to the default user's id. Raises `UserNotFound` if there is no such user, and ValueError or
        TypeError for an invalid id.
        """
        application = self._application_id_or_default(application_id)
        return self.sandbox.transactions(self._user_id_or_default(user_id), application_id=application)

    def add_transactions(
        self, user_id: str, transactions: Iterable[TransactionInput], *, application_id: str | None = None
    ) -> tuple[Transaction, ...]:
        """Append transactions to a user's history, creating the user if needed, and return them, without an API call.

        Each transaction is a delta, a `Transaction`, or a mapping with ``delta`` and, optionally, ``reason`` (by
        default ``grant`` or ``consume``, depending on the sign) and ``created_at`` (by default the sandbox's time):
        ``[100, {"delta": -10, "created_at": "2026-01-01T00:00:00Z"}]``. The times must be in order, and not in the
        future.

        Raises ValueError or TypeError for an invalid transaction, and `InsufficientCredits` or another `ApiError` for
        one that breaks a rule of the contract; in either case, none is added.
        """
        application = self._application_id_or_default(application_id)
        return self.sandbox.add_transactions(user_id, transactions, application_id=application)

    def _user_id_or_default(self, user_id: str | None) -> str:
        if user_id is None:
            return self.user_id
        check_id("user", user_id)
        return user_id

    def _application_id_or_default(self, application_id: str | None) -> str:
        if application_id is None:
            return self.application_id
        check_id("application", application_id)
        return application_id


def _user_from(account: Account) -> User:
    return User(account.application_id, account.user_id, from_ms(account.created_at_ms))


class RefreshingToken:
    """A user's token, replaced when the sandbox's clock is outside the token's lifetime, for example after a reset."""

    def __init__(self, sandbox: Sandbox, user_id: str) -> None:
        self._sandbox = sandbox
        self._user_id = user_id
        self._token = ""
        self._valid_from_ms = self._valid_until_ms = 0

    def __call__(self) -> str:
        """Return a valid token."""
        sandbox = self._sandbox
        now_ms = sandbox.clock.now_ms()
        if not self._valid_from_ms <= now_ms < self._valid_until_ms:
            self._token = sandbox.token(self._user_id)
            self._valid_from_ms = now_ms
            self._valid_until_ms = now_ms + sandbox.minter.provider.lifetime_s * 1000
        return self._token
