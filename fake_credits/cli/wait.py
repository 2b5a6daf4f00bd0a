"""The `wait` command, which polls a server until it is ready."""

import ssl
import threading
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import HTTPSHandler, ProxyHandler, build_opener

import click

from fake_credits.clock import monotonic_s
from fake_credits.text import mask_url

_READINESS_POLL_INTERVAL_S = 0.05


def wait_until_ready(url: str, timeout_s: float, ca_file: Path | None = None) -> None:
    """Poll a URL until it returns 2xx; after ``timeout_s`` seconds, raise ClickException with the last problem.

    The URL is requested at least once, and without a proxy. Over https, the CAs in ``SSL_CERT_FILE`` (or the system's)
    and in ``ca_file`` are trusted; ``ca_file`` need not exist yet, because the server writes it during startup.
    """
    pause = threading.Event()
    deadline_s = monotonic_s() + timeout_s
    while True:
        problem = _readiness_problem(url, max(_READINESS_POLL_INTERVAL_S, deadline_s - monotonic_s()), ca_file)
        if not problem:
            return
        remaining_s = deadline_s - monotonic_s()
        if not remaining_s > 0:
            raise click.ClickException(f"{mask_url(url)} was not ready within {timeout_s:g} s: {problem}")
        pause.wait(min(_READINESS_POLL_INTERVAL_S, remaining_s))


def _readiness_problem(url: str, timeout_s: float, ca_file: Path | None) -> str:
    """Request a URL once, with a timeout of at most 5 s; return why it isn't ready, or an empty string if it is."""
    try:
        handlers = [ProxyHandler({}), *_https_handlers(ca_file)]
        # `health_url` has checked that the scheme is http or https.
        with build_opener(*handlers).open(url, timeout=min(timeout_s, 5.0)):
            return ""
    except HTTPError as error:
        error.close()
        return f"it responded with status {error.code}"
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", "") or error or type(error).__name__
        hint = "; to trust the server's CA, pass --ca FILE" if isinstance(reason, ssl.SSLCertVerificationError) else ""
        return f"{reason}{hint}"


def _https_handlers(ca_file: Path | None) -> list[HTTPSHandler]:
    if ca_file is None:
        return []  # urllib adds its own handler
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(ca_file)
    except OSError as error:
        raise OSError(f"--ca {str(ca_file)!r}: {error.strerror or error}") from error
    return [HTTPSHandler(context=context)]
