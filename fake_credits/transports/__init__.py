"""Transports that carry requests to the application, either in process or, using uvicorn, over a socket."""
