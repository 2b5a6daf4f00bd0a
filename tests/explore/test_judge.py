"""Verdicts: for each, an application that receives it and one that does not."""

import contextlib
import itertools
import uuid
from collections.abc import Callable, Sequence

import httpx2
import pytest

from fake_credits import FakeCredits
from fake_credits.client.server import ServerClient
from fake_credits.errors import ApiError, InsufficientCredits, RateLimited, TransportFailure, Unavailable
from fake_credits.explore.judge import COLOURS, Colour, Verdict, judge
from fake_credits.explore.options import ExploreOptions
from fake_credits.explore.runs import Run
from fake_credits.explore.schedules import FAULTS, CallKey, Injection
from fake_credits.faults import Status
from tests.explore import applications
from tests.explore.applications import (
    APP,
    FAILED,
    KeyedClient,
    charge,
    deltas,
    give,
    read_before_retry,
)
from tests.explore.conftest import Explore, verdicts

Test = Callable[[FakeCredits], None]


def test_every_verdict_has_a_colour() -> None:
    assert COLOURS.keys() == set(Verdict)


def test_run_with_the_same_result_is_ok(explore: Explore) -> None:
    def test(credits: FakeCredits) -> None:
        read_before_retry(credits.server_client)
        assert credits.balance("ada") == 90

    found = verdicts(explore(test, {"depth": 1}))
    assert {found["2:lost_after"], found["2:unreadable"], found["2:refused"]} == {"ok"}


def test_application_exception_and_test_assertion_are_told_apart(explore: Explore) -> None:
    def pay(api: ServerClient) -> bool:
        try:
            charge(api)
        except Unavailable:
            return False
        return True

    def test(credits: FakeCredits) -> None:
        assert pay(credits.server_client)

    found = verdicts(explore(test))
    assert (found["1:refused"], found["1:lost_before"]) == ("assertion", "raised")


def test_same_requires_the_application_to_hide_a_fault(explore: Explore) -> None:
    assert not explore(applications.test_no_retry_at_all, {"faults": ["refused"]}).red
    assert [
        judged.text
        for judged in explore(applications.test_no_retry_at_all, {"what": "same", "faults": ["refused"]}).red
    ] == ["1:refused"]
    assert explore(applications.test_no_retry_at_all, {"what": "same", "faults": ["lost_after"]}).red


def test_refunded_second_charge_is_not_a_double_charge(explore: Explore) -> None:
    def pay(api: ServerClient) -> None:
        for _ in range(2):
            try:
                charge(api)
                break
            except TransportFailure:
                continue
        if deltas(api).count(-10) == 2:
            give(api, 10, "refund")

    def test(credits: FakeCredits) -> None:
        pay(credits.server_client)
        assert credits.balance("ada") == 90

    assert not explore(test, {"depth": 1}).red


def test_test_that_passes_under_any_fault_passes_without_the_write(explore: Explore) -> None:
    def pay(api: ServerClient) -> None:
        try:
            charge(api)
        except FAILED:
            return

    def test(credits: FakeCredits) -> None:
        pay(credits.server_client)

    found = verdicts(explore(test))
    assert (found["1:refused"], found["1:lost_after"]) == ("passes without the write", "ok")


def test_failure_handled_by_the_test_is_not_a_false_success(explore: Explore) -> None:
    def test(credits: FakeCredits) -> None:
        try:
            read_before_retry(credits.server_client)
        except FAILED:
            return
        assert credits.balance("ada") == 90

    found = verdicts(explore(test, {"depth": 1}))
    assert found["2:down"] == "ok" or found["2:down"] == "raised"
    assert not explore(test, {"depth": 1}).red


def order_or_cancel(api: ServerClient) -> str:
    balance = api.get_balance(APP, "ada").balance
    try:
        charge(api)
    except FAILED:
        missing = balance - api.get_balance(APP, "ada").balance
        if missing:
            give(api, missing, "refund")
        return "cancelled"
    return "ordered"


class Order:
    def __init__(self, api: ServerClient) -> None:
        self.api = api
        self.state = "new"

    def place(self) -> None:
        self.state = order_or_cancel(self.api)


