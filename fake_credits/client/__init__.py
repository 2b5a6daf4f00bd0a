"""Own the clients of the API's README, sync and async, for any base URL; know nothing of the fake.

``fake_credits.client.server`` and ``fake_credits.client.user`` are the README's two entry points. Importing them
loads no HTTP library and no event loop; httpx2 is loaded with the first client that goes over the network.
"""

from fake_credits.client.calls import Call
from fake_credits.client.server import AsyncServerClient, ServerClient
from fake_credits.client.transport import Answer, AsyncTransport, Transport, WireRequest
from fake_credits.client.user import AsyncUserClient, UserClient

__all__ = [
    "Answer",
    "AsyncServerClient",
    "AsyncTransport",
    "AsyncUserClient",
    "Call",
    "ServerClient",
    "Transport",
    "UserClient",
    "WireRequest",
]
