"""Test the way over the network, against servers that this package had no hand in."""

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

Ask = Callable[..., Any]
RawServer = Callable[[bytes | Callable[[socket.socket], None]], tuple[str, list[bytes]]]

SECRET = "fck_do-not-tell"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: 14\r\n\r\n"
BALANCE = b'{"balance":90}'


def reply(head: str, body: bytes = b"", length: int | None = None) -> bytes:
    lines = f"HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {len(body) if length is None else length}\r\n\r\n"
    return lines.encode() + body


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_a_call_reaches_the_wire_as_it_was_described(ask: Ask, raw_server: RawServer) -> None:
    url, requests = raw_server(OK + BALANCE)
    assert ask("server", (url, SECRET), "get_balance", "app-id", "user-id") == Balance(90)
    head = requests[0].decode().lower().split("\r\n")
    assert requests[0].startswith(b"GET /v1/applications/app-id/users/user-id/balance HTTP/1.1\r\n")
    assert [line for line in head if line.startswith(("x-api-key", "authorization", "accept:"))] == [
        "accept: application/json",
        f"x-api-key: {SECRET}",
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
def test_odd_ids_reach_the_wire_byte_for_byte(ask: Ask, raw_server: RawServer, user_id: str, encoded: bytes) -> None:
    url, requests = raw_server(OK + BALANCE)
    ask("server", (url, "key"), "get_balance", user_id, user_id)
    assert requests[0].split(b" ")[1] == b"/v1/applications/%b/users/%b/balance" % (encoded, encoded)


def test_a_cursor_reaches_the_wire_byte_for_byte(ask: Ask, raw_server: RawServer) -> None:
    body = b'{"transactions":[]}'
    url, requests = raw_server(reply("200 OK", body))
    ask("user", (url, "a", "token"), "list_transactions", "u", "a=b&c/d+e %2F..")
    assert requests[0].split(b" ")[1].endswith(b"/transactions?cursor=a%3Db%26c%2Fd%2Be%20%252F..")


@pytest.mark.parametrize("prefix", ["", "/", "/api", "/api/", "/a%2Fb/%2E%2E/c"])
def test_a_base_url_may_have_a_path_which_is_not_normalised(raw_server: RawServer, prefix: str) -> None:
    url, requests = raw_server(OK + BALANCE)
    with ServerClient(url + prefix, "key") as client:
        client.get_balance("a", "u")
    expected = prefix.rstrip("/") + "/v1/applications/a/users/u/balance"
    assert requests[0].split(b" ")[1] == expected.encode()


def test_an_http_client_that_was_passed_in_keeps_the_target_too(raw_server: RawServer) -> None:
    """README: "fetch (function, optional): Custom fetch implementation\""""
    url, requests = raw_server(OK + BALANCE)
    with httpx2.Client(base_url="http://elsewhere.test/x/", headers={"x-team": "blue"}) as http_client:
        ServerClient(url, "key", http_client=http_client).get_balance("a/../b", "u")
    assert requests[0].split(b" ")[1] == b"/v1/applications/a%2F..%2Fb/users/u/balance"
    assert b"x-team: blue" in requests[0]


def test_a_transaction_goes_out_as_json(ask: Ask, raw_server: RawServer) -> None:
    body = b'{"delta":-10,"reason":"consume","createdAt":"2026-01-02T03:04:05.678Z"}'
    url, requests = raw_server(reply("201 Created", body))
    ask("server", (url, "key"), "create_transaction", "a", "u", delta=-10, reason="consume")
    assert requests[0].startswith(b"POST /v1/applications/a/users/u/transactions HTTP/1.1\r\n")
    assert b"content-type: application/json\r\n" in requests[0].lower()
    assert requests[0].endswith(b'\r\n\r\n{"delta":-10,"reason":"consume"}')


def test_an_id_that_is_too_long_for_any_url_is_a_value_error(ask: Ask, raw_server: RawServer) -> None:
    url, requests = raw_server(OK + BALANCE)
    with pytest.raises(ValueError, match="nothing was sent"):
        ask("server", (url, "key"), "get_balance", "a", "u" * 70_000)
    assert requests == []


def test_a_key_in_latin_1_reaches_the_wire_as_such(ask: Ask, raw_server: RawServer) -> None:
    url, requests = raw_server(OK + BALANCE)
    ask("server", (url, "clé"), "get_balance", "a", "u")
    assert b": cl\xe9\r\n" in requests[0]


def test_create_user_sends_no_body(ask: Ask, raw_server: RawServer) -> None:
    body = b'{"applicationId":"a","userId":"u","createdAt":"2026-01-02T03:04:05.678Z"}'
    url, requests = raw_server(reply("200 OK", body))
    ask("server", (url, "key"), "create_user", "a", "u")
    assert requests[0].startswith(b"PUT ")
    assert requests[0].endswith(b"\r\n\r\n")
    assert b"content-type" not in requests[0].lower()


def test_a_server_that_never_answers_is_a_timeout(ask: Ask, raw_server: RawServer) -> None:
    done = threading.Event()

    def wait(_: socket.socket) -> None:
        done.wait(5)

    url, requests = raw_server(wait)
    with pytest.raises(Timeout) as caught:
        ask("server", (url, SECRET), "create_user", "a", "u", timeout_s=0.05)
    done.set()
    assert isinstance(caught.value.__cause__, httpx2.ReadTimeout)
    assert str(caught.value) == (
        "createUser: no answer within 0.05 s (ReadTimeout); whether it took effect is unknown "
        f"(PUT {url}/v1/applications/a/users/u)"
    )
    assert len(requests) == 1


def test_an_answer_that_stops_in_the_middle_is_a_timeout(ask: Ask, raw_server: RawServer) -> None:
    done = threading.Event()

    def stall(connection: socket.socket) -> None:
        connection.sendall(OK + BALANCE[:5])
        done.wait(5)

    url, _ = raw_server(stall)
    with pytest.raises(Timeout):
        ask("server", (url, "key"), "get_balance", "a", "u", timeout_s=0.05)
    done.set()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(OK + BALANCE[:5], id="truncated body"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-", id="truncated head"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{", id="truncated chunk"),
        pytest.param(b"", id="closed without an answer"),
        pytest.param(b"no HTTP at all\r\n\r\n", id="no HTTP"),
        pytest.param(reset, id="reset"),
    ],
)
def test_an_answer_that_is_not_whole_is_a_lost_connection(ask: Ask, raw_server: RawServer, answer: Any) -> None:
    url, requests = raw_server(answer)
    with pytest.raises(ConnectionLost, match="whether it took effect is unknown") as caught:
        ask("server", (url, SECRET), "get_balance", "a", "u")
    assert isinstance(caught.value.__cause__, httpx2.TransportError)
    assert SECRET not in str(caught.value)
    assert len(requests) == 1


