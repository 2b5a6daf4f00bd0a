"""Which Host headers a live server answers to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_credits.api.access import HostPolicy
from fake_credits.errors import HostNotAllowed, MalformedRequest

API = b"/v1/applications/a/users"
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
BROKEN = ["", " ", "a b", "a/b", "a@b", "a:b", "a:123456", "[::1", "::1", "a,b", "\xff", "a\tb", "*", "http://a", ":80"]


def refusal(policy: HostPolicy, host: str, path: bytes = API) -> type[Exception] | None:
    found = policy.host_error(path, [(b"host", host.encode("latin-1"))])
    return None if found is None else type(found)


@pytest.mark.parametrize("host", LOOPBACK)
def test_loopback_names_pass(host: str) -> None:
    policy = HostPolicy()
    assert [refusal(policy, host) for _ in range(2)] == [None, None]


@pytest.mark.parametrize("host", FOREIGN)
def test_foreign_names_do_not(host: str) -> None:
    assert refusal(HostPolicy(), host) is HostNotAllowed


@pytest.mark.parametrize("host", BROKEN)
@pytest.mark.parametrize("exposed", [False, True])
def test_what_is_no_host_is_malformed(host: str, exposed: bool) -> None:
    assert refusal(HostPolicy(is_exposed=exposed), host) is MalformedRequest


@pytest.mark.parametrize("count", [0, 2, 3])
def test_there_is_one_host_header(count: int) -> None:
    """RFC 9112, section 3.2: a request without a Host, or with more than one, is a 400."""
    headers = [(b"host", b"localhost")] * count
    assert isinstance(HostPolicy().host_error(API, headers), MalformedRequest)


@pytest.mark.parametrize("host", ["api.test", "API.test.:8080"])
def test_an_allowed_name_passes(host: str) -> None:
    assert refusal(HostPolicy(("Api.Test",)), host) is None
    assert refusal(HostPolicy(("other.test",)), host) is HostNotAllowed


@pytest.mark.parametrize(
    ("path", "passes"),
    [(API, True), (b"/_fake/livez", True), (b"/_fake/readyz", True), (b"/_fake/sandboxes", False), (b"/_fake/", False)],
)
def test_an_exposed_server_guards_the_control_plane_only(path: bytes, passes: bool) -> None:
    """README, "Command line": any Host on the API's paths and health, while `/_fake/` wants `--allow-host NAME`."""
    assert (refusal(HostPolicy(is_exposed=True), "compose-name", path) is None) == passes
    assert refusal(HostPolicy(("compose-name",), is_exposed=True), "compose-name", path) is None


def test_a_refusal_names_the_flag() -> None:
    error = HostPolicy().host_error(API, [(b"host", b"example.com:80")])
    assert error is not None
    assert "--allow-host example.com" in error.message


@given(st.binary(max_size=40))
def test_any_bytes_are_judged(host: bytes) -> None:
    found = HostPolicy().host_error(API, [(b"host", host)])
    assert found is None or isinstance(found, HostNotAllowed | MalformedRequest)


def test_what_is_remembered_is_bounded() -> None:
    policy = HostPolicy()
    for number in range(1000):
        refusal(policy, f"h{number}.localhost")
    remembered: set[bytes] = policy._accepted_hosts  # pyright: ignore[reportPrivateUsage]
    assert len(remembered) <= 64
