"""Libraries that answer in a server's place: they never see what goes in process, and let loopback pass when told."""

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
from tests.neighbours.connections import in_process, live, over_httpx, over_requests

pytestmark = pytest.mark.fake_credits(users={"ada": 3})

SHOP = "https://shop.internal/"


def test_responses(fake_credits: FakeCredits) -> None:
    """It stands before requests alone, and ``add_passthru`` lets the live server be."""
    with responses.RequestsMock() as mock:
        mock.get(SHOP, body="mocked")
        assert in_process(fake_credits) == [3] * 3
        with pytest.raises(requests.ConnectionError, match="refused by Responses"):
            over_requests(fake_credits)
        mock.add_passthru(fake_credits.base_url)
        assert live(fake_credits) == [3] * 4
        assert requests.get(SHOP, timeout=5).text == "mocked"


def test_respx(fake_credits: FakeCredits) -> None:
    """It stands before httpx alone, and ``pass_through`` lets loopback be."""
    with respx.mock() as mock:
        mock.get(SHOP).respond(text="mocked")
        assert in_process(fake_credits) == [3] * 3
        with pytest.raises(AssertionError, match="RESPX"):
            over_httpx(fake_credits)
        mock.route(host="127.0.0.1").pass_through()
        assert live(fake_credits) == [3] * 4
        assert httpx.get(SHOP).text == "mocked"


def _not_loopback(request: httpx.Request) -> bool:
    return request.url.host != "127.0.0.1"


@pytest.mark.httpx_mock(should_mock=_not_loopback)
def test_pytest_httpx(fake_credits: FakeCredits, httpx_mock: HTTPXMock) -> None:
    """It stands before httpx's own transport, not before ours; ``should_mock`` lets loopback be."""
    httpx_mock.add_response(url=SHOP, text="mocked")
    assert in_process(fake_credits) + live(fake_credits) == [3] * 7
    assert httpx.get(SHOP).text == "mocked"


def test_vcrpy(fake_credits: FakeCredits, tmp_path: Path) -> None:
    """It does not record what goes in process, and with ``ignore_localhost`` nothing of the live server's."""
    vcr = importlib.import_module("vcr")
    with vcr.use_cassette(tmp_path / "all.yaml") as all_of_it:
        assert in_process(fake_credits) == [3] * 3
        assert len(all_of_it) == 0
        assert over_requests(fake_credits) == 3
        assert len(all_of_it) == 1
    with vcr.use_cassette(tmp_path / "none.yaml", ignore_localhost=True) as none_of_it:
        assert live(fake_credits) == [3] * 4
        assert len(none_of_it) == 0


def test_moto(fake_credits: FakeCredits) -> None:
    """It answers for AWS alone."""
    boto3 = importlib.import_module("boto3")
    with mock_aws():
        assert in_process(fake_credits) + live(fake_credits) == [3] * 7
        identity = boto3.client("sts", region_name="us-east-1").get_caller_identity()
        assert identity["Account"] == "123456789012"
