"""The benchmark of what a user would choose instead of fake-credits: ``python -m tests.benchmarks.peers``."""
