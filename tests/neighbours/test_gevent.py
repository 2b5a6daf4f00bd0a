"""Test gevent's monkey patching: in-process calls work, and the live server raises an error instead of hanging."""

import subprocess
import sys

import pytest

pytest.importorskip("gevent")

PROGRAM = """
from gevent import monkey

monkey.patch_all({options})

import urllib.request

import gevent

from fake_credits import FakeCredits

with FakeCredits(balance=3) as credits:
    calls = [gevent.spawn(credits.server_client.get_balance, "app-id", "user-id") for _ in range(3)]
    print([call.get(timeout=5).balance for call in calls])
    try:
        url = credits.base_url + "/v1/applications/app-id/users/user-id/balance"
    except RuntimeError as error:
        print(error)
    else:
        request = urllib.request.Request(url, headers={{"X-API-Key": credits.api_key}})
        print(urllib.request.urlopen(request, timeout=5).read().decode())
"""


def run_patched(options: str) -> list[str]:
    command = [sys.executable, "-W", "error", "-c", PROGRAM.format(options=options)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.splitlines()


def test_gevent() -> None:
    """With patched threads, the server's thread would be a greenlet of the thread that waits for it, and never run."""
    in_process, error = run_patched("")
    assert in_process == "[3, 3, 3]"
    assert error.startswith("the live server can't run in this process, because gevent's monkey.patch_all() has ")
    assert error.endswith("start the server with `fake-credits run -- COMMAND`, or call patch_all(thread=False)")
    assert run_patched("thread=False") == ["[3, 3, 3]", '{"balance":3}']
