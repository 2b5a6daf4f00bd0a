"""`explore`: a command is run for each schedule and judged like a test."""

import itertools
import json
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import pytest

from fake_credits.cli import processes, selftest_clients
from fake_credits.cli.explore import CannotExplore, explore
from fake_credits.cli.flags import ExploreFlags
from fake_credits.cli.processes import CommandNotFound, CommandResult
from fake_credits.client.control import ControlClient
from fake_credits.client.server import ServerClient
from fake_credits.errors import ApiError, TransportFailure

Report = Callable[..., dict[str, Any]]

APP = "app-id"
FAILED = (ApiError, TransportFailure)
CLIENTS_FILE = Path(selftest_clients.__file__)


def client(name: str) -> tuple[str, ...]:
    """Return the command of one of the self-test's clients."""
    return sys.executable, "-I", str(CLIENTS_FILE), name


def script(code: str) -> tuple[str, ...]:
    """Return a command that runs code with the functions of the self-test's clients."""
    preamble = f"import sys; sys.path.insert(0, {str(CLIENTS_FILE.parent)!r}); from selftest_clients import *\n"
    return sys.executable, "-I", "-c", preamble + code


@pytest.fixture(autouse=True)
def _process_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the test process from adopting orphans."""
    monkeypatch.setattr(processes, "adopt_orphans", lambda: False)


@pytest.fixture
def run(tmp_path: Path) -> Report:
    """Return a function that explores a command and returns the exploration's report, with the exit code."""

    def explore_command(command: tuple[str, ...], what: object = "lost_after", **options: Any) -> dict[str, Any]:
        path = tmp_path / "report.json"
        flags = ExploreFlags(users=(("ada", 100),), what=what, reports=(path,), **options)
        code = explore(flags, command, ("--user", "ada=100", "--jobs=2", "--what", "x", "--", *command))
        (exploration,) = json.loads(path.read_text())["explorations"]
        return {**exploration, "exit_code": code}

    return explore_command


def verdicts(report: dict[str, Any]) -> dict[str, str]:
    return {each["schedule"]: each["verdict"] for each in report["schedules"]}


def test_client_that_retries_blindly_is_charged_twice(run: Report, capsys: pytest.CaptureFixture[str]) -> None:
    report = run(client("retry_blindly"), ["lost_before", "lost_after"])
    assert (report["exit_code"], report["is_red"]) == (1, True)
    assert verdicts(report) == {"1:lost_after": "charged twice", "1:lost_before": "ok", "2:lost_before": "raised"}
    printed = " ".join(capsys.readouterr().out.split())
    assert "CHARGED TWICE" in printed
    assert "ada has 80 credits instead of 90" in printed
    assert f"Replay: fake-credits explore --user ada=100 --schedule 1:lost_after -- {sys.executable}" in printed
    assert "As a test" not in printed


@pytest.mark.slow
def test_client_that_checks_before_retrying_has_no_red_finding(run: Report) -> None:
    report = run(client("look_before_retry"), "default")
    assert (report["exit_code"], report["is_red"]) == (0, False)
    assert verdicts(report)["1:lost_after+2:refused"] == "unconfirmed"


def test_replayed_schedule_prints_the_commands_output(run: Report, capsys: pytest.CaptureFixture[str]) -> None:
    code = "import os; os.system('echo before'); print('after', file=sys.stderr); retry_blindly()"
    report = run(script(code), schedule="1:lost_after")
    assert (report["exit_code"], verdicts(report)) == (1, {"1:lost_after": "charged twice"})
    assert capsys.readouterr().out.startswith("before\nafter\nfake-credits: 1 schedule")


@pytest.mark.slow
def test_storm_is_answered_with_503_after_20_calls(run: Report) -> None:
    report = run(client("read_forever"), schedule="2:refused")
    assert verdicts(report) == {"2:refused": "storm"}
    calls = [each for each in report["schedules"][0]["exchanges"] if each["number"]]
    assert {each["status"] for each in calls[20:]} == {503}


def test_missing_command_has_same_exit_code_as_in_a_shell(run: Report) -> None:
    with pytest.raises(CommandNotFound, match="can't run 'no-such-command': No such file") as caught:
        run(("no-such-command",))
    assert caught.value.exit_code == 127


def test_reference_run_that_does_not_end_is_an_error(run: Report) -> None:
    with pytest.raises(CannotExplore, match=r"did not exit within 0\.05 s"):
        run(("sleep", "60"), run_timeout=0.05)


# ------------------------------------------------------------ functions in place of processes

Function = Callable[[ServerClient, Mapping[str, str]], object]


class FunctionRunner:
    """A runner that calls a function with a client and the command's environment, instead of running a command."""

    def __init__(
        self, function: Function, *, always_prints_key: bool = False, left_running: tuple[str, ...] = ()
    ) -> None:
        self._function = function
        self._always_prints_key = always_prints_key
        self._left_running = left_running

    def start(self, _command: object, env: Mapping[str, str], _mark: str) -> "FunctionCall":
        return FunctionCall(lambda: self._call(env))

    def stop(self) -> None:
        """Stop nothing: the exploration starts no further runs."""

    def _call(self, env: Mapping[str, str]) -> CommandResult:
        code, output = 0, env["CREDITS_API_KEY"] if self._always_prints_key else ""
        with ServerClient(env["CREDITS_BASE_URL"], env["CREDITS_API_KEY"]) as api:
            try:
                self._function(api, env)
            except Exception as error:  # noqa: BLE001 - whatever it is, the command fails
                code, output = 1, output + repr(error)
        return CommandResult(code, output, 0.0, is_overdue=False, left_running=self._left_running)


