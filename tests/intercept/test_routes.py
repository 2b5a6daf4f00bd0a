"""Test base URLs to intercept: normalization, matching and invalid URLs."""

import pytest

from fake_credits.intercept.routes import parse_base_url

NORMALIZED_URLS = {
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


@pytest.mark.parametrize(("url", "normalized"), NORMALIZED_URLS.items(), ids=NORMALIZED_URLS.keys())
def test_base_url_is_normalized(url: str, normalized: str) -> None:
    """Lower case, no trailing dot, no default port, IDNA 2008 as in the libraries, no trailing slash."""
    assert str(parse_base_url(url)) == normalized
    assert parse_base_url(normalized) == parse_base_url(url)


INVALID_URLS = {
    "credits.internal": "must start with http:// or https://",
    "ftp://credits.internal": "must start with http:// or https://",
    "": "must start with http:// or https://",
    "https://": "credits.internal, got none",
    "https:///v1": "credits.internal, got none",
    "https://*.internal": "one host name or address, such as credits.internal, got '*.internal'",
    "https://credits internal": "got 'credits internal'",
    "https://..": "got '.'",
    "https://credits.internal:http": "Port could not be cast",
    "https://credits.internal:70000": "Port out of range",
    "https://[::1": "Invalid IPv6 URL",
    "https://me@credits.internal": "it must not have a user name, got one",
    "https://me:secret@credits.internal": "https://***@credits.internal",
    "https://credits.internal/?a=b": "it must not have a query, got ?a=b",
    "https://credits.internal/#top": "it must not have a fragment, got #top",
    "https://credits.internal/v1/../v2": "omit the segments . and .., which libraries resolve",
    "https://\u2603..example": "invalid base URL",
}


@pytest.mark.parametrize(("url", "message"), INVALID_URLS.items(), ids=INVALID_URLS.keys())
def test_invalid_base_url_is_rejected_with_reason(url: str, message: str) -> None:
    with pytest.raises(ValueError, match="invalid base URL .* to intercept") as error:
        parse_base_url(url)
    assert message in str(error.value)
    assert "secret" not in str(error.value)


def test_non_string_base_url_raises_type_error() -> None:
    with pytest.raises(TypeError, match="a base URL to intercept must be a str, not int$"):
        parse_base_url(8000)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_list_of_base_urls_raises_type_error() -> None:
    with pytest.raises(TypeError, match=r"must be a str, not list: pass several .*, as in intercept\(\*urls\)"):
        parse_base_url(["https://credits.internal"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("target", "expected"),
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
def test_path_is_matched_by_segment_and_stripped(target: bytes, expected: bytes | None) -> None:
    base = parse_base_url("https://credits.internal/v1")
    assert (base.relative_target(target) if base.contains(target) else None) == expected


@pytest.mark.parametrize("target", [b"/", b"/users", b"?a=b", b""])
def test_base_url_without_path_contains_every_target(target: bytes) -> None:
    base = parse_base_url("https://credits.internal")
    assert base.contains(target)
    assert base.relative_target(target).startswith(b"/")


def test_origins_include_trailing_dot_and_default_port() -> None:
    base = parse_base_url("https://credits.internal")
    names = ("credits.internal", "credits.internal.")
    assert set(base.origins()) == {("https", name, port) for name in names for port in (443, None)}
    base_with_port = parse_base_url("https://credits.internal:8443")
    assert set(base_with_port.origins()) == {("https", name, 8443) for name in names}
