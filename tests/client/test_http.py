"""The clients over the network, against servers that send raw bytes."""

import asyncio
import gzip
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from fake_credits.client import AsyncServerClient, ServerClient
from fake_credits.client.http import AsyncNetworkTransport, NetworkTransport
from fake_credits.contract import Contract, Operation
from fake_credits.errors import BadGateway, ConnectionLost, InvalidResponse, Timeout, TransportFailure
from fake_credits.http_message import Request
from fake_credits.models import Balance

CallClient = Callable[..., Any]
RawServer = Callable[[bytes | Callable[[socket.socket], None]], tuple[str, list[bytes]]]

API_KEY = "fck_do-not-tell"
OK_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: 14\r\n\r\n"
BALANCE = b'{"balance":90}'


def http_reply(head: str, body: bytes = b"", length: int | None = None) -> bytes:
    lines = f"HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {len(body) if length is None else length}\r\n\r\n"
    return lines.encode() + body


def reset_connection(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_request_line_and_headers_are_sent_as_built(call_client: CallClient, raw_server: RawServer) -> None:
    url, requests = raw_server(OK_HEAD + BALANCE)
    assert call_client("server", (url, API_KEY), "get_balance", "app-id", "user-id") == Balance(90)
    head = requests[0].decode().lower().split("\r\n")
    assert requests[0].startswith(b"GET /v1/applications/app-id/users/user-id/balance HTTP/1.1\r\n")
    assert [line for line in head if line.startswith(("x-api-key", "authorization", "accept:"))] == [
        "accept: application/json",
        f"x-api-key: {API_KEY}",
    ]


@pytest.mark.parametrize(
    ("user_id", "encoded"),
    [
        ("auth0|x/y z", b"auth0%7Cx%2Fy%20z"),
        ("a/../../b", b"a%2F..%2F..%2Fb"),
        ("%2E%2E", b"%252E%252E"),
        ("%2F", b"%252F"),
        ("😀", b"%F0%9F%98%80"),
        ("a?b#c", b"a%3Fb%23c"),
        ("...", b"..."),
        ("é", b"%C3%A9"),
    ],
)
def test_special_characters_in_ids_are_percent_encoded(
    call_client: CallClient, raw_server: RawServer, user_id: str, encoded: bytes
) -> None:
    url, requests = raw_server(OK_HEAD + BALANCE)
    call_client("server", (url, "key"), "get_balance", user_id, user_id)
    assert requests[0].split(b" ")[1] == b"/v1/applications/%b/users/%b/balance" % (encoded, encoded)


def test_cursor_is_percent_encoded(call_client: CallClient, raw_server: RawServer) -> None:
    body = b'{"transactions":[]}'
    url, requests = raw_server(http_reply("200 OK", body))
    call_client("user", (url, "a", "token"), "list_transactions", "u", "a=b&c/d+e %2F..")
    assert requests[0].split(b" ")[1].endswith(b"/transactions?cursor=a%3Db%26c%2Fd%2Be%20%252F..")


@pytest.mark.parametrize("prefix", ["", "/", "/api", "/api/", "/a%2Fb/%2E%2E/c"])
def test_base_url_path_is_not_normalized(raw_server: RawServer, prefix: str) -> None:
    url, requests = raw_server(OK_HEAD + BALANCE)
    with ServerClient(url + prefix, "key") as client:
        client.get_balance("a", "u")
    expected = prefix.rstrip("/") + "/v1/applications/a/users/u/balance"
    assert requests[0].split(b" ")[1] == expected.encode()


def test_given_http_client_keeps_the_encoded_target(raw_server: RawServer) -> None:
    """API README: "fetch (function, optional): Custom fetch implementation\""""
    url, requests = raw_server(OK_HEAD + BALANCE)
    with httpx2.Client(base_url="http://elsewhere.test/x/", headers={"x-team": "blue"}) as http_client:
        ServerClient(url, "key", http_client=http_client).get_balance("a/../b", "u")
    assert requests[0].split(b" ")[1] == b"/v1/applications/a%2F..%2Fb/users/u/balance"
    assert b"x-team: blue" in requests[0]


def test_create_transaction_sends_json(call_client: CallClient, raw_server: RawServer) -> None:
    body = b'{"delta":-10,"reason":"consume","createdAt":"2026-01-02T03:04:05.678Z"}'
    url, requests = raw_server(http_reply("201 Created", body))
    call_client("server", (url, "key"), "create_transaction", "a", "u", delta=-10, reason="consume")
    assert requests[0].startswith(b"POST /v1/applications/a/users/u/transactions HTTP/1.1\r\n")
    assert b"content-type: application/json\r\n" in requests[0].lower()
    assert requests[0].endswith(b'\r\n\r\n{"delta":-10,"reason":"consume"}')


def test_id_too_long_for_a_url_raises_value_error(call_client: CallClient, raw_server: RawServer) -> None:
    url, requests = raw_server(OK_HEAD + BALANCE)
    with pytest.raises(ValueError, match="nothing was sent"):
        call_client("server", (url, "key"), "get_balance", "a", "u" * 70_000)
    assert requests == []


def test_latin_1_api_key_is_sent_unchanged(call_client: CallClient, raw_server: RawServer) -> None:
    url, requests = raw_server(OK_HEAD + BALANCE)
    call_client("server", (url, "clé"), "get_balance", "a", "u")
    assert b": cl\xe9\r\n" in requests[0]


def test_create_user_sends_no_body(call_client: CallClient, raw_server: RawServer) -> None:
    body = b'{"applicationId":"a","userId":"u","createdAt":"2026-01-02T03:04:05.678Z"}'
    url, requests = raw_server(http_reply("200 OK", body))
    call_client("server", (url, "key"), "create_user", "a", "u")
    assert requests[0].startswith(b"PUT ")
    assert requests[0].endswith(b"\r\n\r\n")
    assert b"content-type" not in requests[0].lower()


@pytest.mark.usefixtures("only_reads_time_out")
def test_missing_response_raises_timeout(call_client: CallClient, raw_server: RawServer) -> None:
    request_received, client_timed_out = threading.Event(), threading.Event()

    def never_reply(_: socket.socket) -> None:
        request_received.set()
        client_timed_out.wait(5)

    url, requests = raw_server(never_reply)
    with pytest.raises(Timeout) as exc_info:
        call_client("server", (url, API_KEY), "create_user", "a", "u", timeout_s=0.05)
    client_timed_out.set()
    assert isinstance(exc_info.value.__cause__, httpx2.ReadTimeout)
    assert str(exc_info.value) == (
        "createUser: no response within 0.05 s (ReadTimeout); the request may or may not have taken effect "
        f"(PUT {url}/v1/applications/a/users/u)"
    )
    assert request_received.wait(5)
    assert len(requests) == 1


def test_stalled_response_raises_timeout(call_client: CallClient, raw_server: RawServer) -> None:
    client_timed_out = threading.Event()

    def send_half_a_body(connection: socket.socket) -> None:
        connection.sendall(OK_HEAD + BALANCE[:5])
        client_timed_out.wait(5)

    url, _ = raw_server(send_half_a_body)
    with pytest.raises(Timeout):
        call_client("server", (url, "key"), "get_balance", "a", "u", timeout_s=0.05)
    client_timed_out.set()


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(OK_HEAD + BALANCE[:5], id="truncated body"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-", id="truncated head"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{", id="truncated chunk"),
        pytest.param(b"", id="closed without an answer"),
        pytest.param(b"no HTTP at all\r\n\r\n", id="no HTTP"),
        pytest.param(reset_connection, id="reset"),
    ],
)
def test_incomplete_response_raises_connection_lost(call_client: CallClient, raw_server: RawServer, reply: Any) -> None:
    url, requests = raw_server(reply)
    with pytest.raises(ConnectionLost, match="the request may or may not have taken effect") as exc_info:
        call_client("server", (url, API_KEY), "get_balance", "a", "u")
    assert isinstance(exc_info.value.__cause__, httpx2.TransportError)
    assert API_KEY not in str(exc_info.value)
    assert len(requests) == 1


