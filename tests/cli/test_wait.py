"""`wait`: until a server answers well, or its time is up, with the reason."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import CliRunner

from fake_credits.cli.main import cli


class _Slow(BaseHTTPRequestHandler):
    """Be a server that is not ready at first: readyz answers 503 twice."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        good = self.path == "/own" or (self.path == "/_fake/readyz" and len(self.asked) > 2)
        self.send_response(200 if good else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    """Return the URL of a server that is ready at the third question."""
    _Slow.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Slow)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("slash", ["", "/"])
def test_it_asks_for_readiness_until_the_answer_is_good(server: str, slash: str) -> None:
    # A proxy that answers nothing: it is not asked.
    result = CliRunner().invoke(cli, ["wait", server + slash], env={"http_proxy": "http://127.0.0.1:9"})
    assert (result.exit_code, result.output) == (0, "")
    assert _Slow.asked == ["/_fake/readyz"] * 3


def test_a_url_with_a_path_is_asked_as_it_is(server: str) -> None:
    assert CliRunner().invoke(cli, ["wait", f"{server}/own"]).exit_code == 0
    assert _Slow.asked == ["/own"]


def test_a_bad_answer_to_the_end_is_a_failure_that_names_it(server: str) -> None:
    result = CliRunner().invoke(cli, ["wait", f"{server}/never", "--timeout", "0.1"])
    assert result.exit_code == 1
    assert result.output == f"Error: {server}/never did not answer within 0.1 s: it answered 503\n"


def test_no_server_is_a_failure_that_says_why() -> None:
    result = CliRunner().invoke(cli, ["wait", "http://127.0.0.1:1", "--timeout", "0"])
    assert result.exit_code == 1
    assert "within 0 s" in result.output
    assert "refused" in result.output
