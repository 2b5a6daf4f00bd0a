"""Exploration of tests: every fault at every call of the application, with results checked against the ledger."""
