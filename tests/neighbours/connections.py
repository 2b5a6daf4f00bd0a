"""Own every way to a sandbox's balance, so that a neighbour can be held against each."""

import httpx
import httpx2
import requests

from fake_credits import FakeCredits, ServerClient

__all__ = ["in_process", "live", "over_httpx", "over_requests"]

PATH = "/v1/applications/app-id/users/ada/balance"


def _key(credits: FakeCredits) -> dict[str, str]:
    return {"X-API-Key": credits.api_key}


def in_process(credits: FakeCredits) -> list[int]:
    """Return ada's balance by our own client and by both transports."""
    found = [credits.server_client.get_balance("app-id", "ada").balance]
    with httpx.Client(transport=credits.transport("httpx"), base_url="https://credits.internal") as one:
        found.append(one.get(PATH, headers=_key(credits)).json()["balance"])
    with httpx2.Client(transport=credits.transport("httpx2"), base_url="https://credits.internal") as two:
        found.append(two.get(PATH, headers=_key(credits)).json()["balance"])
    return found


def live(credits: FakeCredits) -> list[int]:
    """Return ada's balance over the socket: by our own client, requests, httpx and httpx2."""
    with ServerClient(credits.base_url, credits.api_key) as own:
        found = [own.get_balance("app-id", "ada").balance]
    found += [over_requests(credits), over_httpx(credits)]
    answer = httpx2.get(credits.base_url + PATH, headers=_key(credits), timeout=5)
    return [*found, answer.json()["balance"]]


def over_requests(credits: FakeCredits) -> int:
    """Return ada's balance over the socket, by requests."""
    balance: int = requests.get(credits.base_url + PATH, headers=_key(credits), timeout=5).json()["balance"]
    return balance


def over_httpx(credits: FakeCredits) -> int:
    """Return ada's balance over the socket, by httpx."""
    balance: int = httpx.get(credits.base_url + PATH, headers=_key(credits), timeout=5).json()["balance"]
    return balance
