"""The number of modules and pipeline steps that one request passes through."""

import ast
import inspect
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import fake_credits
from fake_credits import FakeCredits
from fake_credits.api import pipeline
from fake_credits.errors import TransportFailure
from fake_credits.faults import Reset
from fake_credits.faults.waits import CHECKPOINT, Body, Wait
from tests.documentation import PAGES

PACKAGE = Path(fake_credits.__file__).parent
MAX_PLAIN_MODULES = 14
MAX_FAULT_MODULES = 6
MAX_HANDLE_LINES = 40
STEPS = {"size of the body": "body (size-limited)", "content of the body": "body decoding"}
"""Steps whose names in the docs differ from those in the pipeline."""


def modules_of(call: Callable[[], object]) -> set[str]:
    """Return the package's modules whose code runs during a call."""
    modules: set[str] = set()

    def note(frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call" and Path(frame.f_code.co_filename).is_relative_to(PACKAGE):
            modules.add(str(Path(frame.f_code.co_filename).relative_to(PACKAGE)))

    previous = sys.getprofile()
    sys.setprofile(note)
    try:
        with suppress(TransportFailure):
            call()
    finally:
        sys.setprofile(previous)
    return modules


def test_plain_in_process_get_runs_few_modules_and_fault_adds_few() -> None:
    with FakeCredits(balance=100) as credits:

        def get_balance() -> object:
            return credits.server_client.get_balance("app-id", "user-id")

        get_balance()  # fills the caches
        plain = modules_of(get_balance)
        credits.faults.add(Reset(), "getBalance", phase="after", times=2)
        with suppress(TransportFailure):
            get_balance()
        faulted = modules_of(get_balance)
    assert len(plain) <= MAX_PLAIN_MODULES, sorted(plain)
    assert "faults/effects/connection.py" in faulted
    assert len(faulted - plain) <= MAX_FAULT_MODULES, sorted(faulted - plain)


def test_handle_fits_on_one_screen_and_awaits_only_waits() -> None:
    """It awaits only `Wait` objects, and methods of faults and deliveries that await nothing else."""
    source = inspect.getsource(pipeline.handle)
    assert len(source.splitlines()) <= MAX_HANDLE_LINES
    awaited = [ast.unparse(node.value) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Await)]
    assert sorted(awaited) == [
        "Body(MAX_BODY_BYTES)",
        "CHECKPOINT",
        "exchange.delivery.send(exchange.response, connection)",
        "faults.apply_after()",
        "faults.apply_before()",
    ]
    assert issubclass(Body, Wait)
    assert isinstance(CHECKPOINT, Wait)


def test_handle_docstring_lists_checks_in_documented_order() -> None:
    section = PAGES["docs/reference/contract.md"].partition("## Order of checks\n")[2].partition("\n## ")[0]
    listed = re.findall(r"^\d\. \*\*(.+?)\*\*", section, re.MULTILINE)
    assert listed[0] == "host"
    checks = [STEPS.get(name, name) for name in listed[1:]]
    documented = " ".join((pipeline.handle.__doc__ or "").split()).partition(": ")[2].partition(".")[0].split(" → ")
    assert [step for step in documented if step in checks] == checks
