"""`wait`: polling until a server is ready or the timeout passes."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import CliRunner

from fake_credits.cli.main import cli


class SlowStartHandler(BaseHTTPRequestHandler):
    """A handler that responds to readyz with 503 twice before it reports ready."""

    requested_paths: list[str]

    def do_GET(self) -> None:
        self.requested_paths.append(self.path)
        is_ready = self.path == "/own" or (self.path == "/_fake/readyz" and len(self.requested_paths) > 2)
        self.send_response(200 if is_ready else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Log nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    """Yield the URL of a server that becomes ready on the third request."""
    SlowStartHandler.requested_paths = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), SlowStartHandler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("slash", ["", "/"])
def test_wait_polls_readyz_until_it_succeeds(server: str, slash: str) -> None:
    # Nothing listens at the proxy's address, so the proxy must not be used.
    result = CliRunner().invoke(cli, ["wait", server + slash], env={"http_proxy": "http://127.0.0.1:9"})
    assert (result.exit_code, result.output) == (0, "")
    assert SlowStartHandler.requested_paths == ["/_fake/readyz"] * 3


def test_url_with_a_path_is_requested_unchanged(server: str) -> None:
    assert CliRunner().invoke(cli, ["wait", f"{server}/own"]).exit_code == 0
    assert SlowStartHandler.requested_paths == ["/own"]


def test_timeout_reports_the_last_status(server: str) -> None:
    result = CliRunner().invoke(cli, ["wait", f"{server}/never", "--timeout", "0.1"])
    assert result.exit_code == 1
    assert result.output == f"Error: {server}/never was not ready within 0.1 s: it responded with status 503\n"


def test_timeout_does_not_show_the_query(server: str) -> None:
    result = CliRunner().invoke(cli, ["wait", f"{server}/never?key=SECRET", "--timeout", "0.1"])
    assert f"Error: {server}/never?*** was not ready" in result.output
    assert "SECRET" not in result.output


def test_unreachable_server_reports_the_reason() -> None:
    result = CliRunner().invoke(cli, ["wait", "http://127.0.0.1:1", "--timeout", "0"])
    assert result.exit_code == 1
    assert "within 0 s" in result.output
    assert "refused" in result.output
