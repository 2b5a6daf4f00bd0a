"""The modules that are loaded when the clients are imported."""

import subprocess
import sys

import pytest

HEAVY_MODULES = ("httpx2", "asyncio", "starlette", "uvicorn", "jwt", "pytest", "faker")


@pytest.mark.parametrize("module", ["fake_credits.client", "fake_credits.client.server", "fake_credits.client.user"])
def test_importing_clients_loads_no_heavy_modules(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY_MODULES} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_client_with_given_transport_does_not_load_httpx2() -> None:
    code = (
        "import sys; from fake_credits.client import ServerClient\n"
        "client = ServerClient('http://h', 'key', transport=object())\n"
        f"print([name for name in {HEAVY_MODULES} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
