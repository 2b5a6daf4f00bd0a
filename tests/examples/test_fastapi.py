from typing import Annotated

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

from fake_credits import AsyncServerClient, FakeCredits, ServerClient

app = FastAPI()


def client() -> ServerClient:
    return ServerClient("https://credits.internal", "a real key")


def async_client() -> AsyncServerClient:
    return AsyncServerClient("https://credits.internal", "a real key")


@app.post("/buy/{user_id}")
def buy(user_id: str, credits: Annotated[ServerClient, Depends(client)]) -> None:
    credits.create_transaction("app-id", user_id, delta=-10, reason="consume")


@app.get("/left/{user_id}")
async def left(user_id: str, credits: Annotated[AsyncServerClient, Depends(async_client)]) -> int:
    return (await credits.get_balance("app-id", user_id)).balance


@pytest.mark.fake_credits(users={"ada": 100})
def test_the_application_spends(fake_credits: FakeCredits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(app.dependency_overrides, client, lambda: fake_credits.server_client)
    monkeypatch.setitem(app.dependency_overrides, async_client, lambda: fake_credits.async_server_client)
    with TestClient(app) as browser:
        assert browser.post("/buy/ada").status_code == 200
        assert browser.get("/left/ada").json() == 90