class FunctionCall:
    def __init__(self, call: Callable[[], CommandResult]) -> None:
        self._call = call

    def terminate(self) -> None:
        raise NotImplementedError

    def wait(self, _limit_s: float) -> CommandResult:
        return self._call()


@pytest.fixture
def run_function(run: Report, monkeypatch: pytest.MonkeyPatch) -> Report:
    """Return a variant of ``run`` that explores a function instead of a command."""

    def explore_function(
        function: Function,
        what: object = "lost_after",
        *,
        always_prints_key: bool = False,
        left_running: tuple[str, ...] = (),
        **options: Any,
    ) -> dict[str, Any]:
        runner = FunctionRunner(function, always_prints_key=always_prints_key, left_running=left_running)

        def new_runner(_grace_s: float) -> FunctionRunner:
            return runner

        monkeypatch.setattr("fake_credits.cli.explore.CommandRunner", new_runner)
        return run(("command",), what, **options)

    return explore_function


def charge(api: ServerClient) -> None:
    api.create_transaction(APP, "ada", delta=-10, reason="consume")


def look_before_retry(api: ServerClient, _env: object) -> None:
    for _ in range(3):
        try:
            return charge(api)
        except FAILED:
            if api.get_balance(APP, "ada").balance == 90:
                return None
    raise RuntimeError("not charged")


def test_jobs_do_not_change_the_result(run_function: Report) -> None:
    one, several = (run_function(look_before_retry, "default", jobs=jobs) for jobs in (1, 3))
    assert list(verdicts(several).items()) == list(verdicts(one).items())
    assert verdicts(one)["1:lost_after"] == "ok"
    assert verdicts(one)["1:lost_after+getBalance ada:refused"] == "unconfirmed"


def test_false_success_is_amber_because_lines_of_a_command_cannot_be_traced(run_function: Report) -> None:
    def swallow(api: ServerClient, _env: object) -> None:
        try:
            charge(api)
        except FAILED:
            api.get_balance(APP, "ada")

    report = run_function(swallow, schedule="1:refused")
    (finding,) = report["findings"]
    assert (report["exit_code"], finding["verdict"], finding["colour"]) == (0, "false success", "amber")
    assert "which its exit code can't show" in finding["text"]
    assert run_function(swallow, schedule="1:refused", strict=True)["exit_code"] == 1


@pytest.mark.parametrize(("is_always", "verdict"), [(False, "secret in the exception"), (True, "raised")])
def test_secret_in_the_output_is_reported_unless_it_is_always_printed(
    run_function: Report, *, is_always: bool, verdict: str
) -> None:
    def leak(api: ServerClient, env: Mapping[str, str]) -> None:
        try:
            charge(api)
        except FAILED:
            raise RuntimeError(env["CREDITS_API_KEY"]) from None

    assert verdicts(run_function(leak, schedule="1:refused", always_prints_key=is_always)) == {"1:refused": verdict}


def test_default_in_the_control_plane_is_the_runs_own_sandbox(run_function: Report) -> None:
    def check(api: ServerClient, env: Mapping[str, str]) -> None:
        charge(api)
        with ControlClient(env["FAKE_CREDITS_URL"], env["FAKE_CREDITS_CONTROL_TOKEN"]) as control:
            assert control.sandbox("default").balance("ada") == 90

    report = run_function(check)
    assert [each["label"] for each in report["calls"]] == ["createTransaction ada -10"]


def test_process_that_is_left_running_is_noted(run_function: Report) -> None:
    report = run_function(varying(charge), left_running=("worker",))
    note = "the command left processes running (worker); they were terminated and any results ignored"
    assert report["notes"] == [note]


def varying(*functions: Callable[[ServerClient], object]) -> Function:
    """Return a function that calls the next of ``functions`` in each run, and the last one from then on."""
    runs = itertools.count()
    return lambda api, _env: functions[min(next(runs), len(functions) - 1)](api)


def do_nothing(_api: ServerClient) -> None:
    pass


def read(api: ServerClient) -> None:
    api.get_balance(APP, "ada")


def fail(api: ServerClient) -> None:
    read(api)
    raise ValueError("broken")


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (varying(do_nothing), "the command made no calls with the API key that it was given"),
        (varying(fail), "fails even without faults, with exit code 1\n\nValueError('broken')"),
        (varying(read, fail), "fails even without faults"),
        (varying(charge, read), "two fault-free runs wrote different transactions"),
        (varying(read, read, read, fail), "state leaks between runs"),
    ],
)
def test_command_that_cannot_be_explored_is_an_error_with_the_reason(
    run_function: Report, function: Function, problem: str
) -> None:
    with pytest.raises(CannotExplore) as caught:
        run_function(function, "refused")
    assert problem in caught.value.message
    assert caught.value.exit_code == 4


