"""The control plane's handler for users of foreign issuers."""

from starlette.requests import Request

from fake_credits.control.handlers import validation_error
from fake_credits.control_schemas import Binding

__all__ = ["bind_user"]


def bind_user(request: Request, body: Binding) -> Binding:
    """Make a trusted issuer's tokens of a user select a sandbox."""
    sandbox = request.app.find_sandbox(request.path_params["sandbox"])
    try:
        request.app.sandboxes.bind_token_subject(sandbox, body.issuer, body.user_id)
    except ValueError as error:
        raise validation_error("issuer", str(error)) from None
    return body
