"""The control plane's handlers for users, their histories and their tokens."""

from collections.abc import Iterable
from typing import Any, cast

from starlette.requests import Request

from fake_credits import control_schemas as schemas
from fake_credits.clock import from_ms
from fake_credits.control.inputs import check_choice, field_errors, requested_sandbox, validation_error
from fake_credits.ledger import Account
from fake_credits.models import Transaction
from fake_credits.sandbox_options import MintOptions
from fake_credits.tokens.bad_tokens import BAD_TOKENS


def list_users(request: Request, query: schemas.UserQuery) -> schemas.UserList:
    """List all users of an application, oldest first, without an exchange in the journal."""
    accounts = requested_sandbox(request).users(application_id=query.application_id or "")
    return schemas.UserList(tuple(map(_user_state, accounts)))


def set_user(request: Request, body: schemas.SetUserBody) -> schemas.UserState:
    """Create a user and, with `balance`, set the balance by one grant or consumption."""
    sandbox, user_id = requested_sandbox(request), request.path_params["user"]
    with field_errors():
        account = sandbox.set_balance(user_id, body.balance, application_id=body.application_id or "")
    return _user_state(account)


def get_user(request: Request, query: schemas.UserQuery) -> schemas.UserState:
    """Return a user's balance, without an exchange in the journal."""
    user_id = request.path_params["user"]
    return _user_state(requested_sandbox(request).account(user_id, application_id=query.application_id or ""))


def delete_user(request: Request, query: schemas.UserQuery) -> schemas.UserState:
    """Delete a user with the whole history, and return the user."""
    user_id = request.path_params["user"]
    return _user_state(requested_sandbox(request).delete_user(user_id, application_id=query.application_id or ""))


def _user_state(account: Account) -> schemas.UserState:
    return schemas.UserState(account.application_id, account.user_id, account.balance, from_ms(account.created_at_ms))


def list_transactions(request: Request, query: schemas.UserQuery) -> schemas.TransactionList:
    """List a user's whole history, oldest first, without an exchange in the journal."""
    sandbox, user_id = requested_sandbox(request), request.path_params["user"]
    return _transaction_list(sandbox.transactions(user_id, application_id=query.application_id or ""))


def add_transactions(request: Request, body: schemas.AddTransactionsBody) -> schemas.TransactionList:
    """Append transactions to a user's history, creating the user if needed, or none if one is invalid."""
    sandbox, user_id = requested_sandbox(request), request.path_params["user"]
    transactions = cast("Any", body.transactions)
    with field_errors("transactions"):
        try:
            added = sandbox.add_transactions(user_id, transactions, application_id=body.application_id or "")
        except TypeError as error:
            raise validation_error("transactions", str(error)) from None
    return _transaction_list(added)


def _transaction_list(transactions: Iterable[Transaction]) -> schemas.TransactionList:
    return schemas.TransactionList(
        tuple(schemas.TransactionState(each.delta, each.reason, each.created_at) for each in transactions)
    )


def bind_user(request: Request, body: schemas.Binding) -> schemas.Binding:
    """Make a trusted issuer's tokens of a user select a sandbox."""
    try:
        request.app.sandboxes.bind_token_subject(requested_sandbox(request), body.issuer, body.user_id)
    except ValueError as error:
        raise validation_error("issuer", str(error)) from None
    return body


def mint_token(request: Request, body: schemas.MintTokenBody) -> schemas.MintedToken:
    """Mint a user's token or, with `bad`, one that the API must reject."""
    sandbox = requested_sandbox(request)
    if body.bad is not None:
        check_choice("bad", body.bad, BAD_TOKENS)
    options = MintOptions(
        bad=body.bad, expires_in_s=body.expires_in_s, claims=body.claims, use_wall_clock=body.clock == "wall"
    )
    user_id = body.user_id or sandbox.options.user_id
    with field_errors():
        return schemas.MintedToken(user_id, sandbox.token(user_id, options))