def test_a_refused_connection_is_a_lost_one(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionLost) as caught:
        ask("server", (f"http://127.0.0.1:{port}", "key"), "get_balance", "a", "u")
    assert isinstance(caught.value.__cause__, httpx2.ConnectError)
    assert isinstance(caught.value, TransportFailure)


def test_a_coding_that_does_not_decode_is_an_invalid_response(ask: Ask, raw_server: RawServer) -> None:
    url, _ = raw_server(reply("200 OK\r\nX-Request-Id: r-1\r\nContent-Encoding: gzip", b"no gzip"))
    with pytest.raises(InvalidResponse, match="gzip") as caught:
        ask("server", (url, "key"), "get_balance", "a", "u")
    assert (caught.value.status, caught.value.request_id) == (200, "r-1")
    assert isinstance(caught.value.__cause__, httpx2.DecodingError)


def test_a_content_coding_is_undone(ask: Ask, raw_server: RawServer) -> None:
    url, _ = raw_server(reply("200 OK\r\nContent-Encoding: gzip", gzip.compress(BALANCE)))
    assert ask("server", (url, "key"), "get_balance", "a", "u") == Balance(90)


def test_no_redirect_is_followed(ask: Ask, raw_server: RawServer) -> None:
    url, requests = raw_server(reply("307 Temporary Redirect\r\nLocation: /elsewhere"))
    with pytest.raises(InvalidResponse, match="no redirect") as caught:
        ask("server", (url, "key"), "get_balance", "a", "u")
    assert caught.value.status == 307
    assert len(requests) == 1


