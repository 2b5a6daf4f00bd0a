"""Test that an open debugger prompt pauses timeouts, and that closing it leaves nothing hanging."""

import sys

import pytest

PDB_SUITE = """
import threading

import pytest
import requests
from fake_credits.faults import Latency


def call(credits, answers):
    url = credits.base_url + "/v1/applications/app-id/users/user-id/balance"
    answers.append(requests.get(url, headers={"X-API-Key": credits.api_key}, timeout=5).status_code)


@pytest.fixture
def caller(fake_credits):
    answers = []
    thread = threading.Thread(target=call, args=(fake_credits, answers))
    yield thread, answers
    thread.join()


@pytest.mark.fake_credits(balance=1, users={"in process": 1})
def test_at_the_prompt(fake_credits, caller):
    thread, answers = caller
    pause = threading.Event()
    fake_credits.faults.add(Latency(5), "getBalance")
    gate = fake_credits.hold("getBalance", user="user-id", name="door")
    gate.limit_s = 0.005
    assert "the prompt" == "opens here"
"""

HELD_COMMANDS = (
    "thread.start()",
    "gate.wait_for(1)",
    "[pause.wait(0.01) for _ in range(3)]",
    "p 'holds', len(gate), answers",
)
RELEASE_COMMANDS = (
    "gate.release()",
    "thread.join()",
    "p 'answered', answers",
    "p fake_credits.server_client.get_balance('app-id', 'in process')",
    "p 'problems', fake_credits.problems()",
)


@pytest.mark.parametrize(
    ("is_released", "last_command"), [pytest.param(True, "continue", marks=pytest.mark.slow), (False, "quit")]
)
def test_pdb_while_a_gate_holds_or_a_delay_runs(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, is_released: bool, last_command: str
) -> None:
    """The gate's timeout pauses, delays continue, and leaving the prompt ends the held call."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(test_suite=PDB_SUITE)
    commands = "\n".join((*HELD_COMMANDS, *(RELEASE_COMMANDS if is_released else ()), last_command, ""))
    command = (sys.executable, "-m", "pytest", "--pdb", "-p", "pytest_fake_credits", "-p", "no:cacheprovider")
    result = pytester.run(*command, timeout=20, stdin=commands.encode())
    text = result.stdout.str()
    assert "('holds', 1, [])" in text
    if is_released:
        expected = ("('answered', [200])", "Balance(balance=1)", "('problems', [])")
        assert all(text_part in text for text_part in expected), text
    result.stdout.fnmatch_lines(["*1 failed*"])
