"""Own one call to the control plane: whom it means, and what it brought; know nothing of HTTP."""

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from fake_credits.errors import ControlError
from fake_credits.faults.checks import FaultError
from fake_credits.faults.desk import Faults
from fake_credits.faults.gates import Hold
from fake_credits.faults.plan import ActiveRule
from fake_credits.sandbox import Sandbox, Sandboxes, SandboxSettings

__all__ = ["DEFAULT_NAME", "ControlCall", "Estate"]

DEFAULT_NAME = "default"
"""The name by which a server's first sandbox can be called, beside its own."""


@dataclass(frozen=True)
class Estate:
    """Be what one control plane governs: a server's sandboxes, how more are made, and how many there may be."""

    sandboxes: Sandboxes
    new_sandbox: Callable[[SandboxSettings], Sandbox]
    sandbox_limit: int = 1000
    lock: AbstractContextManager[object] = field(default_factory=threading.Lock, repr=False)

    def find(self, name: str) -> Sandbox:
        """Return a sandbox; raise ControlError where there is none of that name."""
        sandbox = self.sandboxes.base if name == DEFAULT_NAME else self.sandboxes.named(name)
        if sandbox is None:
            raise ControlError("sandbox_not_found", f"there is no sandbox {name!r}, or it is closed")
        return sandbox


@dataclass(frozen=True)
class ControlCall:
    """Be one call: the parts of its path, its query and its body, both in the shapes of its route."""

    estate: Estate
    base_url: str
    parts: Mapping[str, str]
    query: Any = field(repr=False)
    body: Any = field(repr=False)

    @property
    def sandbox(self) -> Sandbox:
        """Return the sandbox that the path names; raise ControlError where there is none."""
        return self.estate.find(self.parts["sandbox"])

    @property
    def faults(self) -> Faults:
        """Return the desk at which faults of that sandbox are declared."""
        sandbox = self.sandbox
        return Faults(sandbox.faults, sandbox.lock, sandbox.add_fault)

    @property
    def rule(self) -> ActiveRule:
        """Return the rule that the path names; raise ControlError where there is none."""
        try:
            return self.faults.find(self.parts["rule"])
        except FaultError as error:
            raise ControlError("rule_not_found", str(error)) from None

    @property
    def gate(self) -> Hold:
        """Return the gate that the path names; raise ControlError where there is none."""
        try:
            return self.sandbox.gate(self.parts["gate"])
        except FaultError as error:
            raise ControlError("gate_not_found", str(error)) from None
