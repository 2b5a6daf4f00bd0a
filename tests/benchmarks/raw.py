"""Reference server: a minimal ASGI application on uvicorn.

python -m tests.benchmarks.raw PORT
"""

import json
import socket
import sys
from typing import Any

import uvicorn

USER = "/v1/applications/app-id/users/user-id"
BALANCES = {USER + "/balance": 100}
HISTORY: list[tuple[int, str]] = []


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Look up a path in a dictionary; for a POST, read the body and store it."""
    status, body = 200, b""
    if scope["method"] == "POST":
        transaction = json.loads((await receive())["body"])
        HISTORY.append((transaction["delta"], transaction["reason"]))
        BALANCES[USER + "/balance"] += transaction["delta"]
        status, body = 201, b'{"delta":1,"reason":"grant","createdAt":"2026-01-01T00:00:00.000Z"}'
    elif scope["path"] in BALANCES:
        body = b'{"balance":%d}' % BALANCES[scope["path"]]
    else:
        status = 404
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def uvicorn_config(asgi_app: Any) -> uvicorn.Config:
    """Return uvicorn's configuration for a reference server: fastest loop and parser, no access log."""
    return uvicorn.Config(
        asgi_app,
        http="httptools",
        loop="uvloop",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
    )


def main() -> None:
    """Serve on the port given on the command line."""
    # pass IPPROTO_TCP explicitly, as the live driver does; otherwise Nagle's algorithm stays on
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(sys.argv[1])))
    uvicorn.Server(uvicorn_config(app)).run(sockets=[listener])


if __name__ == "__main__":
    main()
