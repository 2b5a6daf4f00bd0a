"""Flags: each has a rule that its refusal names, and a twin in the environment; help loads no server."""

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from fake_credits.cli.flags import Flag, list_flags
from fake_credits.cli.main import cli
from fake_credits.cli.params import ENV_PLACEHOLDERS
from fake_credits.faults.scenarios import FAULT_PRESETS
from fake_credits.sandbox import Sandbox
from fake_credits.sandbox_options import SandboxOptions
from fake_credits.tokens.keys import SigningKeys, new_private_pem
from fake_credits.tokens.providers import AUTH_PROVIDERS
from fake_credits.transports.environment import env_variables
from tests.cli.conftest import LIMIT_S, clean_environment

SAMPLES = {
    "--seed": "7",
    "--api-key": "my-key",
    "--application-id": "shop",
    "--user-id": "ada",
    "--balance": "100",
    "--user": "bob=5",
    "--world": "demo",
    "--scenario": "flaky",
    "--latency": "lognormal(20, 200)",
    "--auth-provider": "clerk",
    "--contract": "contract.toml",
    "--trust": "https://dev.example/=jwks.json",
    "--key-file": "keys.pem",
    "--cors-origin": "https://app.example",
    "--keep-header": "X-Tenant",
    "--control-token": "my-token",
    "--sandbox-limit": "5",
    "--log": "json",
    "--host": "::1",
    "--port": "0",
    "--expose": "1",
    "--allow-host": "credits",
    "--ready-file": "ready",
    "--env": "API_URL={base_url}/v1",
    "--grace": "0.5",
    "--bad": "expired",
    "--expires-in": "60",
    "--timeout": "3",
    "--tls": "1",
    "--tls-ca": "ca.pem",
    "--tls-cert": "contract.toml",
    "--tls-key": "jwks.json",
    "--ca": "ca.pem",
    "--profile": "tiny",
    "--out": "world.json",
    "--url": "http://127.0.0.1:8402",
    "--concurrency": "3",
    "--dry-run": "1",
    "--yes": "1",
    "--json": "1",
    "--quiet": "1",
}
ARGUMENTS: dict[str, list[str]] = {
    "serve": [],
    "run": ["true"],
    "token": ["ada"],
    "wait": ["http://127.0.0.1:1"],
    "openapi": [],
    "seed": [],
}
SWITCHES = ("--expose", "--tls", "--dry-run", "--yes", "--json", "--quiet")


