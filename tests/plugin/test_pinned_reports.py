"""Eight full reports of failing tests; each must show at once whether the application, test or fault is to blame.

In the files, ``<bold>``, ``<red>`` and ``<yellow>`` stand for terminal escape codes.
"""

import re
from pathlib import Path

import pytest

from tests.plugin.conftest import Suite

REPORTS = Path(__file__).parent / "reports"
TAGS = {"\x1b[1m": "<bold>", "\x1b[31m": "<red>", "\x1b[33m": "<yellow>", "\x1b[0m": "</>"}

SUITE = '''
import httpx2
import pytest

from fake_credits.faults import LateWrite, Reset, Status

USERS = "/v1/applications/app-id/users"
pytestmark = pytest.mark.fake_credits(clock="2026-01-01T12:00:00Z", seed=7, users={"ada": 100})


class Shop:
    """An application with its own HTTP client."""

    def __init__(self, credits, prefix=""):
        self._sleep = credits.sleep
        self._http = httpx2.Client(
            transport=credits.transport("httpx2"),
            base_url=f"https://credits.internal{prefix}",
            headers={"X-API-Key": credits.api_key},
        )

    def __repr__(self):
        return "<Shop>"

    def knows(self, user):
        return self._http.get(f"{USERS}/{user}").status_code != 404

    def buy(self, price, user="ada", attempts=1, key=""):
        headers = {"Idempotency-Key": key} if key else {}
        for attempt in range(attempts):
            if attempt:
                self._sleep(1)
            try:
                body = {"delta": -price, "reason": "consume"}
                answer = self._http.post(f"{USERS}/{user}/transactions", json=body, headers=headers)
            except httpx2.TransportError:
                continue
            if answer.status_code < 500:
                return answer.status_code == 201
        return False


@pytest.fixture
def shop(fake_credits):
    return Shop(fake_credits)


def test_double_charge(fake_credits, shop):
    fake_credits.faults.add(Reset(), "createTransaction", phase="after", nth=1)
    assert shop.buy(10, attempts=3, key="order-7")
    assert fake_credits.balance("ada") == 90


def test_set_up_is_left_out(fake_credits, shop):
    for number in range(30):
        fake_credits.server_client.create_user("app-id", f"user-{number}")
    fake_credits.server_client.create_transaction("app-id", "user-0", delta=5, reason="grant")
    assert shop.buy(6, user="user-0")


def test_retries_are_folded(fake_credits, shop):
    fake_credits.faults.add(Status(503), "createTransaction")
    assert shop.buy(10, attempts=5)


def test_nothing_was_sent(fake_credits):
    fake_credits.journal.assert_called("createTransaction", user="ada")


def test_wrong_base_url(fake_credits):
    assert not Shop(fake_credits, "/api").knows("nobody")


def test_fault_never_came(fake_credits, shop):
    fake_credits.faults.add(Reset(), "createTransaction", phase="after")
    fake_credits.hold("createTransaction", name="door", user="ada")
    assert shop.knows("ada")


def test_write_is_still_pending(fake_credits, shop):
    fake_credits.faults.add(LateWrite(after_ms=90_000), "createTransaction", nth=1)
    shop.buy(10)
    assert fake_credits.balance("ada") == 90


def test_overdraft(fake_credits, shop):
    assert shop.knows("ada")
    fake_credits.clock.advance(days=1, minutes=2)
    shop.buy(90)
    assert shop.buy(90), "the shop must offer a smaller basket"
'''

NAMES = re.findall(r"^def test_(\w+)", SUITE, re.MULTILINE)


def reports_by_name(text: str) -> dict[str, str]:
    """Return the reports in pytest's output by test name."""
    failures = text[: text.index(" short test summary info =")].rpartition("\n")[0]
    parts = re.split(r"^_+ test_(\w+) _+\n", failures, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize("markup", ["no", "yes"])
def test_reports_match_pinned_texts(suite: Suite, markup: str) -> None:
    """The section has colours on a terminal, and is plain otherwise."""
    result = suite(SUITE, "--tb=short", f"--color={markup}", "--code-highlight=no", "--junitxml=out.xml")
    result.assert_outcomes(failed=8)
    text = re.sub("^-.*out.xml -\n", "", result.stdout.str(), flags=re.MULTILINE)
    for code, tag in TAGS.items():
        text = text.replace(code, tag)
    if markup == "yes":
        text = re.sub(r"^((?:<bold>|<red>)*)(_+ test_\w+ _+)(</>)*$", r"\2", text, flags=re.MULTILINE)
    reports = reports_by_name(text)
    assert [*reports] == NAMES
    for name, report in reports.items():
        expected = (REPORTS / f"{name}.txt").read_text()
        section = " fake-credits -"
        if markup == "yes":
            report, expected = (each.partition(section)[2] for each in (report, expected))
        else:
            expected = re.sub("|".join(TAGS.values()), "", expected)
        assert report == expected, name
    assert len(reports) == 8
    assert "\x1b" not in Path("out.xml").read_text()
