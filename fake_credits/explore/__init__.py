"""Exploring a test: every fault at every call of the application, judged by the ledger."""
