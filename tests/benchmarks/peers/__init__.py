"""Benchmark of fake-credits against its alternatives: ``python -m tests.benchmarks.peers``."""
