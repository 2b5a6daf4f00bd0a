"""Test what a base URL is, which requests stand under it, and what is refused."""

import pytest

from fake_credits.intercept.routes import parse_base_url

FORMS = {
    "https://credits.internal": "https://credits.internal",
    "https://credits.internal/": "https://credits.internal",
    "https://credits.internal:": "https://credits.internal",
    "HTTPS://Credits.Internal:443/v2/": "https://credits.internal/v2",
    "http://credits.internal.:80": "http://credits.internal",
    "http://credits.internal:8080/a/b": "http://credits.internal:8080/a/b",
    "https://[::1]:8443/api": "https://[::1]:8443/api",
    "https://127.0.0.1": "https://127.0.0.1",
    "https://credits_api:9000": "https://credits_api:9000",
    "https://straße.example": "https://xn--strae-oqa.example",
    "https://credits.internal/mü": "https://credits.internal/m%C3%BC",
}


@pytest.mark.parametrize(("url", "form"), FORMS.items(), ids=FORMS.keys())
def test_a_base_url_has_one_form(url: str, form: str) -> None:
    """Lower case, no root dot, the default port left out, IDNA 2008 as the libraries have it, no slash at the end."""
    assert str(parse_base_url(url)) == form
    assert parse_base_url(form) == parse_base_url(url)


REFUSED = {
    "credits.internal": "starts with http:// or https://",
    "ftp://credits.internal": "starts with http:// or https://",
    "": "starts with http:// or https://",
    "https://": "credits.internal, and this one has none",
    "https:///v1": "credits.internal, and this one has none",
    "https://*.internal": "one name or address, such as credits.internal, and this one has '*.internal'",
    "https://credits internal": "this one has 'credits internal'",
    "https://..": "this one has '.'",
    "https://credits.internal:http": "Port could not be cast",
    "https://credits.internal:70000": "Port out of range",
    "https://[::1": "Invalid IPv6 URL",
    "https://me@credits.internal": "a base URL has no user name, and this one has one",
    "https://me:secret@credits.internal": "https://***@credits.internal",
    "https://credits.internal/?a=b": "a base URL has no query, and this one has ?a=b",
    "https://credits.internal/#top": "a base URL has no fragment, and this one has #top",
    "https://credits.internal/v1/../v2": "segments . and .. of a path before they send: leave them out",
    "https://\u2603..example": "is no base URL",
}


@pytest.mark.parametrize(("url", "why"), REFUSED.items(), ids=REFUSED.keys())
def test_what_is_no_base_url_is_refused_and_the_rule_named(url: str, why: str) -> None:
    with pytest.raises(ValueError, match="is no base URL to intercept") as refusal:
        parse_base_url(url)
    assert why in str(refusal.value)
    assert "secret" not in str(refusal.value)


def test_what_is_no_text_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="a base URL to intercept is text, not int$"):
        parse_base_url(8000)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_a_list_is_refused_with_what_to_write_instead() -> None:
    with pytest.raises(TypeError, match=r"is text, not list: give several one by one, as in intercept\(\*urls\)"):
        parse_base_url(["https://credits.internal"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("target", "rest"),
    [
        (b"/v1", b"/"),
        (b"/v1/", b"/"),
        (b"/v1?cursor=a", b"/?cursor=a"),
        (b"/v1/users?cursor=/v1", b"/users?cursor=/v1"),
        (b"/v10", None),
        (b"/v", None),
        (b"/", None),
        (b"/users/v1", None),
        (b"/V1/users", None),
    ],
)
def test_a_path_is_matched_and_stripped_segment_by_segment(target: bytes, rest: bytes | None) -> None:
    base = parse_base_url("https://credits.internal/v1")
    assert (base.relative_target(target) if base.contains(target) else None) == rest


@pytest.mark.parametrize("target", [b"/", b"/users", b"?a=b", b""])
def test_without_a_path_every_target_is_held(target: bytes) -> None:
    base = parse_base_url("https://credits.internal")
    assert base.contains(target)
    assert base.relative_target(target).startswith(b"/")


def test_an_origin_is_known_by_what_libraries_call_it() -> None:
    base = parse_base_url("https://credits.internal")
    names = ("credits.internal", "credits.internal.")
    assert set(base.origins()) == {("https", name, port) for name in names for port in (443, None)}
    odd = parse_base_url("https://credits.internal:8443")
    assert set(odd.origins()) == {("https", name, 8443) for name in names}
