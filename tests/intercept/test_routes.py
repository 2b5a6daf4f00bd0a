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
    "https://credits.internal/m%c3%bc/%61pi": "https://credits.internal/m%C3%BC/api",
    "https://credits.internal/a%2fb/%7E%40": "https://credits.internal/a%2Fb/~@",
}


@pytest.mark.parametrize(("url", "normalized"), NORMALIZED_URLS.items(), ids=NORMALIZED_URLS.keys())
def test_base_url_is_normalized(url: str, normalized: str) -> None:
    """The host is lowercased and encoded with IDNA 2008; a trailing dot or slash and a default port are dropped."""
    assert str(parse_base_url(url)) == normalized
    assert parse_base_url(normalized) == parse_base_url(url)


INVALID_URLS = {
    "credits.internal": "must start with http:// or https://",
    "ftp://credits.internal": "must start with http:// or https://",
    "": "must start with http:// or https://",
    "https://": "credits.internal, but has none",
    "https:///v1": "credits.internal, but has none",
    "https://*.internal": "a valid host name or address, such as credits.internal, not '*.internal'",
    "https://credits internal": "not 'credits internal'",
    "https://..": "not '.'",
    "https://credits.internal:http": "Port could not be cast",
    "https://credits.internal:70000": "Port out of range",
    "https://[::1": "Invalid IPv6 URL",
    "https://me@credits.internal": "it must not have a user name",
    "https://me:secret@credits.internal": "https://***@credits.internal",
    "https://credits.internal/?a=secret": "'https://credits.internal/?***' to intercept: it must not have a query",
    "https://credits.internal/#secret": "'https://credits.internal/#***' to intercept: it must not have a fragment",
    "credits.internal?a=secret": "'credits.internal?***' to intercept: it must start with http",
    "me:secret@credits.internal": "'***@credits.internal' to intercept: it must start with http",
    "https://me:secret@credits.internal:x/?a=secret": "https://***@credits.internal:x/?***",
    "https://me:secret/@credits.internal": "https://***@credits.internal",
    "https://credits.internal/v1/%2e%2E/v2": "its path must not have '.' or '..' segments",
    "https://credits.internal/v1/../v2": "must not have '.' or '..' segments, because HTTP libraries resolve them",
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
        (b"/%761/users?%761", b"/users?%761"),
        (b"/v%31", b"/"),
        (b"/v1%2Fusers", None),
        (b"/%zz/users", None),
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


@pytest.mark.parametrize("target", [b"/m%C3%BC@/x", b"/m%c3%bc@/x", b"/%6D%c3%BC%40/x"])
def test_equivalent_encodings_of_path_match(target: bytes) -> None:
    """See RFC 3986, section 6.2.2; this includes reserved characters, as the fake's own routes decode each segment."""
    base = parse_base_url("https://credits.internal/mü@")
    assert base.contains(target)
    assert base.relative_target(target) == b"/x"


def test_ports_include_default() -> None:
    assert parse_base_url("https://credits.internal").ports == (443, None)
    assert parse_base_url("https://credits.internal:8443").ports == (8443,)
