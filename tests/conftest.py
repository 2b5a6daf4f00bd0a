"""What every folder's tests share: pytest's own tool for running suites inside tests, and Hypothesis' settings."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["pytester"]

# How long an example takes depends on what else the machine does, and says nothing about the code.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")
