"""Own the API as one Starlette application; the only package that imports Starlette."""
