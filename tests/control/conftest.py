"""Fixtures for the control plane's tests: one live server and a session that calls it over plain HTTP."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from fake_credits.control.app import ControlPlane
from fake_credits.control_schemas import TOKEN_HEADER
from fake_credits.sandbox import Sandbox
from fake_credits.sandbox_options import SandboxOptions
from fake_credits.sandboxes import SandboxRegistry
from fake_credits.tokens.keys import SigningKeys
from fake_credits.transports.live import LiveServer

CONTROL_TOKEN = "my-token"
SANDBOX_LIMIT = 50


@dataclass
class ControlResponse:
    """A response from the control plane."""

    status: int
    body: dict[str, Any]
    headers: httpx2.Headers

    @property
    def code(self) -> str:
        """Return the error's code."""
        return str(self.body["error"]["code"])

    @property
    def details(self) -> list[dict[str, str]]:
        """Return the error's details, one for each rejected member."""
        return list(self.body["error"].get("details", []))


class ControlSession:
    """A client of one server's control plane."""

    def __init__(self, server: LiveServer) -> None:
        self.connect(server)

    def connect(self, server: LiveServer) -> None:
        """Connect to a server, or reconnect after its restart."""
        self.server = server
        self.base_url = server.base_url
        self.http = httpx2.Client(base_url=server.base_url, trust_env=False, timeout=20, verify=False)

    def close(self) -> None:
        """Close the connections."""
        self.http.close()

    def request(self, method: str, path: str, body: object = None, **headers: str) -> ControlResponse:
        """Send one request with the token; a string or bytes is sent as the body unchanged."""
        content = body if isinstance(body, str | bytes) else b"" if body is None else json.dumps(body).encode()
        request_headers = {
            TOKEN_HEADER: CONTROL_TOKEN,
            **({"Content-Type": "application/json"} if content else {}),
            **headers,
        }
        response = self.http.request(method, f"/_fake{path}", content=content, headers=request_headers)
        return ControlResponse(response.status_code, response.json(), response.headers)

    def request_json(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Send a request that must succeed, and return the JSON body of its response."""
        response = self.request(method, path, body)
        assert response.status in (200, 201), response.body
        return response.body

    def create_sandbox(self, **options: object) -> "SandboxSession":
        return SandboxSession(self, self.request_json("POST", "/sandboxes", options))

    def find_sandbox(self, name: str) -> Sandbox:
        """Return the server's own sandbox object."""
        sandbox = self.server.sandboxes.get(name)
        assert sandbox is not None
        return sandbox


@dataclass
class SandboxSession:
    """A sandbox created through the control plane."""

    control: ControlSession
    info: dict[str, Any]

    @property
    def path(self) -> str:
        return f"/sandboxes/{self.info['name']}"

    def request_json(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Send a request for this sandbox that must succeed, and return the JSON body of its response."""
        return self.control.request_json(method, self.path + path, body)

    def request(self, method: str, path: str, body: object = None) -> ControlResponse:
        """Return the response to a request for this sandbox, whether it succeeds or not."""
        return self.control.request(method, self.path + path, body)

    def spend(self, user: str = "ada", delta: int = -1) -> int:
        """Create a transaction through the API and return the status."""
        headers = {"X-API-Key": self.info["api_key"]}
        transaction = {"delta": delta, "reason": "consume" if delta < 0 else "grant"}
        path = f"/v1/applications/app-id/users/{user}/transactions"
        with httpx2.Client(base_url=self.control.base_url, trust_env=False, timeout=20, verify=False) as http:
            return http.post(path, json=transaction, headers=headers).status_code

    def balance(self, user: str = "ada") -> int:
        """Return a balance as the control plane reports it."""
        return int(self.request_json("GET", f"/users/{user}")["balance"])


@pytest.fixture(scope="module")
def live_server() -> Iterator[LiveServer]:
    """Serve a control plane with a fixed token over a socket."""
    keys, sandbox_numbers = SigningKeys(), itertools.count(2)
    sandboxes = SandboxRegistry(Sandbox(SandboxOptions(seed=7, users={"ada": 3}), keys, "s1"))
    control_plane = ControlPlane(
        sandboxes,
        lambda options: Sandbox(options, keys, f"s{next(sandbox_numbers)}"),
        CONTROL_TOKEN,
        sandbox_limit=SANDBOX_LIMIT,
    )
    server = LiveServer(sandboxes.base_sandbox.contract, sandboxes, control=control_plane)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def control(live_server: LiveServer) -> Iterator[ControlSession]:
    """Yield a session with the module's server; close the sandboxes and check for internal errors afterwards."""
    control = ControlSession(live_server)
    yield control
    for sandbox in list(live_server.sandboxes):
        if sandbox is not live_server.sandboxes.base_sandbox:
            control.request("DELETE", f"/sandboxes/{sandbox.name}")
        assert sandbox.bugs == []
    assert live_server.sandboxes.base_sandbox.bugs == []
    control.close()
