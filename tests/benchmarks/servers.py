"""Servers for the benchmarks, one per process: the fake, and the reference servers.

python -m tests.benchmarks.servers NAME [TRANSACTIONS]

A server prints one line of JSON (url, key, token) once it is ready, and serves until it is terminated.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import jwt
import uvicorn
from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from fake_credits.contract import DEFAULT_CONTRACT
from fake_credits.faults import Latency, Rule
from fake_credits.models import Reason
from fake_credits.sandbox import Sandbox
from fake_credits.sandbox_options import SandboxOptions
from fake_credits.sandboxes import SandboxRegistry
from fake_credits.transports.live import BindOptions, ServerRunner, bind, new_event_loop
from fake_credits.transports.shared_resources import SharedResources
from tests.benchmarks import raw

KEY = "benchmark-key"
AT_MS = 1_700_000_000_000


def new_sandbox(transactions: int) -> Sandbox:
    """Return a sandbox with RS256 tokens and a user with the given number of transactions."""
    result = SharedResources().new_sandbox(SandboxOptions(api_key=KEY, balance=1, auth_provider="auth0"))
    account = result.ledger.get_account("app-id", "user-id")
    for _ in range(transactions):
        result.ledger.append(account, 1, Reason.GRANT, AT_MS)
    return result


def serve_fake(transactions: int, delay_ms: int = 0) -> None:
    sandbox = new_sandbox(transactions)
    if delay_ms:
        sandbox.add_fault(Rule(effect=Latency(delay_ms)))
    address = BindOptions()
    runner = ServerRunner(DEFAULT_CONTRACT, SandboxRegistry(sandbox), address, bind(address))

    async def main() -> None:
        await runner.run(asyncio.Event(), lambda: announce(runner.base_url, sandbox.token("user-id")))

    with asyncio.Runner(loop_factory=new_event_loop) as loop:
        loop.run(main())


class NaiveFake:
    """A simple fake built on Starlette and PyJWT."""

    def __init__(self, *, cached: bool) -> None:
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.token = jwt.encode({"sub": "user-id", "exp": 4_000_000_000}, private, algorithm="RS256")
        self._public = private.public_key()
        self._cached = cached
        self._users_by_token: dict[str, str] = {}
        self._balances = {"user-id": 100}
        self._history: list[dict[str, Any]] = []
        path = "/v1/applications/{app}/users/{user}"
        self.app = Starlette(
            routes=[
                Route("/v1/applications/{app}/users", self._balance),
                Route(path, self._balance),
                Route(path + "/balance", self._balance),
                Route(path + "/transactions", self._create_transaction, methods=["POST"]),
            ]
        )

    def _get_user(self, token: str) -> str:
        if self._cached and token in self._users_by_token:
            return self._users_by_token[token]
        user: str = jwt.decode(token, self._public, algorithms=["RS256"])["sub"]
        self._users_by_token[token] = user
        return user

    def _is_forbidden(self, request: Request) -> bool:
        if request.headers.get("x-api-key") == KEY:
            return False
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        user: str = request.path_params["user"]
        return self._get_user(token) != user

    async def _balance(self, request: Request) -> JSONResponse:
        if self._is_forbidden(request):
            return JSONResponse({"error": "forbidden"}, 403)
        return JSONResponse({"balance": self._balances[request.path_params["user"]]})

    async def _create_transaction(self, request: Request) -> JSONResponse:
        if self._is_forbidden(request):
            return JSONResponse({"error": "forbidden"}, 403)
        transaction = await request.json()
        self._balances[request.path_params["user"]] += transaction["delta"]
        self._history.append({**transaction, "createdAt": datetime.now(UTC).isoformat()})
        return JSONResponse(self._history[-1], 201)


def serve_naive_fake(*, cached: bool) -> None:
    result = NaiveFake(cached=cached)
    serve_reference(result.app, result.token)


def serve_reference(app: Any, token: str) -> None:
    """Serve an application with plain uvicorn, on a socket with the options of the live server."""
    listener = bind(BindOptions())
    host, port = listener.getsockname()

    class AnnouncingServer(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            announce(f"http://{host}:{port}", token)

    AnnouncingServer(raw.uvicorn_config(app)).run(sockets=[listener])


def announce(url: str, token: str) -> None:
    """Print the server's URL and credentials."""
    sys.stdout.write(json.dumps({"url": url, "key": KEY, "token": token}) + "\n")
    sys.stdout.flush()


SERVERS: dict[str, Callable[[int], None]] = {
    "fake": serve_fake,
    "delayed": lambda transactions: serve_fake(transactions, delay_ms=20),
    "raw": lambda _: serve_reference(raw.app, ""),
    "naive": lambda _: serve_naive_fake(cached=False),
    "naive-cached": lambda _: serve_naive_fake(cached=True),
}

if __name__ == "__main__":
    SERVERS[sys.argv[1]](int(sys.argv[2]) if len(sys.argv) > 2 else 0)
