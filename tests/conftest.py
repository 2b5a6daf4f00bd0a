"""Shared configuration of all tests: the ``pytester`` plugin and the Hypothesis profile."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["pytester"]

# The duration of an example depends on the load of the machine, not on the code.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")