def read_balance_and_user(api: ServerClient) -> None:
    read(api)
    api.get_user(APP, "ada")


def read_user_and_balance(api: ServerClient) -> None:
    api.get_user(APP, "ada")
    read(api)


@pytest.mark.parametrize(
    ("function", "note"),
    [
        (varying(read_balance_and_user, read_user_and_balance), "are concurrent"),
        (varying(read_balance_and_user, read), "made different calls"),
    ],
)
def test_differing_fault_free_runs_are_noted(run_function: Report, function: Function, note: str) -> None:
    report = run_function(function, schedule="1:refused")
    assert any(note in each for each in report["notes"])


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"schedule": "9:refused"}, "--schedule: .*names call 9, but the command makes 1 call"),
        ({"api_key": "key", "jobs": 2}, "--api-key requires --jobs 1"),
        ({"scenarios": ("flaky",)}, "--scenario can't be used with explore"),
    ],
)
def test_unusable_flags_are_a_usage_error(run_function: Report, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(click.UsageError, match=problem):
        run_function(varying(charge), **options)


def test_schedule_naming_a_missing_call_runs_the_command_only_without_faults(run_function: Report) -> None:
    balances: list[int] = []

    def spend(api: ServerClient, _env: object) -> None:
        charge(api)
        balances.append(api.get_balance(APP, "ada").balance)

    with pytest.raises(click.UsageError, match="names the call listUsers, which the command does not make"):
        run_function(spend, schedule="listUsers:refused")
    assert balances == [90, 90, 90]  # two runs at the start and one at the end


def interrupt(api: ServerClient) -> None:
    signal.raise_signal(signal.SIGINT)
    charge(api)


def test_interrupted_exploration_reports_the_completed_runs(
    run_function: Report, capfd: pytest.CaptureFixture[str]
) -> None:
    report = run_function(varying(charge, charge, charge, interrupt), ["lost_before", "refused"])
    assert report["exit_code"] == 130
    assert [each["schedule"] for each in report["schedules"]] == ["1:refused"]
    (note,) = report["notes"]
    assert note == "the exploration was interrupted after 1 of 2 runs"
    assert capfd.readouterr() == ("", f"{note}\n")


def test_exploration_interrupted_in_its_final_run_says_so(run_function: Report) -> None:
    report = run_function(varying(charge, charge, charge, charge, interrupt), ["lost_before", "refused"])
    assert (report["exit_code"], len(report["schedules"])) == (130, 2)
    assert report["notes"] == ["the exploration was interrupted before the final fault-free run ended"]


def test_exploration_interrupted_in_a_fault_free_run_reports_no_runs(run_function: Report) -> None:
    report = run_function(varying(interrupt), ["refused"])
    assert (report["exit_code"], report["schedules"]) == (130, [])
    assert report["notes"] == ["the exploration was interrupted before the first run with faults ended"]


def test_given_api_key_is_used_in_each_run(run_function: Report) -> None:
    def check(api: ServerClient, env: Mapping[str, str]) -> None:
        assert env["CREDITS_API_KEY"] == "test-key"
        charge(api)

    assert run_function(check, schedule="1:refused", api_key="test-key")["exit_code"] == 0


# ------------------------------------------------------------ other languages


CAREFUL_SHELL = """
url="$CREDITS_BASE_URL/v1/applications/$CREDITS_APPLICATION_ID/users/ada"
fetch() { curl -sf -H "X-API-Key: $CREDITS_API_KEY" -H "Content-Type: application/json" "$@"; }
charge() { fetch -d '{"delta": -10, "reason": "consume"}' "$url/transactions" >/dev/null; }
balance() { fetch "$url/balance" | tr -dc 0-9; }
"""
SHELL_CLIENTS = {
    "naive": "charge || charge || exit 1\n" + '[ "$(balance)" = 90 ]',
    "careful": 'charge || [ "$(balance)" = 90 ] || exit 1\n' + '[ "$(balance)" = 90 ]',
}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize(("name", "red"), [("naive", ["charged twice"]), ("careful", [])])
def test_naive_shell_script_is_red_and_careful_one_is_not(run: Report, name: str, red: list[str]) -> None:
    report = run(("sh", "-c", CAREFUL_SHELL + SHELL_CLIENTS[name]), "default")
    assert {each["verdict"] for each in report["schedules"] if each["colour"] == "red"} == set(red)
    assert report["exit_code"] == bool(red)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
@pytest.mark.parametrize(("name", "red"), [("naive", ["charged twice"]), ("careful", [])])
def test_naive_node_test_is_red_and_careful_one_is_not(run: Report, name: str, red: list[str]) -> None:
    test_file = Path(__file__).parents[1] / "examples" / "javascript" / "shop.test.mjs"
    report = run(("node", "--test", str(test_file)), "default", env=(("SHOP", name),))
    assert {each["verdict"] for each in report["schedules"] if each["colour"] == "red"} == set(red)
    assert report["exit_code"] == bool(red)
