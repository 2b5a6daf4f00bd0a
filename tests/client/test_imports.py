"""Test what importing the clients costs an application."""

import subprocess
import sys

import pytest

HEAVY = ("httpx2", "asyncio", "starlette", "uvicorn", "jwt", "pytest", "faker")


@pytest.mark.parametrize("module", ["fake_credits.client", "fake_credits.client.server", "fake_credits.client.user"])
def test_importing_the_clients_loads_no_library_that_they_may_not_need(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_a_client_over_a_transport_in_memory_loads_no_httpx2() -> None:
    code = (
        "import sys; from fake_credits.client import ServerClient\n"
        "client = ServerClient('http://h', 'key', transport=object())\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"