def test_a_proxys_page_is_an_invalid_response_and_not_retried(ask: Ask, raw_server: RawServer) -> None:
    url, requests = raw_server(reply("502 Bad Gateway\r\nContent-Type: text/html", b"<html>nginx</html>"))
    with pytest.raises(InvalidResponse, match="status 502, text/html") as caught:
        ask("server", (url, "key"), "get_balance", "a", "u")
    assert caught.value.status == 502
    assert len(requests) == 1


def test_a_refusal_over_the_network_is_its_class(ask: Ask, raw_server: RawServer) -> None:
    body = b'{"type":"about:blank","title":"Bad","status":502,"detail":"Down.","code":"bad_gateway"}'
    url, _ = raw_server(reply("502 Bad Gateway\r\nX-Request-Id: r-1", body))
    with pytest.raises(BadGateway, match=r"Down\. \(request r-1\)"):
        ask("server", (url, "key"), "get_balance", "a", "u", contract=Contract(error_body="problem"))


def test_a_proxy_of_the_environment_never_stands_before_loopback(
    ask: Ask, raw_server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    url, _ = raw_server(OK + BALANCE)
    assert ask("server", (url, "key"), "get_balance", "a", "u") == Balance(90)


def test_a_proxy_of_the_environment_stands_before_anything_else(
    ask: Ask, raw_server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, requests = raw_server(OK + BALANCE)
    monkeypatch.setenv("http_proxy", url)
    assert ask("server", ("http://credits.test", "key"), "get_balance", "a", "u%") == Balance(90)
    assert requests[0].startswith(b"GET http://credits.test/v1/applications/a/users/u%25/balance HTTP/1.1\r\n")


@pytest.mark.parametrize("transport", [NetworkTransport, AsyncNetworkTransport])
def test_a_transport_says_where_it_goes(transport: Any) -> None:
    assert repr(transport("http://h/api/")) == f"<{transport.__name__} to http://h/api>"


def test_a_host_that_is_none_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="base_url"):
        NetworkTransport("http://1.2.3.999/")


def test_without_keep_alive_no_socket_is_left_for_a_loop_to_close(raw_server: RawServer) -> None:
    url, requests = raw_server(OK.replace(b"Connection: close\r\n", b"") + BALANCE)
    transport = AsyncNetworkTransport(url, keep_alive=False)
    request = Request("GET", b"/", timeout_s=5, operation=Operation.GET_BALANCE)
    assert [asyncio.run(transport.send(request)).status for _ in range(2)] == [200, 200]
    assert len(requests) == 2


def test_an_http_client_whose_hook_reads_the_answer_is_fine(raw_server: RawServer) -> None:
    url, _ = raw_server(reply("200 OK\r\nContent-Encoding: gzip", gzip.compress(BALANCE)))

    def read(response: httpx2.Response) -> None:
        response.read()

    with httpx2.Client(event_hooks={"response": [read]}) as http_client:
        assert ServerClient(url, "key", http_client=http_client).get_balance("a", "u") == Balance(90)


def test_an_async_http_client_stays_open_and_keeps_its_hooks(raw_server: RawServer) -> None:
    url, _ = raw_server(OK + BALANCE)

    async def read(response: httpx2.Response) -> None:
        await response.aread()

    async def main() -> bool:
        async with httpx2.AsyncClient(event_hooks={"response": [read]}) as http_client:
            async with AsyncServerClient(url, "key", http_client=http_client) as client:
                assert await client.get_balance("a", "u") == Balance(90)
            return http_client.is_closed

    assert asyncio.run(main()) is False
