"""Own the state of isolated Credits APIs, and which credential means which; know nothing of HTTP."""

from fake_credits.sandbox.sandbox import Sandbox
from fake_credits.sandbox.sandboxes import Sandboxes
from fake_credits.sandbox.settings import SandboxSettings, StartingWorld, TokenWords

__all__ = ["Sandbox", "SandboxSettings", "Sandboxes", "StartingWorld", "TokenWords"]
