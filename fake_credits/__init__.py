"""The public names of fake-credits, each imported on first access to keep ``import fake_credits`` cheap."""

TYPE_CHECKING = False  # type checkers treat it as True; importing typing would double this module's import time

if TYPE_CHECKING:
    from fake_credits.call_patterns import Call as Call
    from fake_credits.client.server import AsyncServerClient as AsyncServerClient
    from fake_credits.client.server import ServerClient as ServerClient
    from fake_credits.client.user import AsyncUserClient as AsyncUserClient
    from fake_credits.client.user import UserClient as UserClient
    from fake_credits.contract import Contract as Contract
    from fake_credits.errors import ApiError as ApiError
    from fake_credits.errors import FakeCreditsError as FakeCreditsError
    from fake_credits.fake import FakeCredits as FakeCredits
    from fake_credits.models import Reason as Reason

__all__ = [
    "ApiError",
    "AsyncServerClient",
    "AsyncUserClient",
    "Call",
    "Contract",
    "FakeCredits",
    "FakeCreditsError",
    "Reason",
    "ServerClient",
    "UserClient",
]

if not TYPE_CHECKING:
    # Hidden from type checkers, which would otherwise accept a misspelt import.
    _MODULES_BY_NAME = {
        "ApiError": "errors",
        "AsyncServerClient": "client.server",
        "AsyncUserClient": "client.user",
        "Call": "call_patterns",
        "Contract": "contract",
        "FakeCredits": "fake",
        "FakeCreditsError": "errors",
        "Reason": "models",
        "ServerClient": "client.server",
        "UserClient": "client.user",
    }

    def __getattr__(name: str) -> object:
        """Import a public name on first access (PEP 562)."""
        if name not in _MODULES_BY_NAME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import importlib

        value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_MODULES_BY_NAME[name]}"), name)
        return value
