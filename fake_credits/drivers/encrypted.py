"""Own connections until they are encrypted; know nothing of what is then said on them, nor by which server.

An event loop's own server shakes hands too, but nobody can cut its connections before they are through: uvloop would
wait at its end for a client that says nothing.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["EncryptedListener"]

_BACKLOG = 2048  # as uvicorn
_NO_MORE_FILES_S = 0.1


class EncryptedListener:
    """Accept connections, shake hands, and let a protocol of ``speaker`` speak on each.

    A client that breaks off in the handshake, or speaks no TLS, is no error and none of the speaker's business.
    ``tasks`` holds what is under way: it is empty soon after ``close``.
    """

    def __init__(
        self,
        listener: socket.socket,
        context: ssl.SSLContext,
        speaker: Callable[[], asyncio.Protocol],
        tasks: set[asyncio.Task[None]],
    ) -> None:
        self._listener = listener
        self._context = context
        self._speaker = speaker
        self._tasks = tasks
        self._unready: set[socket.socket] = set()
        self._accepting: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin to accept."""
        self._listener.listen(_BACKLOG)
        self._accepting = self._begin(self._accept())
        self._accepting.add_done_callback(lambda _: self._listener.close())

    def close(self) -> None:
        """Accept no more, close the socket, and cut who has not finished the handshake."""
        if self._accepting is not None:
            self._accepting.cancel()
        for connection in self._unready:
            with contextlib.suppress(OSError):  # it has gone by itself
                connection.shutdown(socket.SHUT_RDWR)

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listener)
            except OSError:  # too many open files: some may be closed by then
                await asyncio.sleep(_NO_MORE_FILES_S)
                continue
            self._unready.add(connection)
            self._begin(self._shake_hands(connection))

    async def _shake_hands(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            # An ssl.SSLError is an OSError.
            with contextlib.suppress(OSError):
                await loop.connect_accepted_socket(self._speaker, connection, ssl=self._context)
        finally:
            self._unready.discard(connection)
