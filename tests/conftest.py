"""Own what every folder's tests share: pytest's own tool for running suites inside tests."""

pytest_plugins = ["pytester"]
