"""A bug in the fake returns 500, is recorded, and does not affect later requests."""

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


class UnexpectedError(Exception):
    """An exception that no operation raises."""


def get(fake: FakeCredits, shared: SharedResources, path: bytes = USER + b"/balance") -> Response:
    driver = InProcessDriver(shared.app(fake.sandbox.contract), fake.sandbox)
    return driver.call(Request("GET", path, [(b"x-api-key", fake.api_key.encode())], b""))


@pytest.fixture
def get_balance_bug(monkeypatch: pytest.MonkeyPatch) -> UnexpectedError:
    """Make getBalance raise an unexpected error, and return the error."""
    bug = UnexpectedError("it broke")

    def raise_bug(_request: object) -> NoReturn:
        raise bug

    table: Any = handlers.OPERATION_HANDLERS
    monkeypatch.setitem(table, Operation.GET_BALANCE, raise_bug)
    return bug


def test_internal_bug_returns_500_with_error_body(shared: SharedResources, get_balance_bug: UnexpectedError) -> None:
    with FakeCredits(shared=shared, balance=5) as fake:
        reply = get(fake, shared)
        error = json.loads(reply.body)["error"]
        assert (reply.status, error["code"]) == (500, "internal_error")
        assert "UnexpectedError: it broke" in error["message"]
        assert dict(reply.headers)[b"x-fake-credits-cause"] == b"bug"
        assert fake.sandbox.bugs == [get_balance_bug]


def test_internal_bug_is_reported_as_problem(shared: SharedResources, get_balance_bug: UnexpectedError) -> None:
    with FakeCredits(shared=shared, balance=5) as fake:
        get(fake, shared)
        assert fake.problems() == [f"a bug in fake-credits caused a 500 response: {get_balance_bug!r}"]


def test_internal_bug_is_journaled_and_raised_by_client(
    shared: SharedResources, get_balance_bug: UnexpectedError
) -> None:
    with FakeCredits(shared=shared, balance=5) as fake:
        with pytest.raises(InternalError, match=str(get_balance_bug)):
            fake.server_client.get_balance("app-id", "user-id")
        entry = fake.journal.entries()[0]
        assert (entry.status, entry.code, entry.cause, entry.committed) == (500, "internal_error", "bug", False)


@pytest.mark.usefixtures("get_balance_bug")
def test_request_after_internal_bug_succeeds(shared: SharedResources) -> None:
    with FakeCredits(shared=shared, balance=5) as fake:
        get(fake, shared)
        assert get(fake, shared, USER).status == 200
        assert fake.journal.in_flight == 0


def test_every_operation_has_a_handler() -> None:
    assert set(handlers.OPERATION_HANDLERS) == set(Operation)


def test_app_without_sandboxes_raises_runtime_error(shared: SharedResources) -> None:
    """The application for in-process use has no sandbox, so another server can't serve it."""
    from fake_credits.contract import DEFAULT_CONTRACT

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_message: object) -> None: ...

    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "raw_path": b"/", "headers": []}
    app: Any = shared.app(DEFAULT_CONTRACT)
    with pytest.raises(RuntimeError, match="create_app\\(contract, sandboxes\\)"):
        app({**scope, "query_string": b"", "root_path": ""}, receive, send).send(None)
