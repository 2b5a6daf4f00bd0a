"""Command-line flags: environment variables, help and usage errors."""

import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from fake_credits.cli.flags import RunFlags, SeedFlags, ServeFlags, TokenFlags, writable_file
from fake_credits.cli.main import cli
from fake_credits.cli.parameters import FlagCommand, FlagOption, options_from
from fake_credits.faults.scenarios import FAULT_PRESETS
from fake_credits.sandbox import Sandbox
from fake_credits.sandbox_options import SandboxOptions
from fake_credits.tokens.keys import SigningKeys, new_private_pem
from fake_credits.tokens.minting import AUTH_PROVIDERS
from fake_credits.transports.environment import ENV_VALUE_NAMES, env_variables
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
    "--issuer": "https://issuer.example",
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
    "--what": "lost_after,refused",
    "--depth": "3",
    "--budget": "10",
    "--strict": "1",
    "--schedule": "2:lost_after",
    "--selftest": "1",
    "--jobs": "4",
    "--run-timeout": "30",
    "--format": "markdown",
    "--report": "report.xml",
}
ARGUMENTS: dict[str, list[str]] = {
    "serve": [],
    "run": ["true"],
    "explore": ["true"],
    "token": ["ada"],
    "wait": ["http://127.0.0.1:1"],
    "openapi": [],
    "seed": [],
}
SWITCHES = ("--expose", "--tls", "--dry-run", "--yes", "--json", "--quiet", "--strict", "--selftest")
EXPLORE_FLAGS = ("--what", "--depth", "--budget", "--strict", "--selftest", "--jobs", "--format", "--report")


FLAGS = {
    f"{name} {flag.opts[0]}": (name, flag)
    for name, command in cli.commands.items()
    for flag in command.params
    if isinstance(flag, FlagOption)
}


@pytest.mark.parametrize(("name", "option"), FLAGS.values(), ids=FLAGS)
def test_every_flag_has_an_equivalent_environment_variable(
    name: str, option: click.Option, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "contract.toml").write_text("version = 1")
    (tmp_path / "jwks.json").write_text(json.dumps(SigningKeys().jwks()))
    flag, variable = option.opts[0], str(option.envvar)
    own_names = {"--url": "FAKE_CREDITS_SEED_URL"}  # `run` sets FAKE_CREDITS_URL for the control plane
    own_names |= {name: f"FAKE_CREDITS_EXPLORE_{name.removeprefix('--').upper()}" for name in EXPLORE_FLAGS}
    assert variable == own_names.get(flag, "FAKE_CREDITS_" + flag.removeprefix("--").upper().replace("-", "_"))
    sample, rest, command = SAMPLES[flag], ARGUMENTS[name], cli.commands[name]
    flag_arguments = [flag] if flag in SWITCHES else [flag, sample]
    by_flag = command.make_context(name, [*flag_arguments, *rest]).params
    by_default = command.make_context(name, [*rest]).params
    monkeypatch.setenv(variable, sample)
    assert command.make_context(name, [*rest]).params == by_flag != by_default


OVERRIDDEN_VARIABLES: dict[str, tuple[str, list[str], dict[str, str]]] = {
    "out": ("seed", ["--out", "w.json"], {"FAKE_CREDITS_SEED_URL": "http://127.0.0.1:1"}),
    "url": ("seed", ["--url", "http://127.0.0.1:1", "--api-key", "k"], {"FAKE_CREDITS_OUT": "w.json"}),
    "json": ("seed", ["--json"], {"FAKE_CREDITS_QUIET": "1"}),
    "quiet": ("seed", ["--quiet"], {"FAKE_CREDITS_JSON": "1"}),
    "tls ca": ("run", ["--tls-ca", "ca.pem"], {"FAKE_CREDITS_TLS_CERT": __file__, "FAKE_CREDITS_TLS_KEY": __file__}),
    "tls cert": ("run", ["--tls-cert", __file__], {"FAKE_CREDITS_TLS_CA": "ca.pem"}),
    "bad": ("token", ["--bad", "expired"], {"FAKE_CREDITS_EXPIRES_IN": "5"}),
    "expires in": ("token", ["--expires-in", "5"], {"FAKE_CREDITS_BAD": "expired"}),
    "user": ("serve", ["--user", "user-id=5"], {"FAKE_CREDITS_BALANCE": "7"}),
}


