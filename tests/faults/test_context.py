"""Incoming calls and their headers, as seen by rules and `where` functions."""

import pytest

import fake_credits
from fake_credits import faults
from fake_credits.faults.rule import RequestHeaders
from tests.faults.conftest import call

HEADERS = RequestHeaders({b"x-tenant": b"acme", b"x-name": b"Ad\xe9"})


def test_request_headers_are_case_insensitive_text() -> None:
    assert HEADERS == {"x-tenant": "acme", "x-name": "Adé"}
    assert (HEADERS["X-Tenant"], HEADERS.get("x-TENANT"), HEADERS.get("X-Other")) == ("acme", "acme", None)
    assert "X-NAME" in HEADERS
    assert "é\udc80" not in HEADERS
    assert repr(HEADERS) == "<RequestHeaders: x-tenant, x-name>"  # values may be secrets


def test_bytes_header_name_raises_type_error() -> None:
    with pytest.raises(TypeError, match="header names must be strings, not bytes"):
        HEADERS.get(b"x-tenant")  # type: ignore[call-overload]


def test_call_has_headers_as_bytes_and_text() -> None:
    data = call(fields={b"x-run": b"1"})
    assert (data.fields, dict(data.headers)) == ({b"x-run": b"1"}, {"x-run": "1"})


def test_faults_star_import_does_not_shadow_package_names() -> None:
    """A name exported by both modules refers to the same object."""
    shared = set(faults.__all__) & set(fake_credits.__all__)
    assert {name for name in shared if getattr(faults, name) is not getattr(fake_credits, name)} == set()