def test_refused_connection_raises_connection_lost(call_client: CallClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionLost) as exc_info:
        call_client("server", (f"http://127.0.0.1:{port}", "key"), "get_balance", "a", "u")
    assert isinstance(exc_info.value.__cause__, httpx2.ConnectError)
    assert isinstance(exc_info.value, TransportFailure)


def test_undecodable_content_encoding_raises_invalid_response(call_client: CallClient, raw_server: RawServer) -> None:
    url, _ = raw_server(http_reply("200 OK\r\nX-Request-Id: r-1\r\nContent-Encoding: gzip", b"no gzip"))
    with pytest.raises(InvalidResponse, match="gzip") as exc_info:
        call_client("server", (url, "key"), "get_balance", "a", "u")
    assert (exc_info.value.status, exc_info.value.request_id) == (200, "r-1")
    assert isinstance(exc_info.value.__cause__, httpx2.DecodingError)


def test_gzip_response_is_decoded(call_client: CallClient, raw_server: RawServer) -> None:
    url, _ = raw_server(http_reply("200 OK\r\nContent-Encoding: gzip", gzip.compress(BALANCE)))
    assert call_client("server", (url, "key"), "get_balance", "a", "u") == Balance(90)


def test_redirect_raises_invalid_response(call_client: CallClient, raw_server: RawServer) -> None:
    url, requests = raw_server(http_reply("307 Temporary Redirect\r\nLocation: /elsewhere"))
    with pytest.raises(InvalidResponse, match="do not follow redirects") as exc_info:
        call_client("server", (url, "key"), "get_balance", "a", "u")
    assert exc_info.value.status == 307
    assert len(requests) == 1


