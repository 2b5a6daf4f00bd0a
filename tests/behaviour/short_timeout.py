"""A client with a short timeout, for calls that get no response."""

import contextlib
from collections.abc import Generator
from dataclasses import dataclass

from fake_credits.client.server import ServerClient
from fake_credits.errors import TransportFailure
from fake_credits.fake import ClientMode, FakeCredits
from fake_credits.http_message import Request, Response, Transport
from fake_credits.journal import Journal
from fake_credits.transports.in_process import IN_PROCESS_BASE_URL
from fake_credits.transports.shared_resources import SharedResources
from tests.behaviour.effect_cases import open_transport
from tests.behaviour.raw_connection import wait_until


@dataclass
class _JournaledTransport:
    """A transport that raises a failure only once the call has a journal entry, however slow the server is."""

    transport: Transport
    journal: Journal

    def send(self, request: Request) -> Response:
        entry_count = len(self.journal)
        try:
            return self.transport.send(request)
        except TransportFailure:
            wait_until(lambda: len(self.journal) > entry_count)
            raise

    def close(self) -> None:
        self.transport.close()


@contextlib.contextmanager
def client_with_short_timeout(fake: FakeCredits, mode: ClientMode, shared: SharedResources) -> Generator[ServerClient]:
    """Yield a client with a timeout of 50 ms, for calls that get no response."""
    with open_transport(fake, mode, shared) as transport:
        journaled = _JournaledTransport(transport, fake.journal)
        yield ServerClient(IN_PROCESS_BASE_URL, fake.api_key, transport=journaled, timeout_s=0.05)
