"""Own the live server's side of a connection: a thin subclass of uvicorn's HTTP protocol.

With the runner this is the only code that knows uvicorn. It lends each request its line, and writes the contract's
error body where the HTTP parser refuses what came.
"""

import asyncio
import logging
import re
import socket
import struct
import sys
from dataclasses import dataclass
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from fake_credits.errors import ApiError, MalformedRequest
from fake_credits.sandbox import Sandboxes
from fake_credits.web.answer import Headers, Message
from fake_credits.web.app import EXTENSION
from fake_credits.web.exchange import Exchange
from fake_credits.web.hosts import HostPolicy
from fake_credits.web.service import Service

__all__ = ["HEAD_LIMIT_BYTES", "CreditsProtocol", "Front"]

HEAD_LIMIT_BYTES = 64 * 1024
"""A larger request head is refused with ``malformed_request``: httptools itself has no limit."""

_LOG = logging.getLogger("fake_credits.server")
_LOG.setLevel(logging.ERROR)  # what uvicorn warns of, an unreadable request, is in the journal
_ESTABLISHED = 1

# No upgrade is taken (RFC 9110, section 7.8: a server may ignore it), but httptools stops reading at one, body and all,
# and Java's HttpClient offers h2c with every request. The name in its place is as long; a JSON text has no bare CRLF.
_UPGRADE = re.compile(rb"\r\nupgrade:", re.IGNORECASE)


@dataclass(frozen=True)
class Front:
    """Be what every connection of one server shares: its contract's service, its sandboxes and its Host policy."""

    service: Service
    sandboxes: Sandboxes
    hosts: HostPolicy


class _Line:
    """Be the line of one connection: the sandbox is named by the credential, and the Host is checked."""

    sandbox = None

    def __init__(self, front: Front, transport: asyncio.Transport) -> None:
        self.refusal = front.hosts.refusal
        self._transport = transport
        self._socket: socket.socket | None = transport.get_extra_info("socket")

    async def deliverable(self) -> bool:
        """Tell whether the client has neither closed the connection nor been cut off."""
        return not self._transport.is_closing() and _is_established(self._socket)


class CreditsProtocol(HttpToolsProtocol):
    """Speak HTTP/1.1 with one client."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        front: Front,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.logger = _LOG  # uvicorn's own would print each unreadable request as a warning of the server
        self.access_log = False  # uvicorn writes one where anybody in the process listens; we have a journal
        self._front = front
        self._head_open = False
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin a connection."""
        super().connection_made(transport)
        self._extensions = {EXTENSION: _Line(self._front, transport)}

    def data_received(self, data: bytes) -> None:
        """Read on, and refuse a head that does not end."""
        scope = self.scope if self._head_open else None
        super().data_received(_UPGRADE.sub(b"\r\nIgnored:", data))
        # The parser keeps an unfinished header to itself, so what came is counted where it was all one head's.
        if self._head_open and self.scope is scope and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_LIMIT_BYTES:
                self.send_400_response("")

    def on_message_begin(self) -> None:
        """Begin a request, and lend it this connection's line."""
        super().on_message_begin()
        self._head_open, self._head_bytes = True, 0
        self.scope["extensions"] = self._extensions  # type: ignore[typeddict-item]

    def on_headers_complete(self) -> None:
        """End a request's head; an error raised here is the parser's, which answers it."""
        self._head_open = False
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > HEAD_LIMIT_BYTES:
            self._head_bytes = HEAD_LIMIT_BYTES + 1
            raise ValueError("the head is too large")
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP in the contract's error body, journal it, and close."""
        if self._head_bytes > HEAD_LIMIT_BYTES:
            msg = f"its head has more than {HEAD_LIMIT_BYTES} bytes (64 KiB)"
        refusal: ApiError = MalformedRequest(f"this is no HTTP request that can be read: {msg}")
        scope: Message = {"method": "", "raw_path": b"", "query_string": b"", "headers": []}
        exchange = Exchange(self._front.service, self._front.sandboxes.default, scope, refusal)
        answer = exchange.refuse(refusal)
        headers: Headers = [
            *self.server_state.default_headers,
            *answer.all_headers(exchange.request_id),
            (b"connection", b"close"),
        ]
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        self.transport.write(STATUS_LINE[answer.status] + lines + b"\r\n" + answer.body)
        self.transport.close()


def _is_established(connection: socket.socket | None) -> bool:
    if connection is None or not sys.platform.startswith("linux"):
        return True
    try:
        state = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    except OSError:
        return False
    return bool(struct.unpack("B", state)[0] == _ESTABLISHED)