def test_html_error_page_raises_invalid_response_without_retry(call_client: CallClient, raw_server: RawServer) -> None:
    url, requests = raw_server(http_reply("502 Bad Gateway\r\nContent-Type: text/html", b"<html>nginx</html>"))
    with pytest.raises(InvalidResponse, match="status 502, text/html") as exc_info:
        call_client("server", (url, "key"), "get_balance", "a", "u")
    assert exc_info.value.status == 502
    assert len(requests) == 1


def test_error_response_raises_its_class(call_client: CallClient, raw_server: RawServer) -> None:
    body = b'{"type":"about:blank","title":"Bad","status":502,"detail":"Down.","code":"bad_gateway"}'
    url, _ = raw_server(http_reply("502 Bad Gateway\r\nX-Request-Id: r-1", body))
    with pytest.raises(BadGateway, match=r"Down\. \(request r-1\)"):
        call_client("server", (url, "key"), "get_balance", "a", "u", contract=Contract(error_body="problem"))


def test_proxy_variables_do_not_apply_to_loopback(
    call_client: CallClient, raw_server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    url, _ = raw_server(OK_HEAD + BALANCE)
    assert call_client("server", (url, "key"), "get_balance", "a", "u") == Balance(90)


def test_proxy_variables_apply_to_other_hosts(
    call_client: CallClient, raw_server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, requests = raw_server(OK_HEAD + BALANCE)
    monkeypatch.setenv("http_proxy", url)
    assert call_client("server", ("http://credits.test", "key"), "get_balance", "a", "u%") == Balance(90)
    assert requests[0].startswith(b"GET http://credits.test/v1/applications/a/users/u%25/balance HTTP/1.1\r\n")


@pytest.mark.parametrize("transport", [NetworkTransport, AsyncNetworkTransport])
def test_transport_repr_shows_the_base_url(transport: Any) -> None:
    assert repr(transport("http://h/api/")) == f"<{transport.__name__} to http://h/api>"


def test_invalid_host_raises_value_error() -> None:
    with pytest.raises(ValueError, match="base_url"):
        NetworkTransport("http://1.2.3.999/")


def test_async_transport_without_keep_alive_works_across_event_loops(raw_server: RawServer) -> None:
    url, requests = raw_server(OK_HEAD.replace(b"Connection: close\r\n", b"") + BALANCE)
    transport = AsyncNetworkTransport(url, keep_alive=False)
    request = Request("GET", b"/", timeout_s=5, operation=Operation.GET_BALANCE)
    assert [asyncio.run(transport.send(request)).status for _ in range(2)] == [200, 200]
    assert len(requests) == 2


def test_response_hook_may_read_the_body(raw_server: RawServer) -> None:
    url, _ = raw_server(http_reply("200 OK\r\nContent-Encoding: gzip", gzip.compress(BALANCE)))

    def read_body(response: httpx2.Response) -> None:
        response.read()

    with httpx2.Client(event_hooks={"response": [read_body]}) as http_client:
        assert ServerClient(url, "key", http_client=http_client).get_balance("a", "u") == Balance(90)


def test_given_async_http_client_stays_open_and_keeps_its_hooks(raw_server: RawServer) -> None:
    url, _ = raw_server(OK_HEAD + BALANCE)

    async def read_body(response: httpx2.Response) -> None:
        await response.aread()

    async def get_and_check() -> bool:
        async with httpx2.AsyncClient(event_hooks={"response": [read_body]}) as http_client:
            async with AsyncServerClient(url, "key", http_client=http_client) as client:
                assert await client.get_balance("a", "u") == Balance(90)
            return http_client.is_closed

    assert asyncio.run(get_and_check()) is False
