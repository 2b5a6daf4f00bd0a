"""Own what demo data is refused with; know nothing of who asked for it."""

__all__ = ["TargetError", "UnknownWorld", "WorldError"]


class WorldError(ValueError):
    """Report a profile, a world or a file of one that can't be; the message names it, the value and the rule."""


class UnknownWorld(WorldError):
    """Report a name that is neither a profile's nor a file's."""


class TargetError(Exception):
    """Report a server that can't be filled: it refuses, is not there, or holds something else."""
