"""API clients for `fake-credits explore --selftest`: bad ones, which misbehave under some faults, and good ones.

This file is run as a script, `selftest_clients.py NAME`, and uses only the standard library. Each client is a test that
charges 10 credits to the user ada, who starts with 100.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

_ATTEMPTS = 3
_PRICE = 10


class CallFailed(Exception):
    """Raised if a call gets no successful response."""


def call(method: str, path: str, body: object = None) -> Any:
    """Make a call and return the decoded JSON response; raise CallFailed if the call does not succeed."""
    env = os.environ
    base_url = urlsplit(env["CREDITS_BASE_URL"])
    connection_type = HTTPSConnection if base_url.scheme == "https" else HTTPConnection
    connection = connection_type(base_url.netloc, timeout=10)
    headers = {"X-API-Key": env["CREDITS_API_KEY"], "Content-Type": "application/json"}
    url = f"/v1/applications/{env['CREDITS_APPLICATION_ID']}/users/ada/{path}"
    try:
        connection.request(method, url, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        if response.status >= 300:
            raise CallFailed(f"{method} {path}: {response.status}")
        return json.load(response)
    except (OSError, HTTPException, ValueError) as error:
        raise CallFailed(f"{method} {path}: {error!r}") from error
    finally:
        connection.close()


def read_balance() -> int:
    """Return the balance."""
    balance: int = call("GET", "balance")["balance"]
    return balance


def add_transaction(delta: int, reason: str) -> None:
    """Add a transaction."""
    call("POST", "transactions", {"delta": delta, "reason": reason})


# ------------------------------------------------------------ bad clients


def retry_blindly() -> None:
    """Send the write again after any failure."""
    for _ in range(_ATTEMPTS):
        try:
            return add_transaction(-_PRICE, "consume")
        except CallFailed:
            continue
    raise CallFailed("not charged")


def refund_blindly() -> None:
    """Refund after any failure, even if nothing was charged."""
    try:
        add_transaction(-_PRICE, "consume")
    except CallFailed:
        add_transaction(_PRICE, "refund")
        raise


def retry_after_failed_read() -> None:
    """Check the balance before a retry, but mistake a failed check for "not charged"."""
    for _ in range(_ATTEMPTS):
        with suppress(CallFailed):
            return add_transaction(-_PRICE, "consume")
        with suppress(CallFailed):
            if read_balance() < 100:
                return None
    raise CallFailed("not charged")


def read_forever() -> None:
    """Keep reading after a failed read, without pausing."""
    add_transaction(-_PRICE, "consume")
    while True:
        try:
            read_balance()
            break
        except CallFailed:
            while True:
                call("GET", "transactions")


# ------------------------------------------------------------ good clients


def charge_once() -> None:
    """Charge once, and never retry."""
    add_transaction(-_PRICE, "consume")


def look_before_retry() -> None:
    """Send the write again only if the balance shows that it was not committed."""
    for _ in range(_ATTEMPTS):
        try:
            return add_transaction(-_PRICE, "consume")
        except CallFailed:
            if read_balance() < 100:
                return None
    raise CallFailed("not charged")


def cancel_when_charged() -> None:
    """Refund after a failure only if the balance shows a charge."""
    try:
        add_transaction(-_PRICE, "consume")
    except CallFailed:
        if read_balance() < 100:
            add_transaction(_PRICE, "refund")
        raise


CLIENTS: Mapping[str, tuple[Callable[[], None], str]] = {
    "retry_blindly": (retry_blindly, "charged twice"),
    "refund_blindly": (refund_blindly, "given twice"),
    "retry_after_failed_read": (retry_after_failed_read, "failed read mistaken for a failed write"),
    "read_forever": (read_forever, "storm"),
    "charge_once": (charge_once, ""),
    "look_before_retry": (look_before_retry, ""),
    "cancel_when_charged": (cancel_when_charged, ""),
}
"""The clients by name, each with the red verdict expected for it, or an empty string for a good client."""


def main(name: str) -> None:
    """Run one client as a test."""
    client, _ = CLIENTS[name]
    client()
    balance = read_balance()
    if balance != 100 - _PRICE:
        sys.exit(f"the balance is {balance} instead of {100 - _PRICE}")


if __name__ == "__main__":
    main(sys.argv[1])
