"""Own what carries requests to the application: by hand in this process, or by uvicorn over a socket."""
