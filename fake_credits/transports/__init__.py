"""Transports that carry requests to the application, either in process or over a socket (with uvicorn)."""
