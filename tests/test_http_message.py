"""Test HTTP messages: headers, and that clients read the same reason phrase over every transport."""

import http
from dataclasses import replace

import httpx
import httpx2
import pytest

from fake_credits.api.openapi import openapi_document
from fake_credits.contract import DEFAULT_CONTRACT, Contract, Operation
from fake_credits.fake import FakeCredits
from fake_credits.faults.effects import Status
from fake_credits.http_message import Response, reason_phrase, status_line
from tests.intercept.libraries import LIBRARY_PARAMS, SENDERS, LibraryRequest

CURRENT_PHRASES = {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}
"""The reason phrases that changed in the standard library of Python 3.13."""

PHRASES = {**CURRENT_PHRASES, 404: "Not Found", 418: "I'm a Teapot", 499: "", 503: "Service Unavailable", 599: ""}
URL = "https://credits.internal"


def test_reason_phrases_match_http_status_with_current_names() -> None:
    standard = {status.value: status.phrase for status in http.HTTPStatus}
    phrases = {status: reason_phrase(status) for status in range(100, 600) if reason_phrase(status)}
    assert phrases == standard | CURRENT_PHRASES


def test_every_status_has_status_line() -> None:
    for status in range(100, 600):
        assert status_line(status) == f"HTTP/1.1 {status} {reason_phrase(status)}\r\n".encode()


def test_unregistered_status_has_empty_phrase() -> None:
    assert (reason_phrase(499), status_line(499)) == ("", b"HTTP/1.1 499 \r\n")


def contract(status: int) -> Contract:
    """Return a contract that answers requests for an unknown user with the given status."""
    return replace(DEFAULT_CONTRACT, statuses={"user_not_found": status}, error_body="problem")


def user_request(fake: FakeCredits, base_url: str) -> LibraryRequest:
    return LibraryRequest(f"{base_url}/v1/applications/app-id/users/ada", {"X-API-Key": fake.api_key})


@pytest.mark.parametrize("library", LIBRARY_PARAMS)
def test_intercepted_response_has_reason_phrase(library: str) -> None:
    for status, phrase in PHRASES.items():
        with FakeCredits(contract=contract(status)) as fake, fake.intercept(URL):
            assert SENDERS[library](user_request(fake, URL)).reason == phrase


@pytest.mark.parametrize("library", LIBRARY_PARAMS)
def test_live_response_has_reason_phrase(library: str) -> None:
    with FakeCredits(mode="live") as fake:
        for status, phrase in PHRASES.items():
            fake.faults.add(Status(status), times=1)
            assert SENDERS[library](user_request(fake, fake.base_url)).reason == phrase


@pytest.mark.parametrize("status", PHRASES)
def test_transport_response_has_reason_phrase(status: int) -> None:
    with FakeCredits(contract=contract(status)) as fake:
        url, headers, *_ = user_request(fake, URL)
        with httpx.Client(transport=fake.transport("httpx")) as client:
            assert client.get(url, headers=headers).reason_phrase == PHRASES[status]
        with httpx2.Client(transport=fake.transport("httpx2")) as client2:
            assert client2.get(url, headers=headers).reason_phrase == PHRASES[status]


@pytest.mark.parametrize("status", PHRASES)
def test_openapi_description_starts_with_reason_phrase(status: int) -> None:
    route = DEFAULT_CONTRACT.routes[Operation.GET_USER]
    operation = openapi_document(contract(status), "0")["paths"][route.path][route.method.lower()]
    description = operation["responses"][str(status)]["description"]
    assert description.startswith(f"{PHRASES[status] or 'Error'}: ")


@pytest.mark.parametrize(("status", "title"), [(422, "Unprocessable Content"), (499, "user_not_found")])
def test_problem_title_is_reason_phrase_or_error_code(status: int, title: str) -> None:
    with FakeCredits(contract=contract(status)) as fake, httpx2.Client(transport=fake.transport("httpx2")) as client:
        url, headers, *_ = user_request(fake, URL)
        assert client.get(url, headers=headers).json()["title"] == title


def test_header_returns_first_value_or_empty_string() -> None:
    response = Response(200, headers=[(b"x-a", b"1"), (b"x-a", b"2"), (b"x-b", b"\xe9")])
    assert [response.header(name) for name in (b"x-a", b"x-b", b"x-c")] == ["1", "é", ""]
