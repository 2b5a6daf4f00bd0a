"""What a finding says."""

from collections.abc import Callable

import pytest

from fake_credits import FakeCredits
from fake_credits.errors import ApiError
from fake_credits.explore.findings import find_findings
from fake_credits.explore.report import render_report
from tests.explore import applications
from tests.explore.applications import KeyedClient, charge
from tests.explore.conftest import Explore

Test = Callable[[FakeCredits], None]


def texts(explore: Explore, test: Test, explored: object = True) -> str:
    return "\n".join(f"{finding.heading}: {finding.text}" for finding in find_findings(explore(test, explored)))


@pytest.mark.parametrize(
    ("test", "sentences"),
    [
        (
            applications.test_naive_retry,
            [
                "Charged twice (1, lost after): the response to call 1 (createTransaction ada -10) was lost after the",
                "sent the same write again (call 2, no Idempotency-Key), and it was committed 2 times: ada has 80 "
                "credits instead of 90. The application could not have known whether its write was committed: "
                '"lost before" looks the same to it, and it reacted to that fault in the same way.',
                'And 2 more with the same verdict: "1:unreadable", "1:silent_after".',
            ],
        ),
        (
            applications.test_blind_refund,
            [
                "Given twice (1, refused): call 1 (createTransaction ada -10) was refused with 503 before it took",
                "Call 2 committed a write that the fault-free run does not make: ada has 110 credits instead of 90.",
            ],
        ),
        (
            applications.test_careless_reconciliation,
            [
                "Failed read mistaken for a failed write (2, lost after + listTransactions ada #2, ",
                "committed 2 times: ada has 80 credits instead of 90.",
            ],
        ),
        (
            applications.test_lost_refund,
            ["A write from the fault-free run is missing, but the test passed anyway. It does fail if every call"],
        ),
        (applications.test_key_misuse, ["a new Idempotency-Key for a retry of the same write"]),
        (applications.test_no_timeout, ["The application has no timeout: getBalance for ada would hang forever"]),
        (applications.test_storm, ["The application made 21 calls and was stopped."]),
        (applications.test_swallower, ["Nothing was written, but the application did not report the failure"]),
        (applications.test_no_retry_at_all, ["stays committed, but the application gave up without reading ada's"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_finding_explains_what_happened(explore: Explore, test: Test, sentences: list[str]) -> None:
    found = texts(explore, test)
    for sentence in sentences:
        assert sentence in found


def test_idempotency_key_that_the_contract_ignores_is_mentioned(explore: Explore) -> None:
    def pay(client: KeyedClient) -> None:
        try:
            client.charge(10, "order-1")
        except Exception:  # noqa: BLE001 - as a careless application does
            client.charge(10, "order-1")

    def test(credits: FakeCredits) -> None:
        pay(KeyedClient(credits))

    found = texts(explore, test, ["lost_after"])
    assert "(call 2, Idempotency-Key order-1)" in found
    assert "The contract ignores Idempotency-Key; if your API honours it, this may be a false alarm." in found


def test_report_contains_no_secrets(explore: Explore) -> None:
    def pay(credits: FakeCredits) -> None:
        try:
            charge(credits.server_client)
        except ApiError:
            raise RuntimeError(f"{credits.api_key} {credits.token('ada')} refused") from None

    keys: list[str] = []

    def test(credits: FakeCredits) -> None:
        keys.append(credits.api_key)
        pay(credits)

    report = " ".join(render_report(explore(test, {"faults": ["refused"], "strict": True})).split())
    assert "RuntimeError: <api key> <token> refused" in report
    assert not any(key in report for key in keys)
    assert "eyJ" not in report


@pytest.mark.parametrize(
    "test",
    [applications.test_naive_retry, applications.test_careless_reconciliation, applications.test_lost_refund],
    ids=lambda test: test.__name__,
)
def test_report_is_the_same_without_the_calls_of_other_runs(explore: Explore, test: Test) -> None:
    """Those calls are not kept, so that memory does not grow with the number of schedules."""
    short, full = explore(test, keeps_exchanges=False), explore(test)
    assert render_report(short) == render_report(full)
    assert sum(len(judged.run.calls) for judged in short.results) < sum(
        len(judged.run.calls) for judged in full.results
    )


def test_finding_marker_is_valid_python_whatever_the_fault_contains(explore: Explore) -> None:
    fault = {"effect": "status", "status": 500, "code": "true_or_false", "phase": "after"}
    (finding,) = find_findings(explore(applications.test_naive_retry, [fault]))
    (rule,) = eval(finding.marker.partition("faults=")[2][:-1])  # noqa: S307 - it is our own
    assert rule.items() >= fault.items()


def test_report_counts_what_was_not_tried(explore: Explore) -> None:
    report = render_report(explore(applications.test_naive_retry, {"budget": 2}))
    assert "fake-credits: 2 schedules: 2 charged twice" in report
    assert "Not tried: 5 (the budget of 2 schedules was reached)" in report


def test_long_tests_have_a_short_matrix(explore: Explore) -> None:
    def read_all(credits: FakeCredits) -> None:
        for number in range(45):
            credits.server_client.create_user("app-id", f"user-{number}")

    def test(credits: FakeCredits) -> None:
        read_all(credits)

    lines = render_report(explore(test, ["refused"])).splitlines()
    assert lines[-1] == "… 5 more calls"
