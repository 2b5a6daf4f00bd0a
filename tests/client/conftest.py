"""Own the doubles that the clients' tests share: one text for sync and async, and a server of raw bytes."""

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
def ask(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Return a function that makes a client, calls one method of it and closes it: sync, in asyncio, in trio."""
    flavour = str(request.param)

    def ask(kind: str, made_of: tuple[Any, ...], method: str, *args: Any, **options: Any) -> Any:
        call = {name: options.pop(name) for name in ("delta", "reason") if name in options}
        blocking, asynchronous = _CLIENTS[kind]
        if flavour == "sync":
            with blocking(*made_of, **options) as client:
                result = getattr(client, method)(*args, **call)
                return list(result) if method.startswith("iter_") else result

        async def main() -> Any:
            async with asynchronous(*made_of, **options) as client:
                result = getattr(client, method)(*args, **call)
                if method.startswith("iter_"):
                    return [item async for item in result]
                return await result

        return asyncio.run(main()) if flavour == "asyncio" else trio.run(main)

    return ask


@pytest.fixture
def raw_server() -> Iterator[Callable[[bytes | Callable[[socket.socket], None]], tuple[str, list[bytes]]]]:
    """Return a function that starts a server with one reply, as bytes or a deed, and gives its URL and what it got."""
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
            requests.append(_request(connection))
            if callable(reply):
                reply(connection)
            else:
                connection.sendall(reply)


def _request(connection: socket.socket) -> bytes:
    got = b""
    while b"\r\n\r\n" not in got:
        chunk = connection.recv(65536)
        if not chunk:
            return got
        got += chunk
    head, _, body = got.partition(b"\r\n\r\n")
    lengths = [int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    while len(body) < (lengths or [0])[0]:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body
