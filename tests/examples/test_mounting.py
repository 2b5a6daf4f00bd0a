import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from fake_credits import FakeCredits


@pytest.mark.fake_credits(users={"ada": 100})
def test_api_is_mounted_below_a_path(fake_credits: FakeCredits) -> None:
    app = Starlette(routes=[Mount("/credits", fake_credits.asgi_app())])
    with TestClient(app, headers={"X-API-Key": fake_credits.api_key}) as client:
        response = client.get("/credits/v1/applications/app-id/users/ada/balance")
        assert response.json() == {"balance": 100}
        assert client.get("/credits/_fake/livez").json() == {"status": "ok"}
