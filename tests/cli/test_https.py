"""`--tls`: what `run` starts trusts the server and what it trusted before, and nothing is left; `serve` says its CA."""

import json
import re
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from click.testing import CliRunner

from fake_credits.cli.https import trust_env
from fake_credits.cli.main import cli
from fake_credits.client.server import ServerClient
from fake_credits.transports.certificates import CA_FILE_COMMENT, issue_certificate
from tests.cli.conftest import COMMAND, LIMIT_S, Started, clean_environment

Start = Callable[..., Started]
CA_VARIABLES = ("NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")

IN_PYTHON = """
import os, sys, {library}
url = os.environ["CREDITS_BASE_URL"] + "/v1/applications/app-id/users/user-id/balance"
print({library}.get(url, headers={{"X-API-Key": os.environ["CREDITS_API_KEY"]}}).text)
"""
IN_NODE = """
const { CREDITS_BASE_URL: base, CREDITS_API_KEY: key } = process.env
const answer = await fetch(`${base}/v1/applications/app-id/users/user-id/balance`, { headers: { "X-API-Key": key } })
console.log(await answer.text())
"""
IN_SHELL = 'curl -sS -H "X-API-Key: $CREDITS_API_KEY" "$CREDITS_BASE_URL/v1/applications/app-id/users/user-id/balance"'
CLIENTS = {
    "fetch": ("node", "--input-type=module", "-e", IN_NODE),
    "requests": (sys.executable, "-c", IN_PYTHON.format(library="requests")),
    "httpx2": (sys.executable, "-c", IN_PYTHON.format(library="httpx2")),
    "curl": ("sh", "-c", IN_SHELL),
}


