"""Read a sandbox's balance over every kind of connection."""

import httpx
import httpx2
import requests

from fake_credits import FakeCredits, ServerClient

__all__ = ["balance_over_httpx", "balance_over_requests", "balances_in_process", "balances_live"]

PATH = "/v1/applications/app-id/users/ada/balance"


def auth_headers(credits: FakeCredits) -> dict[str, str]:
    return {"X-API-Key": credits.api_key}


def balances_in_process(credits: FakeCredits) -> list[int]:
    """Return ada's balance from the server client and from both transports."""
    balances = [credits.server_client.get_balance("app-id", "ada").balance]
    with httpx.Client(transport=credits.transport("httpx"), base_url="https://credits.internal") as client:
        balances.append(client.get(PATH, headers=auth_headers(credits)).json()["balance"])
    with httpx2.Client(transport=credits.transport("httpx2"), base_url="https://credits.internal") as client2:
        balances.append(client2.get(PATH, headers=auth_headers(credits)).json()["balance"])
    return balances


def balances_live(credits: FakeCredits) -> list[int]:
    """Return ada's balance as read over the socket by the server client, requests, httpx and httpx2."""
    with ServerClient(credits.base_url, credits.api_key) as client:
        balances = [client.get_balance("app-id", "ada").balance]
    balances += [balance_over_requests(credits), balance_over_httpx(credits)]
    response = httpx2.get(credits.base_url + PATH, headers=auth_headers(credits), timeout=5)
    return [*balances, response.json()["balance"]]


def balance_over_requests(credits: FakeCredits) -> int:
    """Return ada's balance as read over the socket by requests."""
    balance: int = requests.get(credits.base_url + PATH, headers=auth_headers(credits), timeout=5).json()["balance"]
    return balance


def balance_over_httpx(credits: FakeCredits) -> int:
    """Return ada's balance as read over the socket by httpx."""
    balance: int = httpx.get(credits.base_url + PATH, headers=auth_headers(credits), timeout=5).json()["balance"]
    return balance