@pytest.mark.parametrize(("name", "arguments", "variables"), OVERRIDDEN_VARIABLES.values(), ids=OVERRIDDEN_VARIABLES)
def test_flag_overrides_variables_that_contradict_it(
    name: str, arguments: list[str], variables: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert vars(parse(name, *arguments, variables=variables)) == vars(parse(name, *arguments))


def test_balance_flag_overrides_only_the_default_users_balance() -> None:
    options = parse("serve", "--balance", "7", variables={"FAKE_CREDITS_USER": "ada=3 user-id=5"})
    assert (options.balance, options.users) == (7, (("ada", 3),))


def test_flag_for_another_user_keeps_the_balance_variable() -> None:
    options = parse("serve", "--user", "ada=3", variables={"FAKE_CREDITS_BALANCE": "7"})
    assert (options.balance, options.users) == (7, (("ada", 3),))


def parse(name: str, *arguments: str, variables: dict[str, str] | None = None) -> Any:
    """Return the flags that a command would run with."""
    parsed: list[object] = []

    @click.command(cls=FlagCommand)
    @options_from(FLAG_TYPES[name])
    def command(options: object) -> None:
        parsed.append(options)

    result = CliRunner().invoke(command, arguments, env=variables)
    assert result.exit_code == 0, result.output
    return parsed[0]


FLAG_TYPES = {"serve": ServeFlags, "run": RunFlags, "token": TokenFlags, "seed": SeedFlags}


def test_seed_inside_run_writes_its_file(tmp_path: Path) -> None:
    """`run` sets FAKE_CREDITS_URL for the control plane; `seed` must not take it as its target."""
    file = tmp_path / "world.json"
    seed = [sys.executable, "-m", "fake_credits", "seed", "--profile", "tiny", "--out", str(file)]
    result = subprocess.run(
        [sys.executable, "-m", "fake_credits", "run", "--", *seed],
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment(),
    )
    assert (result.returncode, file.exists()) == (0, True), result.stderr


@pytest.mark.parametrize("address", ["tcp://10.96.12.7:8402", "udp://[fd00::7]:8402"])
def test_kubernetes_service_address_is_not_used_as_a_port(address: str) -> None:
    assert parse("serve", variables={"FAKE_CREDITS_PORT": address}).port == 8402
    assert parse("serve", "--port", "5", variables={"FAKE_CREDITS_PORT": address}).port == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "the application id 'app-id' must match the contract's pattern .*--application-id"),
        (("--application-id", "7"), "the user id 'user-id' must match the contract's pattern .*--user-id"),
    ],
)
@pytest.mark.parametrize("command", ["serve", "run"])
def test_contract_that_rejects_the_default_ids_is_a_usage_error(
    command: str, arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    (tmp_path / "contract.toml").write_text('version = 1\nid_pattern = "[0-9]+"\n')
    flags = [command, "--contract", str(tmp_path / "contract.toml"), *arguments]
    result = CliRunner().invoke(cli, [*flags, "true"] if command == "run" else flags)
    assert result.exit_code == 2
    assert re.search(message, " ".join(result.output.split())), result.output


MULTIPLE_VALUES = {
    "scenario": ('"my day.toml" slow', ("my day.toml", "slow")),
    "two in either quotes": ("'my day.toml'\n  \"my day.toml\"", ("my day.toml", "my day.toml")),
    "nothing but blanks": ("  ", ()),
    "a backslash": ("days\\bad.toml", ("days\\bad.toml",)),
}


@pytest.mark.parametrize(("text", "values"), MULTIPLE_VALUES.values(), ids=MULTIPLE_VALUES)
def test_variable_holds_several_values_with_shell_quoting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, values: tuple[str, ...]
) -> None:
    """Backslashes are kept, because Windows paths contain them."""
    monkeypatch.chdir(tmp_path)
    for name in ("my day.toml", "days\\bad.toml"):
        (tmp_path / name).write_text('preset = "flaky"')
    monkeypatch.setenv("FAKE_CREDITS_SCENARIO", text)
    assert cli.commands["serve"].make_context("serve", []).params["scenarios"] == values