def run(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run ``fake-credits run --tls`` to its end, where nothing says whom to trust."""
    inherited = clean_environment(**variables)
    bare = {name: text for name, text in inherited.items() if name not in CA_VARIABLES or name in variables}
    return subprocess.run(
        [*COMMAND, "run", "--tls", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
        env=bare,
    )


@pytest.mark.parametrize(
    "client", [pytest.param(name, marks=[] if name == "requests" else [pytest.mark.slow]) for name in CLIENTS]
)
def test_a_client_that_reads_its_environment_trusts_it(client: str) -> None:
    program = {"fetch": "node"}.get(client, client)
    if program in ("node", "curl") and shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    done = run("--balance", "90", "--", *CLIENTS[client])
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"balance": 90}


@pytest.mark.slow
def test_the_urls_that_it_gives_out_are_https_and_its_files_go_with_it() -> None:
    code = (
        "import json, os, urllib.request as r; e = os.environ; u = e['CREDITS_BASE_URL']\n"
        "discovered = json.load(r.urlopen(u + '/.well-known/openid-configuration'))['jwks_uri']\n"
        f"names = ('CREDITS_CA_FILE', *{CA_VARIABLES})\n"
        "print(json.dumps([u, e['CREDITS_JWKS_URL'], discovered, [e[n] for n in names if n in e]]))\n"
        "raise SystemExit(3)"
    )
    done = run("--", sys.executable, "-c", code)
    assert (done.returncode, done.stderr) == (3, "")
    url, jwks, discovered, files = json.loads(done.stdout)
    assert url.startswith("https://127.0.0.1:")
    assert jwks == discovered == url + "/.well-known/jwks.json"
    assert len(files) == 4
    assert not any(Path(file).exists() or Path(file).parent.exists() for file in files)


@pytest.mark.slow
def test_a_variable_of_the_users_own_wins() -> None:
    done = run("--env", "SSL_CERT_FILE=mine", "--", "sh", "-c", 'printf %s "$SSL_CERT_FILE"')
    assert done.stdout == "mine"


@pytest.fixture(scope="module")
def theirs() -> str:
    """A certificate that a user trusts already."""
    return issue_certificate().ca_pem.removeprefix(CA_FILE_COMMENT)


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    """The file of our CA."""
    file = tmp_path / "ca.pem"
    file.write_text(issue_certificate().ca_pem)
    return file


def named(variables: dict[str, str]) -> dict[str, str]:
    return {name: Path(file).read_text() for name, file in variables.items()}


def test_what_the_variables_name_already_stays_trusted(ca: Path, theirs: str, tmp_path: Path) -> None:
    (tmp_path / "theirs.pem").write_text(f"a comment\n{theirs}{theirs}")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "0a1b2c3d.0").write_text(theirs)
    (tmp_path / "folder" / "README").write_text(issue_certificate().ca_pem)
    given = {name: str(tmp_path / "theirs.pem") for name in ("NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "CURL_CA_BUNDLE")}
    with trust_env(ca, {**given, "REQUESTS_CA_BUNDLE": str(tmp_path / "folder")}) as variables:
        bundles = named(variables)
    ours = ca.read_text().removeprefix(CA_FILE_COMMENT)
    assert bundles == dict.fromkeys((*given, "REQUESTS_CA_BUNDLE"), theirs + ours)


def test_requests_goes_by_curls_variable_where_its_own_is_not_set(ca: Path, theirs: str, tmp_path: Path) -> None:
    (tmp_path / "theirs.pem").write_text(theirs)
    with trust_env(ca, {"CURL_CA_BUNDLE": str(tmp_path / "theirs.pem")}) as variables:
        assert named(variables)["REQUESTS_CA_BUNDLE"] == theirs + ca.read_text().removeprefix(CA_FILE_COMMENT)


@pytest.mark.skipif(not ssl.create_default_context().get_ca_certs(), reason="there are no root certificates here")
def test_the_systems_roots_stay_trusted_but_node_has_its_own(ca: Path) -> None:
    with trust_env(ca, {}) as variables:
        counts = {name: text.count("BEGIN CERTIFICATE") for name, text in named(variables).items()}
    assert counts["NODE_EXTRA_CA_CERTS"] == 1
    assert counts["SSL_CERT_FILE"] == counts["REQUESTS_CA_BUNDLE"] > 20
    assert "CURL_CA_BUNDLE" not in counts


def test_a_system_without_roots_is_told_of(
    ca: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = ssl.DefaultVerifyPaths("", "", "", str(tmp_path / "cert.pem"), "", str(tmp_path / "certs"))
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: nowhere)
    with trust_env(ca, {}) as variables:
        assert set(named(variables).values()) == {ca.read_text().removeprefix(CA_FILE_COMMENT)}
    assert capsys.readouterr().err == (
        "Warning: --tls: no root certificates here: the command trusts this server alone\n"
    )


def test_a_file_that_is_named_but_not_there_is_told_of(ca: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with trust_env(ca, {"NODE_EXTRA_CA_CERTS": "/nowhere.pem"}) as variables:
        assert named(variables)["NODE_EXTRA_CA_CERTS"] == ca.read_text().removeprefix(CA_FILE_COMMENT)
    said = "Warning: --tls: NODE_EXTRA_CA_CERTS '/nowhere.pem' can't be read: No such file or directory\n"
    assert capsys.readouterr().err == said


@pytest.fixture(scope="module")
def shared(start_once: Start) -> Started:
    """A server that these tests share."""
    return start_once("serve", "--tls", "--allow-host", "credits", "--balance", "5")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_printed_curl_line_works(shared: Started) -> None:
    (line,) = re.findall(r"^  (curl .+)$", shared.out, re.MULTILINE)
    done = subprocess.run(["/bin/sh", "-c", f"{line} -sS"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["userId"] == "user-id"


def test_the_ready_file_names_the_ca_that_others_may_read(shared: Started) -> None:
    file = Path(shared.variables["CREDITS_CA_FILE"])
    assert file.is_absolute()
    assert file.read_text().startswith(CA_FILE_COMMENT)
    assert stat.S_IMODE(file.stat().st_mode) & 0o777 == 0o644 & ~_umask()
    assert [each.name for each in file.parent.iterdir()] == ["ca.pem"]


def _umask() -> int:
    done = subprocess.run(["sh", "-c", "umask"], capture_output=True, text=True, check=True)
    return int(done.stdout, 8)


def test_an_allowed_host_is_in_the_certificate(shared: Started) -> None:
    client = ssl.create_default_context(cafile=shared.variables["CREDITS_CA_FILE"])
    port = int(shared.variables["CREDITS_BASE_URL"].rpartition(":")[2])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as plain,
        client.wrap_socket(plain, server_hostname="credits") as connection,
    ):
        connection.sendall(b"GET /_fake/readyz HTTP/1.1\r\nHost: credits\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")


def test_wait_trusts_the_ca_that_it_is_given(shared: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    url, ca = shared.variables["CREDITS_BASE_URL"], shared.variables["CREDITS_CA_FILE"]
    refused = CliRunner().invoke(cli, ["wait", url, "--timeout", "0"])
    assert refused.exit_code == 1
    assert "unable to get local issuer certificate" in refused.output
    assert "trust its CA by --ca FILE" in refused.output
    assert CliRunner().invoke(cli, ["wait", url, "--ca", ca]).exit_code == 0
    monkeypatch.setenv("SSL_CERT_FILE", ca)
    assert CliRunner().invoke(cli, ["wait", url]).exit_code == 0


def test_wait_waits_for_the_ca_too(shared: Started, tmp_path: Path) -> None:
    url = shared.variables["CREDITS_BASE_URL"]
    (tmp_path / "later.pem").write_text("no certificate")
    for name, said in (("absent.pem", "absent.pem': No such file"), ("later.pem", "later.pem': ")):
        refused = CliRunner().invoke(cli, ["wait", url, "--ca", str(tmp_path / name), "--timeout", "0"])
        assert refused.exit_code == 1
        assert said in refused.output
    waiting = subprocess.Popen([*COMMAND, "wait", url, "--ca", str(tmp_path / "absent.pem")], env=clean_environment())
    (tmp_path / "absent.pem").write_text(Path(shared.variables["CREDITS_CA_FILE"]).read_text())
    assert waiting.wait(LIMIT_S) == 0


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_it_and_its_ca_goes_whatever_clients_did(start: Start, number: int, code: int) -> None:
    started = start("serve", "--tls", "--log", "off")
    ca, port = Path(started.variables["CREDITS_CA_FILE"]), int(started.variables["CREDITS_BASE_URL"].rpartition(":")[2])
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        socket.create_connection(("127.0.0.1", port)) as silent,
        socket.create_connection(("127.0.0.1", port)) as distrustful,
    ):
        plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        silent.sendall(b"\x16")
        with pytest.raises(ssl.SSLCertVerificationError):
            ssl.create_default_context().wrap_socket(distrustful, server_hostname="localhost")
        assert started.end(number) == code
    assert started.err == ""
    assert not ca.exists()
    assert not ca.parent.exists()


@pytest.mark.slow
def test_the_ca_is_written_where_it_is_told_and_another_servers_is_left_alone(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text(issue_certificate().ca_pem)  # a killed server's
    started = start("serve", "--tls", "--tls-ca", str(file))
    assert started.variables["CREDITS_CA_FILE"] == str(file)
    assert CliRunner().invoke(cli, ["wait", started.variables["CREDITS_BASE_URL"], "--ca", str(file)]).exit_code == 0
    others = issue_certificate().ca_pem
    file.write_text(others)
    assert started.end() == 0
    assert file.read_text() == others


def test_a_file_that_is_no_ca_of_ours_is_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "ca-certificates.crt"
    file.write_text("the system's")
    refused = CliRunner().invoke(cli, ["serve", "--port", "0", "--tls", "--tls-ca", str(file)])
    assert refused.exit_code == 2
    assert "is there already and is no CA of ours: it is left alone" in " ".join(refused.output.split())
    assert file.read_text() == "the system's"


@pytest.mark.slow
def test_given_files_are_shown_and_their_names_are_answered_to(start: Start, tmp_path: Path) -> None:
    """A certificate of mkcert, say."""
    issued = issue_certificate(["dev.example"])
    for name, text in (("cert", issued.certificate_pem), ("key", issued.key_pem), ("ca", issued.ca_pem)):
        (tmp_path / name).write_text(text)
    started = start("serve", "--tls-cert", str(tmp_path / "cert"), "--tls-key", str(tmp_path / "key"), "--balance", "5")
    url = started.variables["CREDITS_BASE_URL"]
    assert "CREDITS_CA_FILE" not in started.variables
    assert url.startswith("https://127.0.0.1:")
    client = ssl.create_default_context(cafile=str(tmp_path / "ca"))
    with (
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as plain,
        client.wrap_socket(plain, server_hostname="dev.example") as connection,
    ):
        connection.sendall(b"GET /_fake/readyz HTTP/1.1\r\nHost: dev.example\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.slow
def test_the_base_url_has_a_name_that_a_given_certificate_is_for(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    server = authority.issue_cert("localhost")
    server.cert_chain_pems[0].write_to_path(tmp_path / "cert")
    server.private_key_pem.write_to_path(tmp_path / "key")
    authority.cert_pem.write_to_path(tmp_path / "ca")
    started = start("serve", "--tls-cert", str(tmp_path / "cert"), "--tls-key", str(tmp_path / "key"), "--balance", "5")
    url = started.variables["CREDITS_BASE_URL"]
    assert url.startswith("https://localhost:")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca"))
    with ServerClient(url, started.variables["CREDITS_API_KEY"]) as client:
        assert client.get_balance("app-id", "user-id").balance == 5


def test_files_that_do_not_belong_together_are_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "cert").write_text(issue_certificate().certificate_pem)
    (tmp_path / "key").write_text(issue_certificate().key_pem)
    given = ["--tls-cert", str(tmp_path / "cert"), "--tls-key", str(tmp_path / "key")]
    for command in (["serve", "--port", "0", *given], ["run", *given, "true"]):
        refused = CliRunner().invoke(cli, command)
        assert refused.exit_code == 2
        assert "the key is another certificate's" in " ".join(refused.output.split())
