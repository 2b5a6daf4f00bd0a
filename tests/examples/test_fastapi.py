from typing import Annotated

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

from fake_credits import AsyncServerClient, FakeCredits, ServerClient

app = FastAPI()


def get_client() -> ServerClient:
    return ServerClient("https://credits.internal", "a real key")


def get_async_client() -> AsyncServerClient:
    return AsyncServerClient("https://credits.internal", "a real key")


@app.post("/buy/{user_id}")
def buy(user_id: str, credits: Annotated[ServerClient, Depends(get_client)]) -> None:
    credits.create_transaction("app-id", user_id, delta=-10, reason="consume")


@app.get("/balance/{user_id}")
async def get_balance(user_id: str, credits: Annotated[AsyncServerClient, Depends(get_async_client)]) -> int:
    return (await credits.get_balance("app-id", user_id)).balance


@pytest.mark.fake_credits(users={"ada": 100})
def test_buy_charges_user(fake_credits: FakeCredits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(app.dependency_overrides, get_client, lambda: fake_credits.server_client)
    monkeypatch.setitem(app.dependency_overrides, get_async_client, lambda: fake_credits.async_server_client)
    with TestClient(app) as http_client:
        assert http_client.post("/buy/ada").status_code == 200
        assert http_client.get("/balance/ada").json() == 90
