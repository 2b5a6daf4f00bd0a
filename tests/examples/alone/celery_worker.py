import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery

from fake_credits import FakeCredits, ServerClient

QUEUE = Path(__file__).parent / "queue"
app = Celery("shop", broker="filesystem://", backend=f"file://{QUEUE}")
app.conf.broker_transport_options = {"data_folder_in": QUEUE, "data_folder_out": QUEUE, "control_folder": QUEUE}


@app.task
def spend(user_id: str) -> None:
    with ServerClient(os.environ["CREDITS_BASE_URL"], os.environ["CREDITS_API_KEY"]) as client:
        client.create_transaction("app-id", user_id, delta=-10, reason="consume")


@pytest.fixture
def worker(fake_credits_env: dict[str, str]) -> Iterator[None]:
    QUEUE.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "celery", "--quiet", "--app", __name__, "worker", "--pool=solo"]
    with subprocess.Popen(command, env=os.environ | fake_credits_env) as process:
        yield
        process.kill()


@pytest.mark.usefixtures("worker")
@pytest.mark.fake_credits(users={"ada": 100})
def test_worker_consumes_credits(fake_credits: FakeCredits) -> None:
    spend.delay("ada").get(timeout=10, interval=0.01)
    assert fake_credits.balance("ada") == 90
