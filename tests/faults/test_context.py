"""What a rule is matched with, and the test's own question about it."""

import pytest

import fake_credits
from fake_credits import faults
from fake_credits.faults.context import RequestHeaders
from tests.faults.conftest import call

HEADERS = RequestHeaders({b"x-tenant": b"acme", b"x-name": b"Ad\xe9"})


def test_headers_are_texts_by_names_in_any_case() -> None:
    assert HEADERS == {"x-tenant": "acme", "x-name": "Adé"}
    assert (HEADERS["X-Tenant"], HEADERS.get("x-TENANT"), HEADERS.get("X-Other")) == ("acme", "acme", None)
    assert "X-NAME" in HEADERS
    assert "é\udc80" not in HEADERS
    assert repr(HEADERS) == "<RequestHeaders: x-tenant, x-name>"  # values may be secrets


def test_a_name_of_a_header_in_bytes_is_refused_rather_than_never_there() -> None:
    with pytest.raises(TypeError, match="the name of a header must be a str, not bytes"):
        HEADERS.get(b"x-tenant")  # type: ignore[call-overload]


def test_a_call_has_its_headers_in_both_forms() -> None:
    told = call(fields={b"x-run": b"1"})
    assert (told.fields, dict(told.headers)) == ({b"x-run": b"1"}, {"x-run": "1"})


def test_no_public_name_of_the_faults_hides_one_of_the_package() -> None:
    """`from fake_credits.faults import *` shadows nothing of `from fake_credits import *`."""
    shared = set(faults.__all__) & set(fake_credits.__all__)
    assert {name for name in shared if getattr(faults, name) is not getattr(fake_credits, name)} == set()
