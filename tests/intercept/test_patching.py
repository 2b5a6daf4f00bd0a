"""Test which libraries interception loads: none. Those that come later are intercepted when they come."""

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
LOADED = ("aiohttp", "httpcore", "httpx", "requests", "urllib3")
"""What the fake itself never loads; httpx2 is its own, for clients over a network."""

BEGIN = """
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


def ran(code: str) -> str:
    """Return what a fresh interpreter prints, with every warning an error."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-c", BEGIN + textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_interception_itself_imports_no_library() -> None:
    assert (
        ran(f"with credits.intercept(URL): print(sorted(set({LOADED!r} + ('httpx2', 'httpcore2')) & set(sys.modules)))")
        == "[]"
    )


@pytest.mark.parametrize(
    "library", [pytest.param(name, marks=[] if name in ("requests", "httpx") else [pytest.mark.slow]) for name in CALLS]
)
def test_a_library_that_is_imported_later_is_intercepted(library: str) -> None:
    """At once, whatever imports it; and neither it nor its modules bear a trace."""
    code = f"""
    with credits.intercept("https://credits.internal"):
        exec({CALLS[library]!r})
        for module in list(sys.modules.values()):
            spec = getattr(module, "__spec__", None)
            for loader in (getattr(module, "__loader__", None), getattr(spec, "loader", None)):
                assert "intercept" not in type(loader).__module__
    assert not [finder for finder in sys.meta_path if "intercept" in type(finder).__module__]
    """
    assert ran(code) == "{'balance': 5}"


@pytest.mark.slow
def test_a_library_that_is_imported_in_between_two_is_intercepted_by_the_second() -> None:
    code = f"""
    with credits.intercept("https://credits.internal"):
        pass
    import requests
    with credits.intercept("https://credits.internal"):
        exec({CALLS["requests"]!r})
    """
    assert ran(code) == "{'balance': 5}"


def test_a_library_that_is_not_installed_is_no_matter() -> None:
    """The watch looks for nothing by itself; who imports it gets the usual error, and later imports still work."""
    code = f"""
    class Hide:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in {LOADED!r}:
                raise ModuleNotFoundError(name)

    sys.meta_path.insert(0, Hide())
    with credits.intercept("https://credits.internal"):
        try:
            import aiohttp
        except ModuleNotFoundError as error:
            print(error)
        exec({CALLS["httpx2"]!r})
    """
    assert ran(code) == "aiohttp\n{'balance': 5}"


@pytest.mark.slow
def test_a_module_that_does_not_exist_is_reported_as_ever() -> None:
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
    assert ran(code) == "None\nNo module named 'httpcore'"


@pytest.mark.slow
def test_a_library_whose_import_fails_fails_as_ever(tmp_path: Path) -> None:
    """It is not patched, and a later import that works is."""
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
    assert ran(code) == "broken\n{'balance': 5}"


def test_every_library_is_one_that_the_tests_have() -> None:
    names = {name.partition(".")[0] for name in ADAPTER_MODULES}
    assert names == {"aiohttp", "httpcore", "httpcore2", "urllib3"}
    assert all(importlib.metadata.version(name) for name in names)
