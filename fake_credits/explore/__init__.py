"""Exploration: rerun a test with faults injected at the application's calls, and check the ledger after each run."""
