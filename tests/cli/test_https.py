"""Test `--tls`: certificates for `run` and `serve`, CA bundles for the child command, and their removal."""

import errno
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
from tests.cli.conftest import COMMAND, LIMIT_S, CliProcess, clean_environment

Start = Callable[..., CliProcess]
CA_VARIABLES = ("NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")

PYTHON_CLIENT = """
import os, sys, {library}
url = os.environ["CREDITS_BASE_URL"] + "/v1/applications/app-id/users/user-id/balance"
print({library}.get(url, headers={{"X-API-Key": os.environ["CREDITS_API_KEY"]}}).text)
"""
NODE_CLIENT = """
const { CREDITS_BASE_URL: base, CREDITS_API_KEY: key } = process.env
const answer = await fetch(`${base}/v1/applications/app-id/users/user-id/balance`, { headers: { "X-API-Key": key } })
console.log(await answer.text())
"""
SHELL_CLIENT = (
    'curl -sS -H "X-API-Key: $CREDITS_API_KEY" "$CREDITS_BASE_URL/v1/applications/app-id/users/user-id/balance"'
)
CLIENTS = {
    "fetch": ("node", "--input-type=module", "-e", NODE_CLIENT),
    "requests": (sys.executable, "-c", PYTHON_CLIENT.format(library="requests")),
    "httpx2": (sys.executable, "-c", PYTHON_CLIENT.format(library="httpx2")),
    "curl": ("sh", "-c", SHELL_CLIENT),
}


