"""The Host headers that a live server accepts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_credits.api.access import HostPolicy
from fake_credits.errors import HostNotAllowed, MalformedRequest

API_PATH = b"/v1/applications/a/users"
LOOPBACK = [
    "localhost",
    "LocalHost",
    "localhost.",
    "localhost:80",
    "x.localhost",
    "127.0.0.1",
    "127.1.2.3:65535",
    "[::1]",
]
FOREIGN = [
    "example.com",
    "localhost.example.com",
    "128.0.0.1",
    "[2001:db8::1]:80",
    "1.0.0.0",
    "localhost-x",
    "10.0.0.1",
]
INVALID = [
    "",
    " ",
    "a b",
    "a/b",
    "a@b",
    "a:b",
    "a:123456",
    "[::1",
    "::1",
    "a,b",
    "\xff",
    "a\tb",
    "*",
    "http://a",
    ":80",
]


def error_type(policy: HostPolicy, host: str, path: bytes = API_PATH) -> type[Exception] | None:
    error = policy.host_error(path, [(b"host", host.encode("latin-1"))])
    return None if error is None else type(error)


@pytest.mark.parametrize("host", LOOPBACK)
def test_loopback_hosts_are_accepted(host: str) -> None:
    policy = HostPolicy()
    assert [error_type(policy, host) for _ in range(2)] == [None, None]


@pytest.mark.parametrize("host", FOREIGN)
def test_foreign_hosts_are_rejected(host: str) -> None:
    assert error_type(HostPolicy(), host) is HostNotAllowed


@pytest.mark.parametrize("host", INVALID)
@pytest.mark.parametrize("exposed", [False, True])
def test_invalid_host_is_malformed_request(host: str, exposed: bool) -> None:
    assert error_type(HostPolicy(is_exposed=exposed), host) is MalformedRequest


@pytest.mark.parametrize("count", [0, 2, 3])
def test_request_without_exactly_one_host_header_is_rejected(count: int) -> None:
    """RFC 9112, section 3.2: a request without a Host, or with more than one, is a 400."""
    headers = [(b"host", b"localhost")] * count
    assert isinstance(HostPolicy().host_error(API_PATH, headers), MalformedRequest)


@pytest.mark.parametrize("host", ["api.test", "API.test.:8080"])
def test_allowed_host_is_accepted(host: str) -> None:
    assert error_type(HostPolicy(("Api.Test",)), host) is None
    assert error_type(HostPolicy(("other.test",)), host) is HostNotAllowed


@pytest.mark.parametrize(
    ("path", "is_accepted"),
    [
        (API_PATH, True),
        (b"/_fake/livez", True),
        (b"/_fake/readyz", True),
        (b"/_fake/sandboxes", False),
        (b"/_fake/", False),
    ],
)
def test_exposed_server_checks_host_of_control_plane_only(path: bytes, is_accepted: bool) -> None:
    """The API and health checks accept any Host; `/_fake/` needs `--allow-host NAME` (docs, "Command line")."""
    assert (error_type(HostPolicy(is_exposed=True), "compose-name", path) is None) == is_accepted
    assert error_type(HostPolicy(("compose-name",), is_exposed=True), "compose-name", path) is None


def test_host_error_names_allow_host_flag() -> None:
    error = HostPolicy().host_error(API_PATH, [(b"host", b"example.com:80")])
    assert error is not None
    assert "--allow-host example.com" in error.message


@given(st.binary(max_size=40))
def test_arbitrary_host_bytes_are_accepted_or_rejected(host: bytes) -> None:
    error = HostPolicy().host_error(API_PATH, [(b"host", host)])
    assert error is None or isinstance(error, HostNotAllowed | MalformedRequest)


def test_accepted_host_cache_is_bounded() -> None:
    policy = HostPolicy()
    for number in range(1000):
        error_type(policy, f"h{number}.localhost")
    accepted_hosts: set[bytes] = policy._accepted_hosts  # pyright: ignore[reportPrivateUsage]
    assert len(accepted_hosts) <= 64
