"""Exploration: inject every fault at every call that an application makes, and check the outcome against the ledger."""
