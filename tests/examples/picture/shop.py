"""The application behind the picture in README.md. It charges twice if the response to a write is lost."""

import requests


def buy_course(api_key: str, user: str) -> None:
    """Charge 10 credits, and try again if the connection is lost."""
    url = f"https://credits.internal/v1/applications/app-id/users/{user}/transactions"
    for _ in range(3):
        try:
            body = {"delta": -10, "reason": "consume"}
            requests.post(url, json=body, headers={"X-API-Key": api_key}, timeout=30).raise_for_status()
            return
        except requests.ConnectionError:
            continue