def test_env_variable_values_may_be_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_CREDITS_ENV", """GREETING="hello world" 'PORT={base_url} /' A=b""")
    params = cli.commands["run"].make_context("run", ["true"]).params
    assert params["env"] == (("GREETING", "hello world"), ("PORT", "{base_url} /"), ("A", "b"))


def test_unclosed_quote_in_a_variable_is_rejected() -> None:
    result = CliRunner().invoke(cli, ["serve"], env={"FAKE_CREDITS_SCENARIO": "ada's.toml"})
    assert result.exit_code == 2
    assert "--scenario" in result.output  # click 8.2 and later name the variable too
    assert "unclosed quote in the environment variable's value \"ada's.toml\"" in result.output


def test_every_flag_has_help_and_a_sample() -> None:
    assert {option.opts[0] for _, option in FLAGS.values()} == set(SAMPLES)
    assert {name for name, (_, option) in FLAGS.items() if not str(option.help).endswith(".")} == {"explore --scenario"}


def test_refused_flag_is_not_in_the_help() -> None:
    assert "--scenario" not in CliRunner().invoke(cli, ["explore", "--help"]).output


def test_keep_header_rejects_credential_headers() -> None:
    result = CliRunner().invoke(cli, ["run", "--keep-header", "X-API-Key", "--", "true"])
    assert result.exit_code == 2
    assert "--keep-header contains 'X-API-Key', which carries a credential" in result.output


def test_scenario_help_lists_every_fault_preset() -> None:
    help_text = str(FLAGS["serve --scenario"][1].help)
    assert all(name in help_text for name in FAULT_PRESETS)


def test_auth_provider_help_lists_every_provider() -> None:
    help_text = str(FLAGS["serve --auth-provider"][1].help)
    assert all(name in help_text for name in AUTH_PROVIDERS)


def test_every_run_variable_has_an_env_placeholder() -> None:
    variables = env_variables(Sandbox(SandboxOptions(), SigningKeys()), "http://h")
    assert tuple(name.removeprefix("CREDITS_").lower() for name in variables) == ENV_VALUE_NAMES


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serve", "--port", "65536"], "--port.*65536.*0<=x<=65535"),
        (["serve", "--port", "http"], "--port.*'http' is not a valid integer"),
        (["serve", "--api-key", ""], "'--api-key': the value must be 1 to 256 visible ASCII"),
        (["serve", "--control-token", "a b"], "'--control-token': the value must be 1 to 256 visible ASCII"),
        (["serve", "--api-key", "a\r\nb"], "--api-key.*visible ASCII characters without spaces"),
        (["serve", "--api-key", "é"], "--api-key.*visible ASCII"),
        (["serve", "--api-key", "k" * 257], "--api-key.*1 to 256"),
        (["serve", "--scenario", "flakey"], "--scenario.*unknown preset 'flakey': use flaky"),
        (["run", "--scenario", "no.toml", "--", "true"], "--scenario.*no.toml: the file can't be read: No such file"),
        (["serve", "--latency", "60001"], "--latency.*latency is '60001': ms is 60001.0: it must be"),
        (["serve", "--latency", "slow"], "--latency.*it must be a number of milliseconds, 'fixed"),
        (["serve", "--auth-provider", "clrk"], "--auth-provider.*'clrk' is not one of 'plain', 'clerk'"),
        (["serve", "--ready-file", "nowhere/ready"], "--ready-file.*folder 'nowhere' does not exist"),
        (["serve", "--ready-file", "."], "--ready-file.*is not a regular file"),
        (["serve", "--ready-file", ""], "--ready-file.*'' is not a regular file"),
        (["serve", "--key-file", "nowhere/keys"], "--key-file.*folder 'nowhere' does not exist"),
        (["serve", "--host", "http://localhost"], "--host.*omit any scheme or port"),
        (["serve", "--host", "0.0.0.0", "--port", "0"], "--host 0.0.0.0 is not a loopback address.*--expose"),  # noqa: S104
        (["serve", "--allow-host", "credits:8402"], "--allow-host.*omit any scheme or port"),
        (["serve", "--allow-host", "a:1"], "--allow-host.*'a:1' is not a host name"),
        (["serve", "--allow-host", "[::1"], "--allow-host.*is not a host name"),
        (["serve", "--host", "::1:8402:x"], "--host.*is not a host name"),
        (
            ["serve", "--cors-origin", "https://app.example/"],
            "Error: --cors-origin: 'https://app.example/' is not an origin",
        ),
        (["serve", "--log", "xml"], "--log.*'xml' is not one of 'text', 'json', 'off'"),
        (["serve", "--balance", "-1"], "--balance.*-1 is not in the range"),
        (
            ["serve", "--world", "dmo"],
            "--world: unknown world 'dmo', which is neither a profile nor a file: did you mean 'demo'",
        ),
        (["run", "--world", "gone.json", "true"], "--world: the world file 'gone.json' does not exist"),
        (
            ["run", "--world", ".", "true"],
            r"--world: unknown world '.', .* \(known: tiny",
        ),
        (["run", "--contract", __file__, "true"], r"--contract.*test_usage\.py: not valid TOML"),
        (
            ["run", "--trust", f"https://x={__file__}", "true"],
            r"'--trust': trusted issuer 'https://x': .*test_usage\.py: the file is neither PEM",
        ),
        (["run", "--trust", "a=b", "true"], "'--trust': trusted issuer 'a': b: the file can't be read: No such file"),
        (["run", "--contract", ".", "true"], "--contract.*can't be read: Is a directory"),
        (["run", "--world", "", "true"], "--world: unknown world ''"),
        (["run", "--user", "ada=1", "--user", "ada=2", "true"], "--user 'ada' appears 2 times: pass it once"),
        (
            ["run", "--user", "user-id=5", "--balance", "7", "true"],
            "--balance 7 and --user user-id=5 contradict each other: use only one of them",
        ),
        (["serve", "--keep-header", ""], "'--keep-header': a header name must not be empty"),
        (["serve", "--keep-header", "a b"], "Error: --keep-header contains 'a b', which is not a valid header name"),
        (
            ["serve", *(f"--keep-header=x-{number}" for number in range(32))],
            "Error: too many headers in --keep-header: 3[0-9], .*; the limit is 32",
        ),
        (["serve", "--user", "ada"], "--user.*'ada' does not have the form NAME=BALANCE"),
        (["serve", "--user", "ada=-1"], "--user.*-1 is not in the range 0<=x<="),
        (["serve", "--user", "a\nb=1"], "--user.*control characters"),
        (["serve", "--user-id", ".."], "--user-id.*must not be empty, '.' or '..'"),
        (["serve", "--application-id", ""], "--application-id.*must not be empty"),
        (["serve", "--prot", "1"], "No such option.*--prot.*--port"),
        (
            ["run", "--port", "5", "true"],
            "No such option '--port': it is an option of `serve`; `run` picks a free port",
        ),
        (["explore", "--port=5", "true"], "'--port': it is an option of `serve`; `explore` picks a free port"),
        (["serve", "--env", "A=1"], r"No such option '--env': it is an option of `run` and `explore`\."),
        (["seed", "--scenario", "flaky"], r"No such option '--scenario': it is an option of `serve` and `run`\."),
        (["--port", "80"], "No such option '--port': options follow the command, as in `cli serve --port`"),
        (["--user", "ada=1", "run", "true"], "'--user': options follow the command, as in `cli run --user`"),
        (["--verbose"], r"No such option:? '?--verbose"),
        (["serve", "extra"], "unexpected extra argument"),
        (["run"], "Missing argument 'COMMAND"),
        (["run", "--env", "URL={url}", "true"], "--env.*unknown placeholder {url} in 'URL={url}'; use {base_url}"),
        (["run", "--env", "URL={base_url!r}", "true"], "--env.*unknown placeholder"),
        (["run", "--env", "URL={", "true"], "--env"),
        (["run", "--env", "A-B=1", "true"], "--env.*does not have the form NAME=TEXT"),
        (["run", "--grace", "-1", "true"], "--grace.*-1"),
        (["token", "ada"], "--key-file is required"),
        (["token", "", "--key-file", "keys"], "USER.*must not be empty"),
        (["token", "ada", "--bad", "expird"], "--bad.*'expird' is not one of 'expired'"),
        (
            ["token", "ada", "--key-file", "keys", "--bad", "expired", "--expires-in", "5"],
            "--expires-in 5 has no effect with --bad expired",
        ),
        (["token", "ada", "--expires-in", "0"], "--expires-in.*0 is not in the range"),
        (
            ["explore", "--what", "lost_afte", "true"],
            "--what.*'lost_afte' is neither a kind .*; did you mean 'lost_after'",
        ),
        (["explore", "--depth", "4", "true"], "--depth.*4 is not in the range 1<=x<=3"),
        (["explore", "--budget", "-1", "true"], "--budget.*-1 is not in the range 1<=x"),
        (["explore", "--schedule", "2", "true"], "--schedule.*invalid schedule '2': expected ':'"),
        (["explore", "--report", "no/r.json", "true"], "--report.*'no/r.json' is not writable"),
        (["wait", "localhost:8402"], "URL.*is not a server URL"),
        (["wait", "http://h:99999"], "URL.*Port out of range"),
        (["wait", "http://h", "--timeout", "soon"], "--timeout.*'soon'"),
        (["explore", "--run-timeout", "0", "true"], "--run-timeout.*0.0 is not in the range 0<x<="),
        (["wait", "http://h", "--timeout", "nan"], "--timeout.*'nan' is not a number of seconds"),
        (["serve", "--tls-cert", "nowhere.pem"], "--tls-cert.*'nowhere.pem' does not exist"),
        (["run", "--tls-key", __file__, "true"], "--tls-cert and --tls-key must be used together"),
        (["run", "--tls-ca", "ca.pem", "true"], "--tls-ca requires --tls without --tls-cert"),
        (
            ["run", "--tls", "--tls-ca", "ca.pem", "--tls-cert", __file__, "--tls-key", __file__, "true"],
            "--tls-ca requires --tls without --tls-cert",
        ),
        (["run", "--tls-cert", __file__, "--tls-key", __file__, "true"], "--tls-cert.*--tls-key.*not a PEM"),
        (["serve", "--port", "0", "--tls", "--tls-ca", "nowhere/ca.pem"], "--tls-ca.*folder 'nowhere' does not exist"),
        (["sreve"], "No such command 'sreve'"),
    ],
)
def test_usage_error_exits_with_2_and_names_flag_and_value(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 2
    assert re.search(message, " ".join(result.output.split())), result.output
    assert list(tmp_path.iterdir()) == []


def test_invalid_environment_variable_is_a_usage_error() -> None:
    result = CliRunner().invoke(cli, ["serve"], env={"FAKE_CREDITS_PORT": "99999"})
    assert result.exit_code == 2
    assert "Invalid value for the environment variable 'FAKE_CREDITS_PORT' (--port): 99999" in result.output


def test_error_about_a_flag_does_not_name_its_variable() -> None:
    result = CliRunner().invoke(cli, ["serve", "--port", "99999"], env={"FAKE_CREDITS_PORT": "1"})
    assert "Invalid value for '--port': 99999" in result.output
    assert "FAKE_CREDITS_PORT" not in result.output


def reject_key_file(file: Path, text: str) -> str:
    """Check that a key file with this text is rejected and left unchanged, and return the error."""
    file.write_text(text)
    results = [
        CliRunner().invoke(cli, arguments)
        for arguments in (["token", "ada", "--key-file", str(file)], ["run", "--key-file", str(file), "true"])
    ]
    assert [result.exit_code for result in results] == [2, 2]
    assert file.read_text() == text
    return " ".join(results[0].output.split())


def test_key_file_without_complete_keys_is_rejected(tmp_path: Path) -> None:
    """If keys were generated instead, `token` would mint tokens that no server accepts."""
    for text in ("", "no key"):
        output = reject_key_file(tmp_path / "keys.pem", text)
        assert "keys.pem' has no usable signing keys: it has no PEM private key" in output
    output = reject_key_file(tmp_path / "keys.pem", new_private_pem()[:300])
    assert "keys.pem' has no usable signing keys: it has a PEM private key (RFC 7468) that is damaged" in output


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"]])
def test_help_imports_no_heavy_modules(arguments: list[str]) -> None:
    code = (
        f"import sys; sys.argv[1:] = {arguments}\n"
        "from fake_credits.__main__ import main\n"
        "try: main()\n"
        "finally:\n"
        "    heavy = ('starlette', 'uvicorn', 'uvloop', 'jwt', 'cryptography', 'httpx2', 'asyncio', 'msgspec')\n"
        "    print('LOADED', [name for name in heavy if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage:" in result.stdout
    assert "LOADED []" in result.stdout


def test_interrupt_exits_silently_with_130() -> None:
    code = (
        "import sys, signal, os; sys.argv[1:] = ['wait', 'http://127.0.0.1:1']\n"
        "from fake_credits.cli import wait\n"
        "wait._readiness_problem = lambda *_: os.kill(os.getpid(), signal.SIGINT) or 'no'\n"
        "from fake_credits.__main__ import main\n"
        "main()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")


def test_interrupt_before_main_is_called_exits_silently_with_130() -> None:
    """The installed script compiles a regular expression between the import and the call."""
    code = "import os, signal, fake_credits.__main__; os.kill(os.getpid(), signal.SIGINT)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")


@pytest.mark.parametrize(
    "arguments", [["token", "ada", "--key-file"], ["seed", "--profile", "tiny", "--quiet", "--out"]]
)
def test_interrupt_while_a_file_is_written_leaves_nothing_behind(arguments: list[str], tmp_path: Path) -> None:
    """The temporary file, which would have replaced the target, is removed."""
    code = (
        f"import sys, signal, os; sys.argv[1:] = {[*arguments, str(tmp_path / 'file')]}\n"
        "from fake_credits import files\n"
        "from fake_credits.__main__ import main\n"
        "fdopen = os.fdopen\n"
        "def interrupted(*arguments):\n"
        "    file = fdopen(*arguments)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    return file\n"
        "files.os.fdopen = interrupted\n"
        "main()"
    )
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_full_stdout_prints_a_one_line_error() -> None:
    with Path("/dev/full").open("w") as full_device:
        result = subprocess.run(
            [sys.executable, "-m", "fake_credits", "openapi"],
            stdout=full_device,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (result.returncode, result.stderr) == (1, "Error: cannot write to stdout: No space left on device\n")


IMPORTS = [
    ("serve --port 0", "click"),
    ("serve --port 0", "fake_credits.cli.flags"),
    ("serve --port 0", "fake_credits.cli.serve"),
    ("run sleep 60", "fake_credits.cli.run"),
    ("token ada", "fake_credits.cli.bootstrap"),
    ("seed", "fake_credits.cli.seed"),
    ("openapi", "fake_credits.cli.bootstrap"),
    ("wait http://127.0.0.1:1", "fake_credits.cli.wait"),
]


@pytest.mark.parametrize(("command", "module"), IMPORTS)
def test_interrupt_during_an_import_ends_the_command(command: str, module: str) -> None:
    """Python discards a KeyboardInterrupt raised in a weakref callback; importlib has such a callback for each lock."""
    code = (
        f"import sys, signal, os, weakref; sys.argv[1:] = {command.split()}\n"
        "class Lock: pass\n"
        "class Finder:\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == '{module}':\n"
        "            lock = Lock()\n"
        "            ended = weakref.ref(lock, lambda _: os.kill(os.getpid(), signal.SIGINT))\n"
        "            del lock\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from fake_credits.__main__ import main\n"
        "main()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")


def test_version_matches_the_package_metadata() -> None:
    from importlib.metadata import version

    result = subprocess.run(
        [sys.executable, "-m", "fake_credits", "--version"],
        capture_output=True,
        text=True,
        check=True,
        env=clean_environment(),
    )
    assert result.stdout.strip() == version("fake-credits")


COMMAND_LINES = [[], *([name] for name in cli.commands)]


@pytest.mark.parametrize("command", COMMAND_LINES, ids=" ".join)
def test_help_fits_80_columns(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    output = CliRunner().invoke(cli, [*command, "--help"]).output
    assert [
        line for line in output.splitlines() if len(line) > 80 or (line.endswith(("...", "…")) and "Usage:" not in line)
    ] == []


@pytest.mark.parametrize("command", COMMAND_LINES, ids=" ".join)
def test_help_has_a_summary_and_a_valid_example(command: list[str], tmp_path: Path) -> None:
    described: click.Command = cli.commands[command[0]] if command else cli
    summary, *_, example = inspect.cleandoc(described.help or "").split("\n\n")
    assert re.fullmatch(r"[A-Z][^.]+\.", summary)
    text = example.removeprefix("Example: fake-credits ").replace("contract.toml", str(tmp_path / "contract.toml"))
    (tmp_path / "contract.toml").write_text("version = 1")
    name, *arguments = shlex.split(text)
    assert command in ([], [name])
    cli.commands[name].make_context(name, arguments)


def test_help_lists_flags_under_headings() -> None:
    output = CliRunner().invoke(cli, ["serve", "--help"]).output
    sections: list[str] = re.findall(r"^(\w[\w ]+):$", output, re.MULTILINE)
    assert sections == ["Network", "Sandbox", "Faults", "Tokens", "HTTPS", "Control plane", "Output", "General"]
    network = output.partition("Network:")[2].partition("Sandbox:")[0]
    assert re.findall(r"^  (--[\w-]+)", network, re.MULTILINE) == [
        "--host",
        "--port",
        "--expose",
        "--allow-host",
        "--cors-origin",
    ]


@pytest.mark.parametrize("text", ["inf", "-1", "soon"])
def test_invalid_timeout_is_a_usage_error(text: str) -> None:
    result = CliRunner().invoke(cli, ["wait", "http://127.0.0.1:1", "--timeout", text])
    assert result.exit_code == 2
    assert "'--timeout'" in result.output
    assert text in result.output


def test_writable_file_rejects_pipes_and_devices(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for path in (str(tmp_path / "pipe"), str(tmp_path / "link"), os.devnull):
        with pytest.raises(ValueError, match="is not a regular file$"):
            writable_file(path)


def test_writable_file_resolves_symbolic_links(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert writable_file(str(tmp_path / "link")) == tmp_path / "file"