def test_missing_write_is_not_a_false_success_if_the_test_accepts_another_result(explore: Explore) -> None:
    class OrderCancelled(Exception):
        pass

    def order_or_raise(api: ServerClient) -> None:
        if order_or_cancel(api) == "cancelled":
            raise OrderCancelled

    def accepts_result(credits: FakeCredits) -> None:
        assert order_or_cancel(credits.server_client) in ("ordered", "cancelled")

    def accepts_exception(credits: FakeCredits) -> None:
        with contextlib.suppress(OrderCancelled):
            order_or_raise(credits.server_client)

    def accepts_attribute(credits: FakeCredits) -> None:
        order = Order(credits.server_client)
        order.place()
        assert order.state in ("ordered", "cancelled")

    for test in (accepts_result, accepts_exception, accepts_attribute):
        assert verdicts(explore(test, ["refused"])) == {"1:refused": "raised", "2:refused": "ok"}

    def ignores_attribute(credits: FakeCredits) -> None:
        Order(credits.server_client).place()

    assert verdicts(explore(ignores_attribute, ["refused"]))["2:refused"] == "false success"

    def has_unreadable_object(credits: FakeCredits) -> None:
        proxy = OutsideOfContext()
        Order(credits.server_client).place()
        assert proxy

    assert verdicts(explore(has_unreadable_object, ["refused"]))["2:refused"] == "false success"


class OutsideOfContext:
    """A proxy such as Flask's, whose attributes can't be read outside of a request."""

    @property
    def __dict__(self) -> dict[str, object]:  # type: ignore[override]
        raise RuntimeError("working outside of request context")


def cart(api: ServerClient, prices: Sequence[int]) -> None:
    """Charge for each item; if a charge fails, make one refund for everything charged so far."""
    before = api.get_balance(APP, "ada").balance
    try:
        for price in prices:
            charge(api, price)
    except FAILED:
        charged = before - api.get_balance(APP, "ada").balance
        if charged:
            give(api, charged, "refund")
        raise


def test_one_refund_for_several_charges_is_not_given_twice(explore: Explore) -> None:
    def test(credits: FakeCredits) -> None:
        cart(credits.server_client, (10, 20, 30))

    assert verdicts(explore(test, ["refused"]))["4:refused"] == "partial"

    def blind_cart(api: ServerClient) -> None:
        try:
            for price in (10, 20, 30):
                charge(api, price)
        except FAILED:
            give(api, 60, "refund")
            raise

    def blind_test(credits: FakeCredits) -> None:
        blind_cart(credits.server_client)

    assert verdicts(explore(blind_test, ["refused"]))["3:refused"] == "given twice"


def test_partial_compensation_does_not_excuse_a_second_charge(explore: Explore) -> None:
    def charge_with_consolation(api: ServerClient) -> None:
        try:
            charge(api)
        except TransportFailure:
            charge(api)
            give(api, 1)

    def test(credits: FakeCredits) -> None:
        charge_with_consolation(credits.server_client)

    assert verdicts(explore(test, ["lost_after"])) == {"1:lost_after": "charged twice"}


def test_no_write_is_missing_if_balances_match_the_fault_free_run(explore: Explore) -> None:
    def test(credits: FakeCredits) -> None:
        with contextlib.suppress(InsufficientCredits, Unavailable):
            cart(credits.server_client, (10, 20, 100))
        assert credits.balance("ada") == 100

    found = verdicts(explore(test, ["refused"]))
    assert (found["2:refused"], found["3:refused"]) == ("ok", "ok")


def test_nondeterministic_result_does_not_excuse_a_false_success(explore: Explore) -> None:
    numbers = itertools.count()

    def order(api: ServerClient) -> tuple[int, str]:
        order_or_cancel(api)
        return next(numbers), f"ordered at 12:{next(numbers)}"

    def test(credits: FakeCredits) -> None:
        assert len(order(credits.server_client)) == 2

    assert verdicts(explore(test, ["refused"])) == {"1:refused": "raised", "2:refused": "false success"}


def test_lost_write_that_is_read_back_is_settled(explore: Explore) -> None:
    def pay(api: ServerClient) -> None:
        try:
            charge(api)
        except FAILED:
            if -10 in deltas(api):
                raise RuntimeError("charged, but the response was lost") from None
            raise

    def test(credits: FakeCredits) -> None:
        pay(credits.server_client)

    found = verdicts(explore(test, {"depth": 1}))
    assert set(found.values()) == {"raised"}
    assert verdicts(explore(applications.test_no_retry_at_all))["1:lost_after"] == "unsettled"


def test_lost_write_whose_lookup_also_fails_is_unconfirmed(explore: Explore) -> None:
    schedule = "2:lost_after+listTransactions ada #2:refused"
    exploration = explore(applications.test_read_before_retry, {"schedules": schedule, "strict": True})
    assert verdicts(exploration) == {schedule: "unconfirmed"}
    assert not exploration.red


