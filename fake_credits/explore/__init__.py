"""Exploration: inject every fault at every call of an application, and check the outcome against the ledger."""
