"""Exploration: rerun a test with faults injected into the application's calls, and check the ledger after each run."""
