"""Test that interception imports no library and patches libraries that are imported later."""

import importlib.metadata
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import fake_credits
from fake_credits.intercept import ADAPTER_MODULES

ROOT = Path(fake_credits.__file__).parents[1]
UNLOADED_LIBRARIES = ("aiohttp", "httpcore", "httpx", "requests", "urllib3")
"""Libraries that the fake itself never imports; its own network clients use httpx2."""

PREAMBLE = """
import sys
from fake_credits import FakeCredits

URL = "https://credits.internal/v1/applications/app-id/users/user-id/balance"
credits = FakeCredits(balance=5)
headers = {"X-API-Key": credits.api_key}
"""

CALLS = {
    "requests": "import requests; print(requests.get(URL, headers=headers, timeout=5).json())",
    "urllib3": "import urllib3; print(urllib3.request('GET', URL, headers=headers).json())",
    "httpx": "import httpx; print(httpx.get(URL, headers=headers).json())",
    "httpx2": "import httpx2; print(httpx2.get(URL, headers=headers).json())",
    "aiohttp": """
import asyncio, aiohttp

async def main():
    async with aiohttp.ClientSession(headers=headers) as session, session.get(URL) as answer:
        print(await answer.json())

asyncio.run(main())
""",
}


def run_python(code: str) -> str:
    """Run code in a fresh interpreter, with warnings turned into errors, and return its output."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-c", PREAMBLE + textwrap.dedent(code)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_interception_imports_no_library() -> None:
    names = (*UNLOADED_LIBRARIES, "httpx2", "httpcore2")
    code = f"with credits.intercept(URL): print(sorted(set({names!r}) & set(sys.modules)))"
    assert run_python(code) == "[]"


@pytest.mark.parametrize(
    "library", [pytest.param(name, marks=[] if name in ("requests", "httpx") else [pytest.mark.slow]) for name in CALLS]
)
def test_library_imported_later_is_intercepted(library: str) -> None:
    """The patch applies immediately and leaves no trace in the import system."""
    code = f"""
    with credits.intercept("https://credits.internal"):
        exec({CALLS[library]!r})
        for module in list(sys.modules.values()):
            spec = getattr(module, "__spec__", None)
            for loader in (getattr(module, "__loader__", None), getattr(spec, "loader", None)):
                assert "intercept" not in type(loader).__module__
    assert not [finder for finder in sys.meta_path if "intercept" in type(finder).__module__]
    """
    assert run_python(code) == "{'balance': 5}"


@pytest.mark.slow
def test_library_imported_between_interceptions_is_intercepted() -> None:
    code = f"""
    with credits.intercept("https://credits.internal"):
        pass
    import requests
    with credits.intercept("https://credits.internal"):
        exec({CALLS["requests"]!r})
    """
    assert run_python(code) == "{'balance': 5}"


def test_missing_library_raises_usual_error() -> None:
    """Interception imports nothing itself; importing the library raises as usual, and later imports still work."""
    code = f"""
    class Hide:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in {UNLOADED_LIBRARIES!r}:
                raise ModuleNotFoundError(name)

    sys.meta_path.insert(0, Hide())
    with credits.intercept("https://credits.internal"):
        try:
            import aiohttp
        except ModuleNotFoundError as error:
            print(error)
        exec({CALLS["httpx2"]!r})
    """
    assert run_python(code) == "aiohttp\n{'balance': 5}"


@pytest.mark.slow
def test_missing_module_is_reported_as_usual() -> None:
    code = """
    import importlib.util
    sys.path[:] = [path for path in sys.path if "site-packages" not in path]
    sys.path_importer_cache.clear()
    with credits.intercept("https://credits.internal"):
        print(importlib.util.find_spec("urllib3"))
        try:
            import httpcore
        except ModuleNotFoundError as error:
            print(error)
    """
    assert run_python(code) == "None\nNo module named 'httpcore'"


@pytest.mark.slow
def test_failing_import_raises_usual_error(tmp_path: Path) -> None:
    """The library is still patched if a later import succeeds."""
    (tmp_path / "httpcore").mkdir()
    (tmp_path / "httpcore" / "__init__.py").write_text("raise ImportError('broken')", encoding="utf-8")
    code = f"""
    with credits.intercept("https://credits.internal"):
        sys.path.insert(0, {str(tmp_path)!r})
        try:
            import httpcore
        except ImportError as error:
            print(error)
        sys.path.pop(0)
        exec({CALLS["httpx"]!r})
    """
    assert run_python(code) == "broken\n{'balance': 5}"


def test_every_adapter_library_is_installed() -> None:
    names = {name.partition(".")[0] for name in ADAPTER_MODULES}
    assert names == {"aiohttp", "httpcore", "httpcore2", "urllib3", "urllib3_future"}
    assert all(importlib.metadata.version(name) for name in names - {"urllib3_future"})
