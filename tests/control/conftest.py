"""Own what the control plane's tests share: one live server, asked over plain HTTP as any language would."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from fake_credits.control.app import TOKEN_HEADER, ControlPlane
from fake_credits.sandbox import Sandbox
from fake_credits.sandbox_options import SandboxOptions
from fake_credits.sandboxes import SandboxRegistry
from fake_credits.tokens.keys import SigningKeys
from fake_credits.transports.live import LiveServer

TOKEN = "my-token"
LIMIT = 50


@dataclass
class Got:
    """Be an answer."""

    status: int
    body: dict[str, Any]
    headers: httpx2.Headers

    @property
    def code(self) -> str:
        """Return the code of a refusal."""
        return str(self.body["error"]["code"])

    @property
    def details(self) -> list[dict[str, str]]:
        """Return what a refusal says of members."""
        return list(self.body["error"].get("details", []))


class Asker:
    """Ask one server's control plane, and the API of its sandboxes."""

    def __init__(self, server: LiveServer) -> None:
        self.meet(server)

    def meet(self, server: LiveServer) -> None:
        """Go to a server, or to where one is after it was started anew."""
        self.server = server
        self.base_url = server.base_url
        self.http = httpx2.Client(base_url=server.base_url, trust_env=False, timeout=20)

    def close(self) -> None:
        """Close the connections."""
        self.http.close()

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Got:
        """Send one request with the token, and return the answer; a text or bytes is a body as it is."""
        content = body if isinstance(body, str | bytes) else b"" if body is None else json.dumps(body).encode()
        sent = {TOKEN_HEADER: TOKEN, **({"Content-Type": "application/json"} if content else {}), **headers}
        answer = self.http.request(method, f"/_fake{path}", content=content, headers=sent)
        return Got(answer.status_code, answer.json(), answer.headers)

    def told(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Return what a request that must succeed is told."""
        got = self.ask(method, path, body)
        assert got.status in (200, 201), got.body
        return got.body

    def make(self, **words: object) -> "Made":
        """Make a sandbox."""
        return Made(self, self.told("POST", "/sandboxes", words))

    def sandbox(self, name: str) -> Sandbox:
        """Return a sandbox itself."""
        found = self.server.sandboxes.get(name)
        assert found is not None
        return found


@dataclass
class Made:
    """Be a sandbox that was made over the control plane."""

    asker: Asker
    info: dict[str, Any]

    @property
    def path(self) -> str:
        return f"/sandboxes/{self.info['name']}"

    def told(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Return what a verb on the sandbox tells."""
        return self.asker.told(method, self.path + path, body)

    def ask(self, method: str, path: str, body: object = None) -> Got:
        """Return the answer of a verb on the sandbox, whatever it is."""
        return self.asker.ask(method, self.path + path, body)

    def spend(self, user: str = "ada", delta: int = -1) -> int:
        """Consume credits over the API, and return the status."""
        headers = {"X-API-Key": self.info["api_key"]}
        order = {"delta": delta, "reason": "consume" if delta < 0 else "grant"}
        path = f"/v1/applications/app-id/users/{user}/transactions"
        with httpx2.Client(base_url=self.asker.base_url, trust_env=False, timeout=20) as http:
            return http.post(path, json=order, headers=headers).status_code

    def balance(self, user: str = "ada") -> int:
        """Return a balance by the control plane."""
        return int(self.told("GET", f"/users/{user}")["balance"])


@pytest.fixture(scope="module")
def live() -> Iterator[LiveServer]:
    """Serve a control plane of a fixed token over a socket."""
    keys, numbers = SigningKeys(), itertools.count(2)
    sandboxes = SandboxRegistry(Sandbox(SandboxOptions(seed=7, users={"ada": 3}), keys, "s1"))
    control = ControlPlane(
        sandboxes, lambda settings: Sandbox(settings, keys, f"s{next(numbers)}"), TOKEN, sandbox_limit=LIMIT
    )
    server = LiveServer(sandboxes.base_sandbox.contract, sandboxes, control=control)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def asker(live: LiveServer) -> Iterator[Asker]:
    """Ask the module's server; each test closes what it made, and leaves no bug."""
    asker = Asker(live)
    yield asker
    for sandbox in list(live.sandboxes):
        if sandbox is not live.sandboxes.base_sandbox:
            asker.ask("DELETE", f"/sandboxes/{sandbox.name}")
        assert sandbox.bugs == []
    assert live.sandboxes.base_sandbox.bugs == []
    asker.close()
