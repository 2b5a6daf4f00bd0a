"""Fixtures for the clients' tests: one way to call sync and async clients, and a server that replies with raw bytes."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio

from fake_credits.client import AsyncServerClient, AsyncUserClient, ServerClient, UserClient

_CLIENTS: dict[str, tuple[type[Any], type[Any]]] = {
    "server": (ServerClient, AsyncServerClient),
    "user": (UserClient, AsyncUserClient),
}


@pytest.fixture(params=["sync", "asyncio", "trio"])
def call_client(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Return a function that calls one method of a new client: sync, in asyncio, or in trio."""
    runner = str(request.param)

    def call_client(kind: str, client_args: tuple[Any, ...], method: str, *args: Any, **options: Any) -> Any:
        method_options = {name: options.pop(name) for name in ("delta", "reason") if name in options}
        blocking, asynchronous = _CLIENTS[kind]
        if runner == "sync":
            with blocking(*client_args, **options) as client:
                result = getattr(client, method)(*args, **method_options)
                return list(result) if method.startswith("iter_") else result

        async def call_async() -> Any:
            async with asynchronous(*client_args, **options) as client:
                result = getattr(client, method)(*args, **method_options)
                if method.startswith("iter_"):
                    return [item async for item in result]
                return await result

        return asyncio.run(call_async()) if runner == "asyncio" else trio.run(call_async)

    return call_client


@pytest.fixture
def raw_server() -> Iterator[Callable[[bytes | Callable[[socket.socket], None]], tuple[str, list[bytes]]]]:
    """Return a function that starts a server with a reply (bytes or a handler) and returns its URL and requests."""
    listeners: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def start(reply: bytes | Callable[[socket.socket], None]) -> tuple[str, list[bytes]]:
        listener = socket.create_server(("127.0.0.1", 0))
        heads: list[bytes] = []
        thread = threading.Thread(target=_serve, args=(listener, reply, heads), daemon=True)
        listeners.append(listener)
        threads.append(thread)
        thread.start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}", heads

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    for thread in threads:
        thread.join(5)


def _serve(listener: socket.socket, reply: bytes | Callable[[socket.socket], None], requests: list[bytes]) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            requests.append(_read_request(connection))
            if callable(reply):
                reply(connection)
            else:
                connection.sendall(reply)


def _read_request(connection: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        chunk = connection.recv(65536)
        if not chunk:
            return received
        received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    lengths = [int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    while len(body) < (lengths or [0])[0]:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body
