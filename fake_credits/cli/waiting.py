"""Own the wait for a server that is starting; know nothing of what it serves."""

import threading
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

import click

from fake_credits.clock import monotonic_s

__all__ = ["wait_for"]

_EVERY_S = 0.05


def wait_for(url: str, timeout_s: float) -> int:
    """Ask a URL until it answers 2xx and return 0, or 1 with the last reason once ``timeout_s`` have passed.

    It is asked once at least, and past any proxy.
    """
    pause = threading.Event()
    limit_s = monotonic_s() + timeout_s
    while True:
        reason = _ask(url, max(_EVERY_S, limit_s - monotonic_s()))
        if not reason:
            return 0
        left_s = limit_s - monotonic_s()
        if not left_s > 0:
            click.echo(f"Error: {url} did not answer within {timeout_s:g} s: {reason}", err=True)
            return 1
        pause.wait(min(_EVERY_S, left_s))


def _ask(url: str, timeout_s: float) -> str:
    try:
        # The scheme is http or https: `health_url` has seen to it.
        with build_opener(ProxyHandler({})).open(url, timeout=min(timeout_s, 5.0)):
            return ""
    except HTTPError as error:
        error.close()
        return f"it answered {error.code}"
    except (OSError, HTTPException, ValueError) as error:
        return str(getattr(error, "reason", "") or error or type(error).__name__)
