"""The clients described in the API README, sync and async, for any base URL.

``fake_credits.client.server`` and ``fake_credits.client.user`` correspond to that README's two entry points. Importing
them loads no HTTP or event-loop library; the first client that uses the network loads httpx2.
"""

from fake_credits.client.calls import PreparedCall
from fake_credits.client.server import AsyncServerClient, ServerClient
from fake_credits.client.user import AsyncUserClient, UserClient
from fake_credits.http_message import AsyncTransport, Request, Response, Transport

__all__ = [
    "AsyncServerClient",
    "AsyncTransport",
    "AsyncUserClient",
    "PreparedCall",
    "Request",
    "Response",
    "ServerClient",
    "Transport",
    "UserClient",
]