def test_refusal_visible_only_in_the_ledger_is_silent(explore: Explore) -> None:
    def ask_first(api: ServerClient) -> bool:
        try:
            charge(api)
        except FAILED:
            return False
        return True

    def test(credits: FakeCredits) -> None:
        assert ask_first(credits.server_client)
        assert credits.balance("ada") == 90

    assert verdicts(explore(applications.test_swallower))["1:refused"] == "silent refusal"
    assert verdicts(explore(test))["1:refused"] == "assertion"


def test_acknowledged_writes_without_the_rest_are_partial(explore: Explore) -> None:
    exploration = explore(applications.test_partial_transfer)
    assert verdicts(exploration)["2:refused"] == "partial"
    assert {judged.judgement.colour for judged in exploration.results if judged.text == "2:refused"} == {Colour.NOTE}


def test_strict_makes_amber_red(explore: Explore) -> None:
    assert not explore(applications.test_no_retry_at_all).red
    assert {judged.text for judged in explore(applications.test_no_retry_at_all, {"strict": True}).red} == {
        "1:lost_after",
        "1:unreadable",
        "1:silent_after",
    }


def test_resending_a_write_after_a_final_refusal_is_reported(explore: Explore) -> None:
    def pay(api: ServerClient, retried: type[ApiError]) -> None:
        try:
            charge(api)
        except retried:
            charge(api)

    def bad(credits: FakeCredits) -> None:
        pay(credits.server_client, ApiError)

    def good(credits: FakeCredits) -> None:
        pay(credits.server_client, RateLimited)

    assert list(verdicts(explore(bad, [Status(403)])).values()) == ["retried a refusal"]
    assert list(verdicts(explore(good, [Status(403)])).values()) == ["raised"]


def test_retry_before_retry_after_is_reported(explore: Explore) -> None:
    def pay(credits: FakeCredits, wait_s: float) -> None:
        try:
            charge(credits.server_client)
        except RateLimited:
            credits.sleep(wait_s)
            charge(credits.server_client)

    def bad(credits: FakeCredits) -> None:
        pay(credits, 1)

    def good(credits: FakeCredits) -> None:
        pay(credits, 5)

    limited = [Status(429, retry_after_s=5)]
    assert list(verdicts(explore(bad, limited)).values()) == ["Retry-After ignored"]
    assert list(verdicts(explore(good, limited)).values()) == ["ok"]


def test_secret_in_an_exception_message_is_reported(explore: Explore) -> None:
    def pay(credits: FakeCredits) -> None:
        try:
            charge(credits.server_client)
        except ApiError:
            raise RuntimeError(f"key {credits.api_key} was refused") from None

    def test(credits: FakeCredits) -> None:
        pay(credits)

    exploration = explore(test, ["refused"])
    assert list(verdicts(exploration).values()) == ["secret in the exception"]


def test_secret_in_a_test_assertion_message_is_not_reported(explore: Explore) -> None:
    def pay(api: ServerClient) -> bool:
        try:
            charge(api)
        except ApiError:
            return False
        return True

    def test(credits: FakeCredits) -> None:
        assert pay(credits.server_client), credits.api_key

    assert list(verdicts(explore(test, ["refused"])).values()) == ["assertion"]


def test_resending_a_committed_grant_is_reported(explore: Explore) -> None:
    def welcome(api: ServerClient, *, looks: bool) -> None:
        try:
            give(api, 25)
        except TransportFailure:
            if not looks or 25 not in deltas(api):
                give(api, 25)

    def bad(credits: FakeCredits) -> None:
        welcome(credits.server_client, looks=False)

    def good(credits: FakeCredits) -> None:
        welcome(credits.server_client, looks=True)

    assert verdicts(explore(bad, ["lost_after", "lost_before"])) == {
        "1:lost_after": "given twice",
        "1:lost_before": "ok",
    }
    assert verdicts(explore(good, {"faults": ["lost_after", "lost_before"], "depth": 1})) == {
        "1:lost_after": "ok",
        "1:lost_before": "ok",
    }


def test_skipped_run_is_grey() -> None:
    run, reference = Run((Injection(CallKey("getBalance"), FAULTS["refused"]),)), Run(())
    run.outcome.status = "skipped"
    judgement = judge(run, reference, ExploreOptions())
    assert (judgement.verdict, judgement.colour) == (Verdict.SKIPPED, Colour.GREY)


