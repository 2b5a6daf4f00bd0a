"""The Credits API as a Starlette application."""
