"""Test libraries that mock HTTP: they do not see in-process calls, and can pass loopback requests through."""

import importlib
from pathlib import Path

import httpx
import pytest
import requests
import responses
import respx
from moto import mock_aws
from pytest_httpx import HTTPXMock

from fake_credits import FakeCredits
from tests.neighbours.connections import balance_over_httpx, balance_over_requests, balances_in_process, balances_live

pytestmark = pytest.mark.fake_credits(users={"ada": 3})

SHOP = "https://shop.internal/"


def test_responses(fake_credits: FakeCredits) -> None:
    """Responses mocks only the requests library, and ``add_passthru`` lets calls to the live server through."""
    with responses.RequestsMock() as mock:
        mock.get(SHOP, body="mocked")
        assert balances_in_process(fake_credits) == [3] * 3
        with pytest.raises(requests.ConnectionError, match="refused by Responses"):
            balance_over_requests(fake_credits)
        mock.add_passthru(fake_credits.base_url)
        assert balances_live(fake_credits) == [3] * 4
        assert requests.get(SHOP, timeout=5).text == "mocked"


def test_respx(fake_credits: FakeCredits) -> None:
    """RESPX mocks only httpx, and ``pass_through`` lets loopback requests through."""
    with respx.mock() as mock:
        mock.get(SHOP).respond(text="mocked")
        assert balances_in_process(fake_credits) == [3] * 3
        with pytest.raises(AssertionError, match="RESPX"):
            balance_over_httpx(fake_credits)
        mock.route(host="127.0.0.1").pass_through()
        assert balances_live(fake_credits) == [3] * 4
        assert httpx.get(SHOP).text == "mocked"


def is_not_loopback(request: httpx.Request) -> bool:
    return request.url.host != "127.0.0.1"


@pytest.mark.httpx_mock(should_mock=is_not_loopback)
def test_pytest_httpx(fake_credits: FakeCredits, httpx_mock: HTTPXMock) -> None:
    """pytest-httpx mocks only httpx's own transport; ``should_mock`` lets loopback requests through."""
    httpx_mock.add_response(url=SHOP, text="mocked")
    assert balances_in_process(fake_credits) + balances_live(fake_credits) == [3] * 7
    assert httpx.get(SHOP).text == "mocked"


def test_vcrpy(fake_credits: FakeCredits, tmp_path: Path) -> None:
    """VCR.py does not record in-process calls or, with ``ignore_localhost``, calls to the live server."""
    vcr = importlib.import_module("vcr")
    with vcr.use_cassette(tmp_path / "all.yaml") as recording:
        assert balances_in_process(fake_credits) == [3] * 3
        assert len(recording) == 0
        assert balance_over_requests(fake_credits) == 3
        assert len(recording) == 1
    with vcr.use_cassette(tmp_path / "none.yaml", ignore_localhost=True) as empty_recording:
        assert balances_live(fake_credits) == [3] * 4
        assert len(empty_recording) == 0


def test_moto(fake_credits: FakeCredits) -> None:
    """Moto mocks only AWS."""
    boto3 = importlib.import_module("boto3")
    with mock_aws():
        assert balances_in_process(fake_credits) + balances_live(fake_credits) == [3] * 7
        identity = boto3.client("sts", region_name="us-east-1").get_caller_identity()
        assert identity["Account"] == "123456789012"