def test_reusing_an_idempotency_key_for_another_write_is_reported(explore: Explore) -> None:
    def pay(client: KeyedClient, keys: list[str]) -> None:
        client.charge(1, keys[0])
        client.charge(2, keys[1])

    def bad(credits: FakeCredits) -> None:
        pay(KeyedClient(credits), ["k", "k"])

    def good(credits: FakeCredits) -> None:
        pay(KeyedClient(credits), ["k1", "k2"])

    assert verdicts(explore(bad, ["down"]))["2:down"] == "key misuse"
    assert not explore(good).red


def test_keys_of_random_users_are_compared_with_those_of_the_fault_free_run(explore: Explore) -> None:
    def sign_up(credits: FakeCredits, user: str) -> None:
        http = httpx2.Client(transport=credits.transport("httpx2"), headers={"X-API-Key": credits.api_key})
        url = f"https://credits.test/v1/applications/{APP}/users/{user}"
        http.put(url).raise_for_status()
        for gift in range(2):
            key = f"{user}-{gift}"
            body = {"delta": 5, "reason": "grant"}
            http.post(f"{url}/transactions", json=body, headers={"Idempotency-Key": key}).raise_for_status()

    def test(credits: FakeCredits) -> None:
        sign_up(credits, str(uuid.uuid4()))

    exploration = explore(test)
    assert [judged.text for judged in exploration.red] == []
    assert len(exploration.results) > 10


def test_broken_invariant_is_reported_as_a_problem(explore: Explore) -> None:
    def test(credits: FakeCredits) -> None:
        credits.always(lambda: credits.balance("ada") >= 85)
        credits.eventually(lambda: credits.balance("ada") <= 100)
        applications.test_naive_retry(credits)

    exploration = explore(test)
    assert "charged twice" in verdicts(exploration)["1:lost_after"]
    assert "invariant" in exploration.red[0].run.problems[0]


def test_only_a_broken_invariant_is_red(explore: Explore) -> None:
    def always_charged(credits: FakeCredits) -> None:
        credits.eventually(lambda: credits.balance("ada") == 90)
        applications.swallow(credits.server_client)

    def charged_or_not(credits: FakeCredits) -> None:
        credits.eventually(lambda: credits.balance("ada") in (90, 100))
        applications.swallow(credits.server_client)

    assert verdicts(explore(always_charged, ["refused"])) == {"1:refused": "invariant broken"}
    assert not explore(charged_or_not, ["refused"]).red


def test_ledger_that_contradicts_itself_is_a_bug_in_the_fake() -> None:
    run = Run((Injection(CallKey("getBalance"), FAULTS["refused"]),), ledger_error="sum is not the balance")
    judgement = judge(run, Run(()), ExploreOptions())
    assert (judgement.verdict, judgement.colour) == (Verdict.LEDGER_BROKEN, Colour.RED)


def test_fault_that_hit_no_call_is_grey(explore: Explore) -> None:
    exploration = explore(
        applications.test_no_retry_at_all, {"schedules": ["1:refused+createTransaction ada -10 #2:refused"]}
    )
    (judged,) = exploration.results
    assert (judged.judgement.verdict.value, judged.judgement.colour) == ("not met", Colour.GREY)


@pytest.mark.parametrize(
    ("explored", "colour"),
    [
        (["stale"], Colour.RED),
        ({"schedules": ["1:stale"]}, Colour.AMBER),
        ({"schedules": ["1:stale"], "strict": True}, Colour.RED),
    ],
)
def test_stale_read_is_red_only_if_requested_or_strict(explore: Explore, explored: object, colour: Colour) -> None:
    def test(credits: FakeCredits) -> None:
        with credits.aside():
            charge(credits.server_client)
        assert read_balance(credits.server_client) == 90

    (judged,) = explore(test, explored).results
    assert (judged.judgement.verdict.value, judged.judgement.colour) == ("assertion", colour)


def read_balance(api: ServerClient) -> int:
    return api.get_balance(APP, "ada").balance


def test_storm_during_an_outage_is_amber(explore: Explore) -> None:
    def read_for_ever(api: ServerClient) -> int:
        while True:
            try:
                return read_balance(api)
            except Unavailable:
                continue

    def test(credits: FakeCredits) -> None:
        assert read_for_ever(credits.server_client) == 100

    exploration = explore(test)
    assert verdicts(exploration)["1:down"] == "storm"
    assert not exploration.red
    assert len(exploration.results[-1].run.application_calls) == 21


def test_good_outbox_has_a_good_verdict_for_every_schedule(explore: Explore) -> None:
    colours = {judged.judgement.colour for judged in explore(applications.test_careful_outbox).results}
    assert colours <= {Colour.GREEN, Colour.NOTE}