@pytest.mark.parametrize("flag", list_flags(cli), ids=str)
def test_every_flag_has_a_twin_in_the_environment_that_says_the_same(
    flag: Flag, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("contract.toml", "jwks.json"):
        (tmp_path / name).touch()
    assert flag.variable == "FAKE_CREDITS_" + flag.flag.removeprefix("--").upper().replace("-", "_")
    sample, rest, command = SAMPLES[flag.flag], ARGUMENTS[flag.command], cli.commands[flag.command]
    given = [flag.flag] if flag.flag in SWITCHES else [flag.flag, sample]
    by_flag = command.make_context(flag.command, [*given, *rest]).params
    by_default = command.make_context(flag.command, [*rest]).params
    monkeypatch.setenv(flag.variable, sample)
    assert command.make_context(flag.command, [*rest]).params == by_flag != by_default


VALUES = {
    "scenario": ('"my day.toml" slow', ("my day.toml", "slow")),
    "two in either quotes": ("'my day.toml'\n  \"my day.toml\"", ("my day.toml", "my day.toml")),
    "nothing but blanks": ("  ", ()),
    "a backslash": ("days\\bad.toml", ("days\\bad.toml",)),
}


@pytest.mark.parametrize(("told", "values"), VALUES.values(), ids=VALUES)
def test_a_variable_holds_several_values_and_quotes_those_with_a_blank(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told: str, values: tuple[str, ...]
) -> None:
    """A backslash is one: paths of Windows have them."""
    monkeypatch.chdir(tmp_path)
    for name in ("my day.toml", "days\\bad.toml"):
        (tmp_path / name).write_text('preset = "flaky"')
    monkeypatch.setenv("FAKE_CREDITS_SCENARIO", told)
    assert cli.commands["serve"].make_context("serve", []).params["scenarios"] == values


def test_every_repeatable_flag_s_variable_reads_quotes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_CREDITS_ENV", """GREETING="hello world" 'PORT={base_url} /' A=b""")
    params = cli.commands["run"].make_context("run", ["true"]).params
    assert params["env"] == (("GREETING", "hello world"), ("PORT", "{base_url} /"), ("A", "b"))


def test_a_quote_that_stays_open_is_refused_by_the_variable_s_name() -> None:
    got = CliRunner().invoke(cli, ["serve"], env={"FAKE_CREDITS_SCENARIO": "ada's.toml"})
    assert got.exit_code == 2
    assert "FAKE_CREDITS_SCENARIO" in got.output
    assert (
        '"ada\'s.toml" has a quote that nothing closes: a value with a blank or a quote stands in quotes' in got.output
    )


def test_every_flag_has_help_and_a_sample_here() -> None:
    flags = list_flags(cli)
    assert {flag.flag for flag in flags} == set(SAMPLES)
    assert all(flag.help.endswith(".") for flag in flags)


def test_a_header_that_carries_a_credential_is_not_kept() -> None:
    refused = CliRunner().invoke(cli, ["run", "--keep-header", "X-API-Key", "--", "true"])
    assert refused.exit_code == 2
    assert "keep_headers has 'X-API-Key', which carries a credential" in refused.output


def test_the_help_names_every_preset_of_faults() -> None:
    (explains,) = {flag.help for flag in list_flags(cli) if flag.flag == "--scenario"}
    assert all(name in explains for name in FAULT_PRESETS)


def test_the_help_names_every_preset_of_a_token() -> None:
    (explains,) = {flag.help for flag in list_flags(cli) if flag.flag == "--auth-provider"}
    assert all(name in explains for name in AUTH_PROVIDERS)


def test_each_variable_that_run_sets_can_be_filled_in_elsewhere() -> None:
    variables = env_variables(Sandbox(SandboxOptions(), SigningKeys()), "http://h")
    assert tuple(name.removeprefix("CREDITS_").lower() for name in variables) == ENV_PLACEHOLDERS


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "--port", "65536"], "--port.*65536.*0<=x<=65535"),
        (["serve", "--port", "http"], "--port.*'http' is not a valid integer"),
        (["serve", "--api-key", ""], "--api-key.*'' is no API key.*1 to 256 visible ASCII"),
        (["serve", "--api-key", "a\r\nb"], r"--api-key.*'a\\r\\nb' is no API key"),
        (["serve", "--api-key", "é"], "--api-key.*visible ASCII"),
        (["serve", "--api-key", "k" * 257], "--api-key.*1 to 256"),
        (["serve", "--scenario", "flakey"], "--scenario.*'flakey' can't be: there is no preset 'flakey': choose flaky"),
        (["run", "--scenario", "no.toml", "--", "true"], "--scenario.*no.toml: can't be read: No such file"),
        (["serve", "--latency", "60001"], "--latency.*'60001' can't be: latency is '60001': ms is 60001.0: it must be"),
        (["serve", "--latency", "slow"], "--latency.*give milliseconds, 'fixed"),
        (["serve", "--auth-provider", "clrk"], "--auth-provider.*'clrk' is unknown: did you mean 'clerk'"),
        (["serve", "--auth-provider", "x"], r"--auth-provider.*'x' is unknown \(there are plain"),
        (["serve", "--ready-file", "nowhere/ready"], "--ready-file.*no folder 'nowhere'"),
        (["serve", "--ready-file", "."], "--ready-file.*is a folder"),
        (["serve", "--ready-file", ""], "--ready-file.*'' is no file"),
        (["serve", "--key-file", "nowhere/keys"], "--key-file.*no folder 'nowhere'"),
        (["serve", "--host", "http://localhost"], "--host.*without scheme and port"),
        (["serve", "--host", "0.0.0.0", "--port", "0"], "--host 0.0.0.0 is beyond loopback.*--expose"),  # noqa: S104
        (["serve", "--allow-host", "credits:8402"], "--allow-host.*without scheme and port"),
        (["serve", "--cors-origin", "https://app.example/"], "--cors-origin.*https://app.example/.*is no origin"),
        (["serve", "--log", "xml"], "--log.*'xml' is not one of 'text', 'json', 'off'"),
        (["serve", "--balance", "-1"], "--balance.*-1 is not in the range"),
        (["serve", "--world", "dmo"], "--world: there is no world 'dmo', and no file: did you mean 'demo'"),
        (["run", "--world", "gone.json", "true"], "--world: there is no world 'gone.json', and no file"),
        (["run", "--world", ".", "true"], r"--world: the world '.' is a folder \(there are tiny"),
        (["run", "--contract", __file__, "true"], r"--contract: .*test_usage\.py: is no TOML"),
        (
            ["run", "--trust", f"https://x={__file__}", "true"],
            r"trust of 'https://x': .*test_usage\.py: is neither PEM",
        ),
        (["run", "--contract", ".", "true"], "--contract.*'.' is a folder: give a file"),
        (["run", "--world", "", "true"], "--world.*'' is no world: give a name or a file"),
        (["run", "--user", "ada=1", "--user", "ada=2", "true"], "--user 'ada' is given 2 times"),
        (
            ["run", "--user", "user-id=5", "--balance", "7", "true"],
            r"--balance and --user: balance=7 and users=\{'user-id': 5\} contradict each other",
        ),
        (["serve", "--user", "ada"], "--user.*'ada' is not NAME=BALANCE"),
        (["serve", "--user", "ada=-1"], "--user.*a balance of 0 to"),
        (["serve", "--user", "a\nb=1"], "--user.*control characters"),
        (["serve", "--user-id", ".."], "--user-id.*not '.' or '..'"),
        (["serve", "--application-id", ""], "--application-id.*1 to 256 characters"),
        (["serve", "--prot", "1"], "No such option.*--prot.*--port"),
        (["serve", "extra"], "unexpected extra argument"),
        (["run"], "Missing argument 'COMMAND"),
        (["run", "--env", "URL={url}", "true"], "--env.*unknown placeholder {url}: there are {base_url}"),
        (["run", "--env", "URL={base_url!r}", "true"], "--env.*unknown placeholder"),
        (["run", "--env", "URL={", "true"], "--env"),
        (["run", "--env", "A-B=1", "true"], "--env.*is not NAME=TEXT"),
        (["run", "--grace", "-1", "true"], "--grace.*-1"),
        (["token", "ada"], "--key-file is missing"),
        (["token", "", "--key-file", "keys"], "USER.*is no id"),
        (["token", "ada", "--bad", "expird"], "--bad.*did you mean 'expired'"),
        (["token", "ada", "--bad", "x"], r"--bad.*'x' is unknown \(there are"),
        (
            ["token", "ada", "--key-file", "keys", "--bad", "expired", "--expires-in", "5"],
            "--expires-in 5 has no effect",
        ),
        (["token", "ada", "--expires-in", "0"], "--expires-in.*0 is not in the range"),
        (["wait", "localhost:8402"], "URL.*is no URL of a server"),
        (["wait", "http://h:99999"], "URL.*Port out of range"),
        (["wait", "http://h", "--timeout", "soon"], "--timeout.*'soon'"),
        (["wait", "http://h", "--ca", ""], "--ca.*is no file"),
        (["serve", "--tls-cert", "nowhere.pem"], "--tls-cert.*is no file that is there"),
        (["run", "--tls-key", __file__, "true"], "--tls-cert and --tls-key belong together: give both or neither"),
        (["run", "--tls-ca", "ca.pem", "true"], "--tls-ca is where the CA of --tls is written: it needs --tls"),
        (
            ["run", "--tls", "--tls-ca", "ca.pem", "--tls-cert", __file__, "--tls-key", __file__, "true"],
            "it needs --tls, and no --tls-cert",
        ),
        (["run", "--tls-cert", __file__, "--tls-key", __file__, "true"], "--tls-cert.*--tls-key.*no PEM of these"),
        (["serve", "--port", "0", "--tls", "--tls-ca", "nowhere/ca.pem"], "--tls-ca.*no folder 'nowhere'"),
        (["sreve"], "No such command 'sreve'"),
    ],
)
def test_a_mistake_ends_with_2_and_names_flag_value_and_rule(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 2
    assert re.search(said, " ".join(result.output.split())), result.output
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_in_the_environment_is_refused_as_its_flag_is() -> None:
    result = CliRunner().invoke(cli, ["serve"], env={"FAKE_CREDITS_PORT": "99999"})
    assert result.exit_code == 2
    assert "--port" in result.output  # click 8.2 and later name the variable too
    assert "99999" in result.output


def refusal_of_keys(file: Path, text: str) -> str:
    """Return what is said of a key file with a text, which stays as it is."""
    file.write_text(text)
    told = [
        CliRunner().invoke(cli, words)
        for words in (["token", "ada", "--key-file", str(file)], ["run", "--key-file", str(file), "true"])
    ]
    assert [result.exit_code for result in told] == [2, 2]
    assert file.read_text() == text
    return " ".join(told[0].output.split())


def test_a_file_without_whole_keys_is_refused_by_name(tmp_path: Path) -> None:
    """Keys of its own would make `token` mint what no server knows."""
    for text in ("", "no key"):
        said = refusal_of_keys(tmp_path / "keys.pem", text)
        assert "keys.pem' holds no signing keys: there is no private key in PEM" in said
    said = refusal_of_keys(tmp_path / "keys.pem", new_private_pem()[:300])
    assert "keys.pem' holds no signing keys: there is a private key in PEM (RFC 7468) in it that is cut off" in said


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"]])
def test_help_loads_neither_server_nor_cryptography(arguments: list[str]) -> None:
    code = (
        f"import sys; sys.argv[1:] = {arguments}\n"
        "from fake_credits.cli import main\n"
        "try: main()\n"
        "finally:\n"
        "    heavy = ('starlette', 'uvicorn', 'uvloop', 'jwt', 'cryptography', 'httpx2', 'asyncio', 'msgspec')\n"
        "    print('LOADED', [name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage:" in done.stdout
    assert "LOADED []" in done.stdout


def test_a_mistake_and_an_interrupt_leave_no_traceback() -> None:
    code = (
        "import sys, signal, os; sys.argv[1:] = ['wait', 'http://127.0.0.1:1']\n"
        "from fake_credits.cli import wait\n"
        "wait.readiness_problem = lambda *_: os.kill(os.getpid(), signal.SIGINT) or 'no'\n"
        "from fake_credits.cli import main\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_disk_behind_stdout_is_told_in_a_line() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fake_credits", "openapi"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "Error: stdout can't be written: No space left on device\n")


@pytest.mark.parametrize(("command", "module"), [("serve --port 0", "serve"), ("run sleep 60", "run")])
def test_an_interrupt_that_an_import_would_swallow_ends_the_command(command: str, module: str) -> None:
    """Python drops a KeyboardInterrupt in a weak reference's callback, as importlib has one for each lock."""
    code = (
        f"import sys, signal, os, weakref; sys.argv[1:] = {command.split()}\n"
        "class Lock: pass\n"
        "class Finder:\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == 'fake_credits.cli.{module}':\n"
        "            lock = Lock()\n"
        "            ended = weakref.ref(lock, lambda _: os.kill(os.getpid(), signal.SIGINT))\n"
        "            del lock\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from fake_credits.cli import main\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_the_version_is_the_packages_own() -> None:
    from importlib.metadata import version

    done = subprocess.run(
        [sys.executable, "-m", "fake_credits", "--version"],
        capture_output=True,
        text=True,
        check=True,
        env=clean_environment(),
    )
    assert done.stdout.strip() == version("fake-credits")


def test_commands_are_listed_with_a_sentence_each() -> None:
    assert set(cli.commands) >= {"serve", "run", "token", "wait"}
    assert all(isinstance(command, click.Command) and command.help for command in cli.commands.values())


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "soon"])
def test_a_limit_that_is_no_duration_is_refused(text: str) -> None:
    refused = CliRunner().invoke(cli, ["wait", "http://127.0.0.1:1", "--timeout", text])
    assert refused.exit_code == 2
    assert "'--timeout'" in refused.output
    assert f"{text!r} is no number of seconds" in refused.output
