"""Own one call to the control plane: whom it means, and what it brought; know nothing of HTTP."""

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from fake_credits.errors import ControlError
from fake_credits.faults.active_rule import ActiveRule
from fake_credits.faults.effects.base import FaultError
from fake_credits.faults.faults import Faults
from fake_credits.faults.gates import Gate
from fake_credits.sandbox import Sandbox
from fake_credits.sandbox_options import SandboxOptions
from fake_credits.sandboxes import SandboxRegistry

__all__ = ["DEFAULT_SANDBOX_NAME", "ControlContext", "ControlRequest"]

DEFAULT_SANDBOX_NAME = "default"
"""The name by which a server's first sandbox can be called, beside its own."""


@dataclass(frozen=True)
class ControlContext:
    """Be what one control plane governs: a server's sandboxes, how more are made, and how many there may be."""

    sandboxes: SandboxRegistry
    new_sandbox: Callable[[SandboxOptions], Sandbox]
    sandbox_limit: int = 1000
    lock: AbstractContextManager[object] = field(default_factory=threading.Lock, repr=False)

    def find(self, name: str) -> Sandbox:
        """Return a sandbox; raise ControlError where there is none of that name."""
        sandbox = self.sandboxes.base_sandbox if name == DEFAULT_SANDBOX_NAME else self.sandboxes.get(name)
        if sandbox is None:
            raise ControlError("sandbox_not_found", f"there is no sandbox {name!r}, or it is closed")
        return sandbox


@dataclass(frozen=True)
class ControlRequest:
    """Be one call: the parts of its path, its query and its body, both in the shapes of its route."""

    context: ControlContext
    base_url: str
    path_params: Mapping[str, str]
    query: Any = field(repr=False)
    body: Any = field(repr=False)

    @property
    def sandbox(self) -> Sandbox:
        """Return the sandbox that the path names; raise ControlError where there is none."""
        return self.context.find(self.path_params["sandbox"])

    @property
    def faults(self) -> Faults:
        """Return the desk at which faults of that sandbox are declared."""
        sandbox = self.sandbox
        return Faults(sandbox.faults, sandbox.add_fault)

    @property
    def rule(self) -> ActiveRule:
        """Return the rule that the path names; raise ControlError where there is none."""
        try:
            return self.faults.find(self.path_params["rule"])
        except FaultError as error:
            raise ControlError("rule_not_found", str(error)) from None

    @property
    def gate(self) -> Gate:
        """Return the gate that the path names; raise ControlError where there is none."""
        try:
            return self.sandbox.gate(self.path_params["gate"])
        except FaultError as error:
            raise ControlError("gate_not_found", str(error)) from None
