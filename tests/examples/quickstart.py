"""Grant and consume credits at CREDITS_BASE_URL; run with ``fake-credits run -- python``."""

import os
import sys

from fake_credits import ServerClient

with ServerClient(os.environ["CREDITS_BASE_URL"], os.environ["CREDITS_API_KEY"]) as client:
    client.create_user("app-id", "user-id")
    client.create_transaction("app-id", "user-id", delta=100, reason="grant")
    client.create_transaction("app-id", "user-id", delta=-10, reason="consume")
    sys.stdout.write(f"{client.get_balance('app-id', 'user-id')}\n")
