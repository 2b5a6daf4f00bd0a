"""The command `wait`: polling a server that is starting."""

import ssl
import threading
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import HTTPSHandler, ProxyHandler, build_opener

import click

from fake_credits.clock import monotonic_s

__all__ = ["readiness_problem", "wait_until_ready"]

_READINESS_POLL_INTERVAL_S = 0.05


def wait_until_ready(url: str, timeout_s: float, ca_file: Path | None = None) -> None:
    """Poll a URL until it answers 2xx; raise ClickException with the last reason once ``timeout_s`` have passed.

    It is asked once at least, and past any proxy. Over https the CAs of ``SSL_CERT_FILE``, or the system's, are
    trusted and those in ``ca``, a file that the server may have yet to write.
    """
    pause = threading.Event()
    deadline_s = monotonic_s() + timeout_s
    while True:
        reason = readiness_problem(url, max(_READINESS_POLL_INTERVAL_S, deadline_s - monotonic_s()), ca_file)
        if not reason:
            return
        remaining_s = deadline_s - monotonic_s()
        if not remaining_s > 0:
            raise click.ClickException(f"{url} did not answer within {timeout_s:g} s: {reason}")
        pause.wait(min(_READINESS_POLL_INTERVAL_S, remaining_s))


def readiness_problem(url: str, timeout_s: float, ca_file: Path | None = None) -> str:
    """Return why a URL does not answer 2xx within ``timeout_s``, 5 at most; nothing where it does."""
    try:
        handlers = [ProxyHandler({}), *_https_handlers(ca_file)]
        # The scheme is http or https: `health_url` has seen to it.
        with build_opener(*handlers).open(url, timeout=min(timeout_s, 5.0)):
            return ""
    except HTTPError as error:
        error.close()
        return f"it answered {error.code}"
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", "") or error or type(error).__name__
        hint = "; trust its CA by --ca FILE" if isinstance(reason, ssl.SSLCertVerificationError) else ""
        return f"{reason}{hint}"


def _https_handlers(ca_file: Path | None) -> list[HTTPSHandler]:
    if ca_file is None:
        return []  # urllib has one of its own, which costs nothing over http
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(ca_file)
    except OSError as error:
        raise OSError(f"--ca {str(ca_file)!r}: {error.strerror or error}") from error
    return [HTTPSHandler(context=context)]