def run(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run ``fake-credits run --tls`` to completion, without inherited CA variables."""
    inherited = clean_environment(**variables)
    env = {name: text for name, text in inherited.items() if name not in CA_VARIABLES or name in variables}
    return subprocess.run(
        [*COMMAND, "run", "--tls", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
        env=env,
    )


@pytest.mark.parametrize(
    "client", [pytest.param(name, marks=[] if name == "requests" else [pytest.mark.slow]) for name in CLIENTS]
)
def test_client_started_by_run_trusts_the_certificate(client: str) -> None:
    program = {"fetch": "node"}.get(client, client)
    if program in ("node", "curl") and shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    result = run("--balance", "90", "--", *CLIENTS[client])
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout) == {"balance": 90}


@pytest.mark.slow
def test_run_tls_sets_https_urls_and_removes_its_files() -> None:
    code = (
        "import json, os, urllib.request as r; e = os.environ; u = e['CREDITS_BASE_URL']\n"
        "discovered = json.load(r.urlopen(u + '/.well-known/openid-configuration'))['jwks_uri']\n"
        f"names = ('CREDITS_CA_FILE', *{CA_VARIABLES})\n"
        "print(json.dumps([u, e['CREDITS_JWKS_URL'], discovered, [e[n] for n in names if n in e]]))\n"
        "raise SystemExit(3)"
    )
    result = run("--", sys.executable, "-c", code)
    assert (result.returncode, result.stderr) == (3, "")
    url, jwks, discovered, files = json.loads(result.stdout)
    assert url.startswith("https://127.0.0.1:")
    assert jwks == discovered == url + "/.well-known/jwks.json"
    assert len(files) == 4
    assert not any(Path(file).exists() or Path(file).parent.exists() for file in files)


@pytest.mark.slow
@pytest.mark.parametrize("command", [["run", "--tls", "true"], ["serve", "--tls", "--port", "0"]])
def test_missing_temporary_folder_prints_an_error(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def no_folder(**_: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr("tempfile.TemporaryDirectory", no_folder)
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 1
    assert result.output == (
        "Error: --tls needs a writable temporary folder: No usable temporary directory found in ['/tmp']; "
        "set TMPDIR to another one\n"
    )


def test_full_temporary_folder_prints_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", no_space)
    result = CliRunner().invoke(cli, ["run", "--tls", "true"])
    assert result.exit_code == 1
    assert "--tls needs a writable temporary folder: No space left on device" in result.output


def test_env_flag_overrides_the_ca_variables() -> None:
    result = run("--env", "SSL_CERT_FILE=mine", "--", "sh", "-c", 'printf %s "$SSL_CERT_FILE"')
    assert result.stdout == "mine"


@pytest.fixture(scope="module")
def user_certificate() -> str:
    """Return a certificate that the user already trusts."""
    return issue_certificate().ca_pem.removeprefix(CA_FILE_COMMENT)


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    """Return the path to the server's CA file."""
    file = tmp_path / "ca.pem"
    file.write_text(issue_certificate().ca_pem)
    return file


def read_bundles(variables: dict[str, str]) -> dict[str, str]:
    return {name: Path(file).read_text() for name, file in variables.items()}


def test_certificates_in_existing_ca_variables_stay_trusted(ca: Path, user_certificate: str, tmp_path: Path) -> None:
    (tmp_path / "user.pem").write_text(f"a comment\n{user_certificate}{user_certificate}")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "0a1b2c3d.0").write_text(user_certificate)
    (tmp_path / "folder" / "README").write_text(issue_certificate().ca_pem)
    variables_before = {
        name: str(tmp_path / "user.pem") for name in ("NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "CURL_CA_BUNDLE")
    }
    with trust_env(ca, {**variables_before, "REQUESTS_CA_BUNDLE": str(tmp_path / "folder")}) as variables:
        bundles = read_bundles(variables)
    server_ca = ca.read_text().removeprefix(CA_FILE_COMMENT)
    assert bundles == dict.fromkeys((*variables_before, "REQUESTS_CA_BUNDLE"), user_certificate + server_ca)


def test_requests_bundle_falls_back_to_curl_ca_bundle(ca: Path, user_certificate: str, tmp_path: Path) -> None:
    (tmp_path / "user.pem").write_text(user_certificate)
    with trust_env(ca, {"CURL_CA_BUNDLE": str(tmp_path / "user.pem")}) as variables:
        assert read_bundles(variables)["REQUESTS_CA_BUNDLE"] == user_certificate + ca.read_text().removeprefix(
            CA_FILE_COMMENT
        )


@pytest.mark.skipif(not ssl.create_default_context().get_ca_certs(), reason="no root certificates are installed")
def test_bundles_include_system_roots_except_for_node(ca: Path) -> None:
    with trust_env(ca, {}) as variables:
        counts = {name: text.count("BEGIN CERTIFICATE") for name, text in read_bundles(variables).items()}
    assert counts["NODE_EXTRA_CA_CERTS"] == 1
    assert counts["SSL_CERT_FILE"] == counts["REQUESTS_CA_BUNDLE"] > 20
    assert "CURL_CA_BUNDLE" not in counts


def test_missing_system_roots_print_a_warning(
    ca: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = ssl.DefaultVerifyPaths("", "", "", str(tmp_path / "cert.pem"), "", str(tmp_path / "certs"))
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: nowhere)
    with trust_env(ca, {}) as variables:
        assert set(read_bundles(variables).values()) == {ca.read_text().removeprefix(CA_FILE_COMMENT)}
    assert capsys.readouterr().err == (
        "Warning: --tls: no root certificates found, so the command trusts only this server\n"
    )


def test_missing_ca_variable_file_prints_a_warning(ca: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with trust_env(ca, {"NODE_EXTRA_CA_CERTS": "/nowhere.pem"}) as variables:
        assert read_bundles(variables)["NODE_EXTRA_CA_CERTS"] == ca.read_text().removeprefix(CA_FILE_COMMENT)
    message = "Warning: --tls: NODE_EXTRA_CA_CERTS '/nowhere.pem' can't be read: No such file or directory\n"
    assert capsys.readouterr().err == message


@pytest.fixture(scope="module")
def shared_server(start_for_module: Start) -> CliProcess:
    """Start one server for these tests."""
    return start_for_module("serve", "--tls", "--allow-host", "credits", "--balance", "5")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_printed_curl_command_works_over_https(shared_server: CliProcess) -> None:
    (line,) = re.findall(r"^  (curl .+)$", shared_server.out, re.MULTILINE)
    result = subprocess.run(["/bin/sh", "-c", f"{line} -sS"], capture_output=True, text=True, check=True)
    assert json.loads(result.stdout)["userId"] == "user-id"


def test_ready_file_names_a_world_readable_ca_file(shared_server: CliProcess) -> None:
    file = Path(shared_server.variables["CREDITS_CA_FILE"])
    assert file.is_absolute()
    assert file.read_text().startswith(CA_FILE_COMMENT)
    assert stat.S_IMODE(file.stat().st_mode) & 0o777 == 0o644 & ~_umask()
    assert [entry.name for entry in file.parent.iterdir()] == ["ca.pem"]


def _umask() -> int:
    result = subprocess.run(["sh", "-c", "umask"], capture_output=True, text=True, check=True)
    return int(result.stdout, 8)


def test_allowed_host_is_in_the_certificate(shared_server: CliProcess) -> None:
    client = ssl.create_default_context(cafile=shared_server.variables["CREDITS_CA_FILE"])
    port = int(shared_server.variables["CREDITS_BASE_URL"].rpartition(":")[2])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as plain,
        client.wrap_socket(plain, server_hostname="credits") as connection,
    ):
        connection.sendall(b"GET /_fake/livez HTTP/1.1\r\nHost: credits\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")


def test_wait_trusts_the_given_ca(shared_server: CliProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    url, ca = shared_server.variables["CREDITS_BASE_URL"], shared_server.variables["CREDITS_CA_FILE"]
    result = CliRunner().invoke(cli, ["wait", url, "--timeout", "0"])
    assert result.exit_code == 1
    assert "unable to get local issuer certificate" in result.output
    assert "to trust the server's CA, pass --ca FILE" in result.output
    assert CliRunner().invoke(cli, ["wait", url, "--ca", ca]).exit_code == 0
    monkeypatch.setenv("SSL_CERT_FILE", ca)
    assert CliRunner().invoke(cli, ["wait", url]).exit_code == 0


def test_wait_retries_until_the_ca_file_exists(shared_server: CliProcess, tmp_path: Path) -> None:
    url = shared_server.variables["CREDITS_BASE_URL"]
    (tmp_path / "later.pem").write_text("no certificate")
    for name, message in (("absent.pem", "absent.pem': No such file"), ("later.pem", "later.pem': ")):
        result = CliRunner().invoke(cli, ["wait", url, "--ca", str(tmp_path / name), "--timeout", "0"])
        assert result.exit_code == 1
        assert message in result.output
    process = subprocess.Popen([*COMMAND, "wait", url, "--ca", str(tmp_path / "absent.pem")], env=clean_environment())
    (tmp_path / "absent.pem").write_text(Path(shared_server.variables["CREDITS_CA_FILE"]).read_text())
    assert process.wait(LIMIT_S) == 0


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_signal_stops_tls_server_and_removes_its_ca(start: Start, number: int, code: int) -> None:
    cli_process = start("serve", "--tls", "--log", "off")
    ca, port = (
        Path(cli_process.variables["CREDITS_CA_FILE"]),
        int(cli_process.variables["CREDITS_BASE_URL"].rpartition(":")[2]),
    )
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        socket.create_connection(("127.0.0.1", port)) as silent,
        socket.create_connection(("127.0.0.1", port)) as untrusting,
    ):
        plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        silent.sendall(b"\x16")
        with pytest.raises(ssl.SSLCertVerificationError):
            ssl.create_default_context().wrap_socket(untrusting, server_hostname="localhost")
        assert cli_process.stop(number) == code
    assert cli_process.err == ""
    assert not ca.exists()
    assert not ca.parent.exists()


@pytest.mark.slow
def test_tls_ca_file_is_written_and_kept_if_replaced_by_another_server(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text(issue_certificate().ca_pem)  # left by a killed server
    cli_process = start("serve", "--tls", "--tls-ca", str(file))
    assert cli_process.variables["CREDITS_CA_FILE"] == str(file)
    assert (
        CliRunner().invoke(cli, ["wait", cli_process.variables["CREDITS_BASE_URL"], "--ca", str(file)]).exit_code == 0
    )
    other_ca = issue_certificate().ca_pem
    file.write_text(other_ca)
    assert cli_process.stop() == 0
    assert file.read_text() == other_ca


def test_tls_ca_never_overwrites_a_foreign_file(tmp_path: Path) -> None:
    file = tmp_path / "ca-certificates.crt"
    file.write_text("the system's")
    result = CliRunner().invoke(cli, ["serve", "--port", "0", "--tls", "--tls-ca", str(file)])
    assert result.exit_code == 2
    assert "exists and was not created by fake-credits; choose another file" in " ".join(result.output.split())
    assert file.read_text() == "the system's"


@pytest.mark.slow
def test_given_certificate_is_used_and_its_hosts_are_allowed(start: Start, tmp_path: Path) -> None:
    """This is how a certificate from mkcert is used."""
    issued = issue_certificate(["dev.example"])
    for name, text in (("cert", issued.certificate_pem), ("key", issued.key_pem), ("ca", issued.ca_pem)):
        (tmp_path / name).write_text(text)
    cli_process = start(
        "serve", "--tls-cert", str(tmp_path / "cert"), "--tls-key", str(tmp_path / "key"), "--balance", "5"
    )
    url = cli_process.variables["CREDITS_BASE_URL"]
    assert "CREDITS_CA_FILE" not in cli_process.variables
    assert url.startswith("https://127.0.0.1:")
    client = ssl.create_default_context(cafile=str(tmp_path / "ca"))
    with (
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as plain,
        client.wrap_socket(plain, server_hostname="dev.example") as connection,
    ):
        connection.sendall(b"GET /_fake/livez HTTP/1.1\r\nHost: dev.example\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.slow
def test_base_url_uses_a_host_name_of_the_given_certificate(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    server = authority.issue_cert("localhost")
    server.cert_chain_pems[0].write_to_path(tmp_path / "cert")
    server.private_key_pem.write_to_path(tmp_path / "key")
    authority.cert_pem.write_to_path(tmp_path / "ca")
    cli_process = start(
        "serve", "--tls-cert", str(tmp_path / "cert"), "--tls-key", str(tmp_path / "key"), "--balance", "5"
    )
    url = cli_process.variables["CREDITS_BASE_URL"]
    assert url.startswith("https://localhost:")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca"))
    with ServerClient(url, cli_process.variables["CREDITS_API_KEY"]) as client:
        assert client.get_balance("app-id", "user-id").balance == 5


def test_mismatched_certificate_and_key_are_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "cert").write_text(issue_certificate().certificate_pem)
    (tmp_path / "key").write_text(issue_certificate().key_pem)
    options = ["--tls-cert", str(tmp_path / "cert"), "--tls-key", str(tmp_path / "key")]
    for command in (["serve", "--port", "0", *options], ["run", *options, "true"]):
        result = CliRunner().invoke(cli, command)
        assert result.exit_code == 2
        assert "key and certificate do not match" in " ".join(result.output.split())


JAVA_CLIENT = """
import java.net.URI;
import java.net.http.*;

public class Balance {
    public static void main(String[] arguments) throws Exception {
        var path = "/v1/applications/app-id/users/user-id/balance";
        var uri = URI.create(System.getenv("CREDITS_BASE_URL") + path);
        var request = HttpRequest.newBuilder(uri).header("X-API-Key", System.getenv("CREDITS_API_KEY")).build();
        System.out.println(HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString()).body());
    }
}
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("keytool") is None, reason="Java is not installed")
def test_java_trusts_the_certificate_with_the_script_in_the_docs(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "examples" / "https" / "trust-java.sh"
    client = tmp_path / "Balance.java"
    client.write_text(JAVA_CLIENT)
    result = run("--balance", "90", "--", "sh", str(script), "java", str(client), TMPDIR=str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert result.stdout == '{"balance":90}\n'
    assert list(tmp_path.iterdir()) == [client]


PHP_CLIENT = """
$url = getenv("CREDITS_BASE_URL") . "/_fake/livez";
$request = curl_init($url);
curl_setopt($request, CURLOPT_RETURNTRANSFER, true);
echo json_encode([@file_get_contents($url), curl_exec($request)]);
"""


@pytest.mark.skipif(shutil.which("php") is None, reason="PHP is not installed")
def test_php_needs_a_setting_for_curl_but_not_for_streams() -> None:
    """This is documented in docs/how-to/https.md."""
    health = '{"status":"ok"}'
    assert json.loads(run("--", "php", "-r", PHP_CLIENT).stdout) == [health, False]
    with_setting = run("--", "sh", "-c", 'php -d curl.cainfo="$SSL_CERT_FILE" -r "$1"', "sh", PHP_CLIENT)
    assert json.loads(with_setting.stdout) == [health, health]
