"""Python servers that need a few lines of code to start.

python -m tests.benchmarks.peers.stubs NAME PORT READY_FILE
"""

import json
import logging
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import uvicorn
from pytest_httpserver import HTTPServer

from tests.benchmarks import raw
from tests.benchmarks.peers.servers import BALANCE, CREATED, GET, POST
from tests.benchmarks.servers import NaiveFake


def serve_naive_fake(port: int, ready_file: Path, *, cached: bool) -> None:
    """Serve the naive fake, and write the user's token to the ready file."""
    fake = NaiveFake(cached=cached)
    ready_file.write_text(f"CREDITS_USER_TOKEN={fake.token}\n")
    config = raw.uvicorn_config(fake.app)
    config.port = port
    uvicorn.Server(config).run()


def serve_stubs(port: int, _ready_file: Path) -> None:
    """Serve two fixed answers with pytest-httpserver."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with HTTPServer(host="127.0.0.1", port=port) as server:
        server.expect_request(GET.path, method="GET").respond_with_json(json.loads(BALANCE))
        server.expect_request(POST.path, method="POST").respond_with_json(json.loads(CREATED), 201)
        threading.Event().wait()


SERVERS: dict[str, Callable[[int, Path], None]] = {
    "naive": lambda port, ready_file: serve_naive_fake(port, ready_file, cached=False),
    "naive-cached": lambda port, ready_file: serve_naive_fake(port, ready_file, cached=True),
    "pytest-httpserver": serve_stubs,
}

if __name__ == "__main__":
    SERVERS[sys.argv[1]](int(sys.argv[2]), Path(sys.argv[3]))
