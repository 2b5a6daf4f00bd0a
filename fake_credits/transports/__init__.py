"""Transports that carry requests to the application, in process or over a socket with uvicorn."""
