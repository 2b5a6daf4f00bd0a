"""A bug of the fake answers 500, is remembered, and does no more harm."""

import json
from typing import Any, NoReturn

import pytest

from fake_credits.api import handlers
from fake_credits.contract import Operation
from fake_credits.errors import InternalError
from fake_credits.fake import FakeCredits
from fake_credits.http_message import Request, Response
from fake_credits.transports.in_process import InProcessDriver
from fake_credits.transports.shared_resources import SharedResources

USER = b"/v1/applications/app-id/users/user-id"


class Bug(Exception):
    """Be what no operation raises."""


def ask(fake: FakeCredits, shared: SharedResources, path: bytes = USER + b"/balance") -> Response:
    driver = InProcessDriver(shared.app(fake.sandbox.contract), fake.sandbox)
    return driver.call(Request("GET", path, [(b"x-api-key", fake.api_key.encode())], b""))


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Bug:
    """Break getBalance, and return what it raises."""
    bug = Bug("it broke")

    def breaks(_request: object) -> NoReturn:
        raise bug

    table: Any = handlers.OPERATION_HANDLERS
    monkeypatch.setitem(table, Operation.GET_BALANCE, breaks)
    return bug


def test_a_bug_answers_500_in_the_contracts_body(shared: SharedResources, broken: Bug) -> None:
    with FakeCredits(shared=shared, balance=5) as fake:
        reply = ask(fake, shared)
        error = json.loads(reply.body)["error"]
        assert (reply.status, error["code"]) == (500, "internal_error")
        assert "Bug: it broke" in error["message"]
        assert dict(reply.headers)[b"x-fake-credits-cause"] == b"bug"
        assert fake.sandbox.bugs == [broken]


def test_a_bug_is_told_at_the_end(shared: SharedResources, broken: Bug) -> None:
    with FakeCredits(shared=shared, balance=5) as fake:
        ask(fake, shared)
        assert fake.problems() == [f"a bug of fake-credits answered 500: {broken!r}"]


def test_a_bug_is_journalled_and_raised_by_the_client(shared: SharedResources, broken: Bug) -> None:
    with FakeCredits(shared=shared, balance=5) as fake:
        with pytest.raises(InternalError, match=str(broken)):
            fake.server_client.get_balance("app-id", "user-id")
        entry = fake.journal.entries()[0]
        assert (entry.status, entry.code, entry.cause, entry.committed) == (500, "internal_error", "bug", False)


@pytest.mark.usefixtures("broken")
def test_the_next_request_works(shared: SharedResources) -> None:
    with FakeCredits(shared=shared, balance=5) as fake:
        ask(fake, shared)
        assert ask(fake, shared, USER).status == 200
        assert fake.journal.in_flight == 0


def test_the_operations_are_complete() -> None:
    assert set(handlers.OPERATION_HANDLERS) == set(Operation)


def test_an_application_without_sandboxes_says_so(shared: SharedResources) -> None:
    """The application for in-process use has no sandbox of its own: serving it by another server is a mistake."""
    from fake_credits.contract import DEFAULT_CONTRACT

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_message: object) -> None: ...

    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "raw_path": b"/", "headers": []}
    app: Any = shared.app(DEFAULT_CONTRACT)
    with pytest.raises(RuntimeError, match="create_app\\(contract, sandboxes\\)"):
        app({**scope, "query_string": b"", "root_path": ""}, receive, send).send(None)
