"""The oldest pytest and pluggy that the plugin runs on."""

import re

import pytest

__all__ = ["check_versions"]

_MINIMUM = {"pytest": (7, 0), "pluggy": (1, 2)}  # the first with StashKey, the first with hookimpl(wrapper=True)


def check_versions(**versions: str) -> None:
    """Check the installed versions of pytest and pluggy; raise UsageError where one is too old."""
    if any(_major_minor(version) < _MINIMUM[name] for name, version in versions.items()):
        needed = " and ".join(f"{name} {major}.{minor} or later" for name, (major, minor) in _MINIMUM.items())
        installed = " and ".join(f"{name} {version}" for name, version in versions.items())
        raise pytest.UsageError(f"fake-credits needs {needed}, got {installed}: pip install -U pytest pluggy")


def _major_minor(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
