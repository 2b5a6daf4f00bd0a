from pathlib import Path
from typing import Any

import pytest


def pytest_fake_credits_explored(item: pytest.Item, exploration: Any) -> None:
    with Path("explored.csv").open("a") as file:
        print(item.name, len(exploration.results), len(exploration.red), sep=",", file=file)
